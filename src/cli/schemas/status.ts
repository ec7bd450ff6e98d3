/**
 * The document of `possync status`. A field added to the views in protocol/status.ts does not compile here until it is
 * described.
 */
import * as z from 'zod';
import type { HqStatusView, StoreStatusView } from '../../protocol/status.ts';
import {
  connection,
  count,
  counts,
  document,
  kid,
  reason,
  storeCode,
  text,
  time,
  today,
  types,
} from './parts.ts';

const NAME = 'possync.status/1';
const word = z.enum(['pending_provisioning', 'active', 'offline', 'deactivated']);
const database = z.object({ state: z.enum(['ok', 'failing']), reason: reason.nullable() });
const tls = z.object({ not_after: time.nullable(), warning: reason.nullable() }).nullable();
/** Only with --wait. */
const wait = z.object({ for: z.enum(['green', 'drained', 'caught-up']), reached: z.boolean() }).optional();

const store = {
  role: z.literal('store'),
  source: z.enum(['daemon', 'database']),
  store: z.object({ id: z.int(), code: storeCode, name: text, status: word }).nullable(),
  connection,
  upstream: z.object({
    state: z.enum(['idle', 'backlog', 'halted', 'stalled']),
    queued: count,
    queued_high: count,
    parked: count,
    bytes: count,
    oldest_at: time.nullable(),
    last_sent_at: time.nullable(),
    next_push_at: time.nullable(),
    halted: reason.nullable(),
    last_error: text.nullable(),
    by_type: counts,
  }),
  downstream: z.object({
    state: z.enum(['up_to_date', 'behind', 'unknown', 'waiting', 'failing']),
    cursor: count,
    hq_cursor: count.nullable(),
    last_applied_at: time.nullable(),
    error: reason.nullable(),
    error_since: time.nullable(),
  }),
  database,
  last_sync_at: time.nullable(),
  token: z
    .object({
      kid,
      expires_at: time.nullable(),
      source: text,
      rotation: z.literal('unfinished').nullable(),
      warning: reason.nullable(),
    })
    .nullable(),
  tls,
  clock: z.object({
    skew_ms: z.number().nullable(),
    error_ms: z.number().nullable(),
    warning: reason.nullable(),
  }),
  daemon: z.object({
    running: z.boolean(),
    pid: count.nullable(),
    version: text.nullable(),
    started_at: time.nullable(),
    written_at: time.nullable(),
    loop_p99_ms: z.number().nullable(),
  }),
  hq: z.object({ url: text.nullable(), version: text.nullable(), unencrypted: z.boolean().nullable() }),
  today,
  types,
};

const hqStore = z.object({
  id: z.int(),
  code: storeCode,
  name: text,
  status: word,
  stalled: z.boolean(),
  connection,
  upstream: z.object({
    queued: count.nullable(),
    parked: count,
    oldest_at: time.nullable(),
    as_of: time.nullable(),
    halted: text.nullable(),
  }),
  downstream: z.object({ cursor: count.nullable(), pending: count }),
  last_sync_at: time.nullable(),
  last_sale_at: time.nullable(),
  errors: count,
  findings: count,
  software: text.nullable(),
  token: z.object({ kid, expires_at: time.nullable(), warning: reason.nullable() }).nullable(),
  rotation: z
    .object({
      ordered_at: time,
      ordered_by: text,
      failure: z.object({ code: text, message: text }).nullable(),
    })
    .nullable(),
  today,
  types,
});

const hq = {
  role: z.literal('hq'),
  head: count,
  database,
  summary: z.object({
    stores: count,
    connected: count,
    disconnected: count,
    stalled: count,
    parked: count,
    findings: count,
  }),
  tls,
  alerts: z.array(z.object({ ...reason.shape, store: storeCode.nullable(), at: time.nullable() })),
  stores: z.array(hqStore),
};

/** As the views have it: nobody writes into them. */
type Read<T> = T extends (infer E)[]
  ? readonly Read<E>[]
  : T extends object
    ? { readonly [K in keyof T]: Read<T[K]> }
    : T;
/** Does not compile unless the schema takes every value of the view. */
type Takes<View extends Read<z.output<Schema>>, Schema extends z.ZodType> = [View, Schema];

// The compiler's part of the check, both ways: each has the fields of the other, and takes its values.
export const storeView = z.object(store) satisfies z.ZodType<StoreStatusView>;
const hqView = z.object(hq) satisfies z.ZodType<HqStatusView>;
export type Checked = [Takes<StoreStatusView, typeof storeView>, Takes<HqStatusView, typeof hqView>];

export const status = z.discriminatedUnion('role', [
  document(NAME, { ...storeView.shape, wait }),
  document(NAME, { ...hqView.shape, wait }),
]);
