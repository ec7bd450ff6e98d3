/** Routes, headers and size limits of the HTTP half of the protocol. */

export const DEFAULT_PORT = 3001;

export const ROUTES = {
  socket: '/api/v1/sync/ws',
  hello: '/api/v1/sync/hello',
  pull: '/api/v1/sync/pull',
  push: '/api/v1/sync/push',
  enrol: '/api/v1/sync/enrol',
  /** The next epoch, for a store whose history and HQ's have parted; answered by reEnrolAnswerSchema. */
  reEnrol: '/api/v1/sync/re-enrol',
  /**
   * POST: a new credential beside the one in force, by its hash (rotationSchema). POST …/{id}/confirm and …/{id}/finish with
   * the new one: it is in force, and the old one ends now. Each answers rotationAnswerSchema, the same again when repeated.
   */
  rotations: '/api/v1/tokens/rotations',
  /** POST …/begin, …/digests, …/rows, …/repair, …/report: `possync verify` (verify.ts). */
  verify: '/api/v1/sync/verify',
  /** Who am I, says HQ: store, credential and live connections. Needs a token. */
  whoami: '/api/v1/whoami',
  /** No token: time, version and the headers HQ received. */
  diagPing: '/api/v1/diag/ping',
  /** Token: takes a body and says how long it was; gives a body of ?bytes=, in ?chunks= pieces 200 ms apart. */
  diagSink: '/api/v1/diag/sink',
  diagSource: '/api/v1/diag/source',
  live: '/livez',
  ready: '/readyz',
  ping: '/ping',
} as const;

/** On every answer of HQ; its absence proves that something else answered. */
export const HQ_HEADER = 'x-possync-hq';

/** A push body before compression holds at most this, except for a single larger transaction, which goes alone. */
export const PUSH_MAX_BYTES = 1_000_000;
export const PUSH_MAX_TRANSACTIONS = 1_000;
/** What HQ takes at most, uncompressed: one huge store transaction, not an attack. */
export const PUSH_LIMIT_BYTES = 256 * 1024 * 1024;
/** Bodies of every other request. */
export const REQUEST_LIMIT_BYTES = 64 * 1024;
/** JSON of requests and frames: how deep, and how many commas, braces and brackets outside of strings (a push: more). */
export const JSON_MAX_DEPTH = 10;
export const JSON_MAX_TOKENS = 2_000;
/** Records in a page of a pull. */
export const PULL_PAGE_ROWS = 5_000;
export const PULL_MAX_ROWS = 10_000;
/** A page as a store takes it at most, uncompressed. */
export const PULL_LIMIT_BYTES = 512 * 1024 * 1024;
/** Longest life and longest grace of a rotated credential: ten years. */
export const ROTATION_MAX_MS = 10 * 366 * 86_400_000;
/** How long a credential lives, unless HQ is set otherwise: its store renews it after two thirds of that. */
export const CREDENTIAL_LIFE_MS = 365 * 86_400_000;
/** How long the old credential is taken beside the new one, unless somebody says otherwise. */
export const ROTATION_GRACE_MS = 24 * 3_600_000;
/** A WebSocket frame; all our frames are small. */
export const FRAME_LIMIT_BYTES = 64 * 1024;

/** Below this a body is sent as it is: compressing costs more than it saves. */
export const COMPRESS_FROM_BYTES = 1_024;

/** Subprotocol on the socket path that needs no token and echoes each frame: what `diagnose` tests a path with. */
export const DIAG_SUBPROTOCOL = 'possync.diag.1';
/** What sink and source take and give at most. */
export const DIAG_LIMIT_BYTES = 1024 * 1024;
/** HQ ends an echo socket after this, however busy it is. */
export const DIAG_SOCKET_MS = 120_000;

/** Heartbeat in both directions; two missed ones mean the link is down. */
export const HEARTBEAT_MS = 5_000;
export const SILENCE_MS = 2 * HEARTBEAT_MS;

/** WebSocket closing codes (cli.md d.9). */
export const CLOSE = {
  bye: 1000,
  goingAway: 1001,
  restarting: 1012,
  /** Not now: HQ is not ready, or another machine of this store is alive. The refuse frame before it says which. */
  tryLater: 1013,
  badFrame: 4400,
  tokenRefused: 4401,
  forbidden: 4403,
  version: 4406,
  silent: 4408,
  replaced: 4409,
  slowDown: 4429,
} as const;

/** Reason of a `bye` after which the same daemon comes back at once: a new credential, or a person who asked for it. */
export const RENEW_REASON = 'renew';
