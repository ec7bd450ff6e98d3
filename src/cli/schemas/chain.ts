/** Documents of setting up, and of the chain as a whole: stores, ledger, comparison, demo. */
import * as z from 'zod';
import { storeReportSchema, type ListedRepair } from '../../protocol/verify.ts';
import type { FindingBody, LedgerStoreView, ReportBody } from '../render/ledger.ts';
import { code, connection, count, document, kid, storeCode, text, time } from './parts.ts';
import { listedToken } from './token.ts';

const migrations = z.array(text);

export const init = z.discriminatedUnion('role', [
  document('possync.init/1', { role: z.literal('hq'), migrations }),
  document('possync.init/1', {
    role: z.literal('store'),
    migrations,
    enrolment: z.enum(['none', 'unchanged', 'enrolled']),
    store: z.object({ id: z.int(), code: storeCode, name: text }).nullable(),
    kid: kid.nullable(),
    hq_url: text.nullable(),
    continued: count,
  }),
]);

export const check = document('possync.check/1', {
  faults: z.array(z.object({ code, message: text, why: text.nullable(), hint: text })),
});

export const reproject = document('possync.reproject/1', { type: text, moved: count });

export const stores = document('possync.stores/1', {
  stores: z.array(
    z.object({
      id: z.int(),
      code: storeCode,
      name: text,
      address: text.nullable(),
      phone: text.nullable(),
      time_zone: text,
      status: z.enum(['pending_provisioning', 'active', 'offline', 'deactivated']),
      activated_at: time.nullable(),
      /** Only of `stores show`. */
      link: connection.nullable().optional(),
      tokens: z.array(listedToken).optional(),
    }),
  ),
  /** Only of `stores activate` and `stores deactivate`. */
  changed: z.boolean().optional(),
});

export const reEnrol = z.discriminatedUnion('dry_run', [
  document('possync.re-enrol/1', {
    dry_run: z.literal(true),
    epoch: count,
    unacknowledged: count,
    kept: count,
    oldest_kept_at: time.nullable(),
  }),
  document('possync.re-enrol/1', {
    dry_run: z.literal(false),
    epoch: count,
    renumbered: count,
    reexported: count,
    /** false: HQ was restored, and everything that the store keeps is sent again. */
    hq_known: z.boolean(),
  }),
]);

export const repairs = document('possync.repairs/1', {
  repairs: z.array(
    z.object({
      store: storeCode,
      at: time,
      run: z.uuid(),
      actor: text,
      direction: z.enum(['down', 'up']),
      type: text,
      key: text,
      result: z.enum(['sent', 'open', 'done', 'removed', 'unchanged', 'failed']),
      done_at: time.nullable(),
      replaced_rows: count.nullable(),
    }) satisfies z.ZodType<ListedRepair>,
  ),
  /** There are older ones: --limit. */
  more: z.boolean(),
});

export const verify = document('possync.verify/1', { stores: z.array(storeReportSchema) });

const states = z.object({ pending: count, complete: count, contradicted: count });

export const ledger = document('possync.ledger/1', {
  /** false: something that has arrived is not judged yet. */
  current: z.boolean(),
  stores: z.array(
    z.object({
      code: storeCode,
      id: z.int(),
      z: states,
      zz: states,
      findings: count,
      notes: count,
    }) satisfies z.ZodType<LedgerStoreView>,
  ),
  reports: z.array(
    z.object({
      store: storeCode,
      kind: z.enum(['z', 'zz']),
      register: text.nullable(),
      number: count,
      period: text,
      state: z.enum(['pending', 'complete', 'contradicted']),
      why: text.nullable(),
      since: time,
    }) satisfies z.ZodType<ReportBody>,
  ),
  findings: z.array(
    z.object({
      store: storeCode,
      kind: text,
      code,
      note: z.boolean(),
      register: text.nullable(),
      number: text.nullable(),
      expected: text.nullable(),
      found: text.nullable(),
      detail: text,
      since: time,
      closed: time.nullable(),
    }) satisfies z.ZodType<FindingBody>,
  ),
});

export const demo = document('possync.demo/1', {
  stores: count,
  sales_made: count,
  sales_at_hq: count,
  differences: count,
  rows_compared: count,
  seconds: z.number().nonnegative(),
});
