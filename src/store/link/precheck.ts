/**
 * What stands between this store and HQ, found by the daemon itself while nobody is there to run `possync diagnose`.
 *
 *   an attempt fails ─▶ still red up to 10 s later ─▶ quick diagnosis ─▶ `reason` of status, one line in the log
 *                       └ then at most once an hour while it stays red; green, or another failure: forgotten
 *
 * It runs beside the link and holds nothing up. What is shown is the cause that was found only as long as attempts go on
 * failing in the same way, so that nobody sends for the network team because of what was true an hour ago.
 */
import type { Clock } from '../../core/clock.ts';
import type { ErrorCode } from '../../core/errors.ts';
import type { Log, LogFields } from '../../core/log.ts';
import type { Service } from '../../core/service.ts';
import type { LinkSnapshot } from './link-snapshot.ts';
import type { StateName } from './state.ts';

/** What the diagnosis found; undefined: nothing that fails. */
export interface Found {
  readonly code: ErrorCode;
  readonly cause: string;
  readonly action: string;
}

/** Ends soon after `signal` is aborted. */
export type Precheck = (signal: AbortSignal) => Promise<Found | undefined>;

export interface PrecheckOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** undefined: nobody looks. */
  readonly look: Precheck | undefined;
  /** The link as it is now. */
  readonly snapshot: () => LinkSnapshot;
  /** What is shown of the link has changed. */
  readonly found: () => void;
  readonly random?: () => number;
}

/** A fleet that was cut off together must not look at HQ in the same moment, nor at all where the next attempt succeeds. */
const SPREAD_MS = 10_000;
const AGAIN_MS = 3_600_000;
/** Outages that follow one another: a line that flaps is looked at now and then, not at each of its breaks. */
const NEXT_OUTAGE_MS = 300_000;
/** The diagnosis has a limit of its own; this one holds if it does not. */
const LIMIT_MS = 15_000;
/** Failures on the way. What HQ itself answers (a revoked credential, a busy server) needs no search. */
const ON_THE_WAY = /^PS-(DNS|TCP|PROXY|TLS|HTTP|WS)-|^PS-HQ-UNREACHABLE$/;

interface Cause extends Found {
  readonly atMs: number;
  /** The failure that it explains. */
  readonly of: ErrorCode;
  readonly hqUrl: string | null;
}

export class Prechecks implements Service {
  readonly name = 'prechecks';
  readonly #options: PrecheckOptions;
  #before: StateName = 'idle';
  #cause: Cause | undefined;
  /** When the last one began, and whether the link was green since. */
  #lastMs = -Infinity;
  #newOutage = true;
  #looking: Promise<void> | undefined;
  #stopping = new AbortController();

  constructor(options: PrecheckOptions) {
    this.#options = options;
  }

  start(): void {
    this.#stopping = new AbortController();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#looking;
  }

  /** The link as status shows it: with the cause in place of the symptom, where it is known. */
  explained(): LinkSnapshot {
    const link = this.#options.snapshot();
    const cause = this.#cause;
    if (cause === undefined || !explains(cause, link)) return link;
    return { ...link, reason: { code: cause.code, message: cause.cause }, diagnosedMs: cause.atMs };
  }

  linkChanged(): void {
    const link = this.#options.snapshot();
    const before = this.#before;
    this.#before = link.state;
    if (link.indicator === 'green') {
      this.#newOutage = true;
      this.#cause = undefined;
      return;
    }
    const failed = link.state === 'waiting' && (before === 'connecting' || before === 'greeting');
    const { look, clock } = this.#options;
    if (!failed || look === undefined || this.#looking !== undefined || !isOnTheWay(link)) return;
    const pauseMs = this.#newOutage ? NEXT_OUTAGE_MS : AGAIN_MS;
    if (clock.now() - this.#lastMs < pauseMs) return;
    this.#looking = this.#look(look).finally(() => {
      this.#looking = undefined;
    });
  }

  async #look(look: Precheck): Promise<void> {
    const { clock, log, snapshot, found, random = Math.random } = this.#options;
    const stopping = this.#stopping.signal;
    const isStopping = (): boolean => stopping.aborted;
    await clock.sleep(Math.floor(SPREAD_MS * random()), stopping);
    const { reason, hqUrl } = snapshot();
    if (isStopping() || reason === null || !isOnTheWay(snapshot())) return;
    const beganMs = clock.now();
    this.#lastMs = beganMs;
    this.#newOutage = false;
    const answer = await this.#within(look).catch((error: unknown) => {
      log.debug('the diagnosis failed', { err: error });
      return 'failed' as const;
    });
    if (answer === 'failed' || isStopping() || snapshot().indicator === 'green') return;
    const fields: LogFields = {
      event: 'link.diagnosed',
      dur_ms: clock.now() - beganMs,
      failure: reason.code,
    };
    if (answer === undefined) {
      log.info('diagnosed: nothing on the way to HQ fails by itself', fields);
      return;
    }
    this.#cause = { ...answer, atMs: clock.now(), of: reason.code, hqUrl };
    log.warn(`diagnosed: ${answer.cause}`, { ...fields, code: answer.code, fix: answer.action });
    found();
  }

  /** Ends with the daemon and within its limit, whatever the diagnosis does. */
  async #within(look: Precheck): Promise<Found | undefined> {
    const limit = new AbortController();
    const cancel = this.#options.clock.after(LIMIT_MS, () => {
      limit.abort();
    });
    const signal = AbortSignal.any([this.#stopping.signal, limit.signal]);
    const ended = new Promise<never>((_resolve, reject) => {
      signal.addEventListener(
        'abort',
        () => {
          reject(new Error('it did not end in time'));
        },
        { once: true },
      );
    });
    try {
      return await Promise.race([look(signal), ended]);
    } finally {
      cancel();
    }
  }
}

function isOnTheWay({ indicator, reason }: LinkSnapshot): boolean {
  return indicator === 'red' && reason !== null && ON_THE_WAY.test(reason.code);
}

function explains(cause: Cause, { indicator, reason, hqUrl }: LinkSnapshot): boolean {
  return indicator === 'red' && reason?.code === cause.of && hqUrl === cause.hqUrl;
}
