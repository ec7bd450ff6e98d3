/** What a store tells HQ of its figures over the link: its queue and how far its mirror is. */
import type { StatFrame } from '../protocol/messages.ts';
import type { Mirror } from './mirror/mirror.ts';
import type { Outbox } from './outbox/outbox.ts';

export async function statFrame(outbox: Outbox, mirror: Mirror, id: string | null): Promise<StatFrame> {
  const [counts, state] = await Promise.all([outbox.counts(), mirror.state()]);
  const { queued, queuedHigh, bytes, oldestAt, halted, ackedSeq } = counts;
  return {
    type: 'stat',
    id,
    out: { queued, queuedHigh, bytes, oldestAt, halted, acked: ackedSeq },
    in: {
      pos: state.pos,
      appliedAt: state.appliedAt,
      error: state.error?.message.slice(0, 2_000) ?? null,
    },
  };
}
