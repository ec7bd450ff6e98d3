/** What a daemon tells others of its figures: HQ over the link, and whoever supervises it. */
import type { StatFrame } from '../protocol/messages.ts';
import type { Mirror } from './mirror/mirror.ts';
import type { Outbox } from './outbox/outbox.ts';

export async function statFrame(outbox: Outbox, mirror: Mirror, id: string | null): Promise<StatFrame> {
  const [counts, state] = await Promise.all([outbox.counts(), mirror.state()]);
  const { queued, queuedHigh, bytes, oldestAt, halted, ackedSeq, parked } = counts;
  return {
    type: 'stat',
    id,
    out: { queued, queuedHigh, bytes, oldestAt, halted, acked: ackedSeq, parked },
    in: {
      pos: state.pos,
      appliedAt: state.appliedAt,
      error: state.error?.message.slice(0, 2_000) ?? null,
    },
  };
}

/** One line for the supervisor; the question to the database behind it is the proof that the daemon works. */
export async function pulseText(outbox: Outbox, indicator: 'green' | 'red'): Promise<string> {
  const { queued } = await outbox.counts();
  return `${indicator === 'green' ? 'connected' : 'disconnected'}, ${queued} queued`;
}
