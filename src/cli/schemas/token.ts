/** Documents of tokens and credentials; the only secret in any document is the token that `token issue` makes. */
import * as z from 'zod';
import { code, count, document, kid, storeCode, text, time } from './parts.ts';

const issuedFor = { code: storeCode, store_id: z.int(), hq_url: text, replaced: kid.nullable() };

export const token = z.union([
  document('possync.token/1', { token: text, kid, ...issuedFor, expires_at: time }),
  document('possync.token/1', { file: text, kid, ...issuedFor, expires_at: time }),
  document('possync.token/1', { dry_run: z.literal(true), ...issuedFor }),
]);

const state = z.enum(['pending', 'active', 'retiring', 'revoked', 'expired', 'spent']);

/** At HQ with how it ended, in a store with the address of HQ. */
export const listedToken = z.object({
  kid,
  code: storeCode,
  kind: z.enum(['enrolment', 'credential']),
  state,
  created_at: time.nullable(),
  last_used_at: time.nullable(),
  expires_at: time.nullable(),
  ended_at: time.nullable().optional(),
  ended_why: text.nullable().optional(),
  hq_url: text.optional(),
});
export const tokens = document('possync.tokens/1', { tokens: z.array(listedToken) });

export const tokenStatus = document('possync.token-status/1', {
  kid,
  store_id: z.int(),
  code: storeCode,
  state: state.nullable(),
  created_at: time.nullable(),
  expires_at: time.nullable(),
  expires_in_ms: z.int().nullable(),
  expires_soon: z.boolean(),
  rotation_unfinished: z.boolean(),
  previous: z.object({ kid, until: time.nullable() }).nullable(),
});

export const tokenStatusStores = document('possync.token-status-stores/1', {
  summary: z.object({ stores: count, attention: count }),
  stores: z.array(
    z.object({
      store_id: z.int(),
      code: storeCode,
      kid: kid.nullable(),
      expires_at: time.nullable(),
      expires_in_ms: z.int().nullable(),
      expires_soon: z.boolean(),
      rotation_ordered: z.boolean(),
    }),
  ),
});

const before = z.object({ kid, valid_until: time.nullable() });
const after = z.object({ kid, expires_at: time.nullable() });
/** Milliseconds without a connection; null: there was none, or it was made anew. */
const offline = count.nullable();

export const tokenRotate = document('possync.token-rotate/1', {
  result: z.enum(['rotated', 'resumed', 'not_needed', 'dry_run']),
  rotation_id: z.uuid().nullable(),
  store_id: z.int(),
  code: storeCode,
  old: before,
  new: after.nullable(),
  offline_ms: offline,
  steps: z.array(
    z.object({
      name: z.enum([
        'pre-flight',
        'created',
        'registered',
        'tested',
        'switched',
        'confirmed',
        'live',
        'finished',
      ]),
      status: z.literal('done'),
      ms: count,
    }),
  ),
});

const RESULTS = ['rotated', 'not_needed', 'pending', 'failed', 'not_begun', 'dry_run'] as const;

export const tokenRotateStores = document('possync.token-rotate-stores/1', {
  summary: z.object({
    rotated: count,
    not_needed: count,
    pending: count,
    failed: count,
    not_begun: count,
    dry_run: count,
  }),
  took_ms: count,
  stores: z.array(
    z.object({
      store_id: z.int(),
      code: storeCode,
      result: z.enum(RESULTS),
      order_id: z.uuid().nullable(),
      old: before.extend({ kid: kid.nullable() }),
      new: after.nullable(),
      offline_ms: offline,
      connected: z.boolean(),
      error: z.object({ code, message: text }).nullable(),
      note: text.nullable(),
    }),
  ),
});

export const tokenRevoke = document('possync.token-revoke/1', {
  dry_run: z.boolean(),
  revoked: z.array(z.object({ code: storeCode, kids: z.array(kid) })),
});

export const tokenWithdraw = document('possync.token-withdraw/1', {
  dry_run: z.boolean(),
  withdrawn: z.array(z.object({ code: storeCode, order_id: z.uuid(), kid, ordered_by: text })),
});
