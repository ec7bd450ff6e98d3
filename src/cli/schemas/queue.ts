/** Documents of the queue, on both sides. */
import * as z from 'zod';
import { code, count, counts, document, storeCode, text, time } from './parts.ts';

const NAME = 'possync.queue/1';
const priority = z.enum(['high', 'normal']);

const storeCounts = z.object({
  queued: count,
  waiting: count,
  sending: count,
  parked: count,
  queued_high: count,
  bytes: count,
  oldest_at: time.nullable(),
  last_sent_at: time.nullable(),
  halted: text.nullable(),
  by_type: counts,
});

/** One store transaction; `epoch` and `seq` are null while it is not sealed. */
export const queueLine = z.object({
  epoch: count.nullable(),
  seq: count.nullable(),
  type: text,
  key: text,
  records: count,
  bytes: count,
  priority,
  captured_at: time,
  tries: count,
  state: z.enum(['waiting', 'sending', 'parked']),
  next_try_at: time.nullable(),
  after: count.nullable(),
  last_error: text.nullable(),
});

const deadEntry = z.object({
  store: storeCode.nullable(),
  epoch: count,
  seq: count,
  type: text,
  key: text,
  kind: z.enum(['data', 'missing_parent', 'parked']),
  sqlstate: text.nullable(),
  error: text,
  behind: count.nullable(),
  bytes: count,
  tries: count,
  state: z.literal('parked'),
  first_at: time,
  last_at: time,
  next_try_at: time.nullable(),
});

const reported = z.object({
  store: storeCode,
  queued: count.nullable(),
  parked: count,
  oldest_at: time.nullable(),
  as_of: time.nullable(),
  halted: text.nullable(),
});

/** A listing that fails half way has what was read, and why it ended; with --counts it has no entries. */
const fault = z.object({ code, message: text, hint: text }).optional();

export const queue = z.union([
  document(NAME, { counts: storeCounts, entries: z.array(queueLine).optional(), error: fault }),
  document(NAME, {
    counts: z.object({ parked: count }),
    stores: z.array(reported).optional(),
    entries: z.array(deadEntry),
  }),
]);

const shown = z.object({
  epoch: count,
  seq: count,
  type: text,
  key: text,
  records: count,
  rows: count,
  bytes: count,
  priority,
  by_type: counts,
  chain: text,
  captured_at: time,
  sealed_at: time,
  acked_at: time.nullable(),
  state: z.enum(['waiting', 'sending', 'parked', 'acknowledged']),
});

/** Only with --payload; the text as it was sent, because its amounts may be larger than a JSON reader holds exactly. */
const payload = { payload: text.optional() };

export const queueEntry = document('possync.queue-entry/1', {
  entry: z.union([shown.extend(payload), deadEntry.extend(payload)]),
});

const seqs = z.array(count);
export const queueRetry = document('possync.queue-retry/1', {
  store: storeCode,
  applied: seqs,
  refused: seqs,
});
export const queueDrop = document('possync.queue-drop/1', {
  store: storeCode,
  dropped: count,
  applied: seqs,
  refused: seqs,
});
