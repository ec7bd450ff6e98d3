/** What HQ says to `possync diagnose`: answers that prove who answered, what time it is there and what arrived. */
import * as z from 'zod';

/** GET /api/v1/diag/ping: no token needed, so that it works before a store is installed. */
export const diagPingSchema = z.object({
  service: z.literal('possync-hq'),
  hq: z.object({ id: z.uuid(), software: z.string().max(200), now: z.string().max(40) }),
  protocol: z.object({ version: z.int().positive(), oldest: z.int().positive() }),
  /** Where the request came from, as HQ saw it. */
  client: z.object({ address: z.string().max(100) }),
  /** Names and values of the headers that arrived, without authorization. */
  headers: z.record(z.string(), z.string().max(4_000)),
});

/** GET /api/v1/whoami. */
export const whoamiSchema = z.object({
  store: z.object({ id: z.int().positive(), code: z.string().max(200), name: z.string().max(1_000) }),
  kid: z.string().max(20),
  /** pending = a rotation's, not yet confirmed; retiring = replaced, in its last hours. */
  state: z.string().max(20).nullish(),
  hq: z.object({ id: z.uuid(), software: z.string().max(200), now: z.string().max(40) }),
  /** Live connections of this store. */
  connections: z.int().nonnegative(),
  /** How HQ, on any of its servers, sees the link of this store, and since when; servers of earlier versions do not say. */
  light: z.object({ indicator: z.enum(['green', 'red']), since: z.string().max(40).nullable() }).nullish(),
  /** When the credential ends and began. */
  expires_at: z.string().max(40).nullish(),
  created_at: z.string().max(40).nullish(),
});

/** 426 on the socket path: the request came without its upgrade; that alone proves what a proxy took away. */
export const noUpgradeSchema = z.object({
  error: z.object({ code: z.literal('PS-WS-NO-UPGRADE'), message: z.string().max(2_000) }),
  saw: z.object({
    upgrade: z.boolean(),
    connection: z.string().max(200).nullable(),
    via: z.string().max(1_000).nullable(),
  }),
});

/** GET /readyz: `checks` names what is missing with a 503. */
export const readySchema = z.object({
  status: z.enum(['pass', 'warn', 'fail']),
  checks: z.record(z.string(), z.unknown()).optional(),
});

export type DiagPing = z.infer<typeof diagPingSchema>;
export type Whoami = z.infer<typeof whoamiSchema>;
