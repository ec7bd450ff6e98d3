/** What the link is given by the daemon, and what it calls back. */
import type { Clock } from '../../core/clock.ts';
import type { Log } from '../../core/log.ts';
import type {
  Hello,
  ParkedFrame,
  Refuse,
  RotationOrder,
  StatFrame,
  VerifyFrame,
  Welcome,
} from '../../protocol/messages.ts';
import type { LinkSnapshot } from './link-snapshot.ts';

export interface LinkOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly random?: () => number;
  /** What this store says of itself now. */
  readonly hello: () => Promise<Hello>;
  /** HQ welcomed a hello; resolves when the outbox has taken it in. */
  readonly welcomed: (welcome: Welcome) => Promise<void>;
  readonly refused: (refuse: Refuse) => Promise<void>;
  /** A session is in force: pull and push now. */
  readonly flow: () => void;
  /** HQ's head moved: there is something to pull. */
  readonly hint: (pos: number) => void;
  readonly stat: (id: string | null) => Promise<StatFrame>;
  /** HQ orders a rotation of the credential; one of before comes with the welcome. */
  readonly ordered: (order: RotationOrder) => void;
  /** HQ asks the store to compare itself. */
  readonly verify: (frame: VerifyFrame) => void;
  /** HQ says which entries are parked there; resolves when the outbox has taken it in. */
  readonly parked: (frame: ParkedFrame) => Promise<void>;
  /** HQ answered a heartbeat. */
  readonly answered?: (rttMs: number) => void;
  /** The state changed; for the store's database. */
  readonly changed: (snapshot: LinkSnapshot) => void;
}

export interface Session {
  readonly fence: string;
  readonly epoch: number;
}
