/**
 * Every message that store and HQ exchange, as a schema: nothing from outside is used before it is parsed and bounded.
 * Rows and bodies are not parsed here; they go to PostgreSQL as they came.
 *
 * Hashes (chains) travel as lower-case hex, the empty chain before the first entry as ''.
 */
import * as z from 'zod';
import { PULL_MAX_ROWS, PUSH_MAX_TRANSACTIONS, ROTATION_MAX_MS } from './http.ts';

const position = z.int().nonnegative();
/** Room for re-enrolments above it in PostgreSQL's integer. */
const epoch = z.int().positive().max(1_000_000_000);
const uuid = z.uuid();
/** SHA-256 in hex, or '' before the first entry. */
const chain = z.string().regex(/^([0-9a-f]{64})?$/);
const shortText = z.string().max(200);

/** Which machine and process speaks: tells a restart of the same daemon from a clone. */
export const instanceSchema = z.object({
  /** Kernel boot id: the same for all processes until the machine restarts. */
  boot: shortText,
  /** Made once per daemon start. */
  daemon: uuid,
  /** pg_control_system().system_identifier of the store's PostgreSQL. */
  pgSysid: shortText,
});

/** First frame of a store on the WebSocket, and the body of POST hello. */
export const helloSchema = z.object({
  type: z.literal('hello'),
  /** Protocol version. */
  v: z.int().positive(),
  /** The store's code as this database knows it; HQ compares it with the credential. */
  store: shortText,
  epoch,
  instance: instanceSchema,
  /** Last sealed sequence, the oldest kept, the last acknowledged. */
  out: z.object({ seq: position, oldest: position, acked: position, chain }),
  /** Cursor of the mirror; nonce null = nothing pulled yet. `paged` = staged so far. */
  in: z.object({ pos: position, nonce: uuid.nullable(), paged: position }),
  bodyVersion: z.int().positive(),
  software: shortText,
  /** Where an HQ restored to before a re-enrolment needs them: the last (seq, chain) of each epoch kept here. */
  epochs: z.array(z.object({ epoch, seq: position, chain })).max(100),
  /** [id, table, columns] of every layout that entries kept here may have; from bodies of version 2 on. */
  layouts: z
    .array(z.tuple([shortText, shortText, z.array(shortText).max(1_600)]))
    .max(500)
    .optional(),
});

/**
 * HQ → store, in `welcome` and as a frame of its own: replace this credential. Kept at HQ until it is done, so a lost or doubled
 * one changes nothing: a store whose credential is not `oldKid` any more has done it.
 */
const rotationOrderSchema = z.object({
  id: uuid,
  oldKid: z.string().max(20),
  graceMs: z.int().nonnegative().max(ROTATION_MAX_MS),
  /** How long the new one lives; null = as HQ is set. */
  expiresInMs: z.int().positive().max(ROTATION_MAX_MS).nullable(),
  revokeOldNow: z.boolean(),
  /** Give up another rotation of this store that was never confirmed. */
  replace: z.boolean(),
});

export const welcomeSchema = z.object({
  type: z.literal('welcome'),
  v: z.int().positive(),
  fence: uuid,
  epoch,
  inbox: z.object({ seq: position, chain }),
  head: position,
  /** The cursor's round is unknown here: pull everything again. */
  resync: z.boolean(),
  /** Sequences that HQ holds as dead letters, or parked behind one. */
  dead: z.array(position).max(10_000),
  /** Identity of HQ, kept by the store: another value means another HQ. */
  hq: z.object({ id: uuid, software: shortText, now: z.string().max(40) }),
  store: z.object({ id: z.int().positive(), code: shortText, name: z.string().max(1000) }),
  /** An order to rotate that this store has not carried out yet. */
  rotate: rotationOrderSchema.optional(),
});

export const REFUSALS = [
  'epoch',
  'other_instance_alive',
  'revoked',
  'disabled',
  'upgrade',
  'store',
  'not_ready',
] as const;

export const refuseSchema = z.object({
  type: z.literal('refuse'),
  code: z.enum(REFUSALS),
  detail: z.string().max(2_000),
  /** With code `epoch`: the one in force at HQ. */
  epoch: epoch.optional(),
});

/** HQ → store: rounds were sealed up to this position: look now. Never truth, only a hint. */
export const headFrameSchema = z.object({ type: z.literal('head'), pos: position });

/** HQ → store: heartbeat request of the application; the answer carries the same number. */
export const pingFrameSchema = z.object({ type: z.literal('ping'), n: z.int().nonnegative() });
export const pongFrameSchema = z.object({
  type: z.literal('pong'),
  n: z.int().nonnegative(),
  /** HQ's: its clock as it answers, milliseconds since 1970. */
  at: z.int().nonnegative().optional(),
});

/** HQ → store: say now what `status --wait` at HQ needs to know; answered by `stat` with the same id. */
export const askFrameSchema = z.object({ type: z.literal('ask'), id: uuid });

/** HQ → store: compare yourself with HQ and report under this id; `repair`: send again what differs (verify.ts). */
export const verifyFrameSchema = z.object({
  type: z.literal('verify'),
  id: uuid,
  repair: z.boolean(),
  actor: shortText,
});

/** Store → HQ, every 30 s and when asked: what `status` at HQ shows about this store. */
export const statFrameSchema = z.object({
  type: z.literal('stat'),
  id: uuid.nullable(),
  out: z.object({
    /** Store transactions sealed or not, but not acknowledged. */
    queued: position,
    queuedHigh: position,
    bytes: position,
    oldestAt: z.string().max(40).nullable(),
    halted: z.string().max(100).nullable(),
    acked: position,
    /** Entries that the store takes for parked at HQ; absent from an older one. */
    parked: position.optional(),
  }),
  in: z.object({
    pos: position,
    appliedAt: z.string().max(40).nullable(),
    error: z.string().max(2_000).nullable(),
  }),
});

/** HQ → store: which entries of this epoch are parked now, where `stat` said another number. */
export const parkedFrameSchema = z.object({
  type: z.literal('parked'),
  epoch,
  dead: z.array(position).max(10_000),
});

/**
 * Store → HQ, after welcome: from now on this connection is that of another credential of the same store. What a
 * rotation uses, so that the light stays green. Answered by `authenticated`; the connection stays as it was if refused.
 */
export const authFrameSchema = z.object({ type: z.literal('auth'), token: z.string().max(200) });

/** HQ → store: the kid that counts now; `code` = why it was refused. */
export const authenticatedFrameSchema = z.object({
  type: z.literal('authenticated'),
  kid: z.string().max(20),
  code: z.string().max(60).nullable(),
});

export const rotateFrameSchema = z.object({ type: z.literal('rotate'), ...rotationOrderSchema.shape });

/** Store → HQ: what came of an order to rotate; `code` = why it did not work, tried again later. */
export const rotationFrameSchema = z.object({
  type: z.literal('rotation'),
  id: uuid,
  kid: z.string().max(20),
  code: z.string().max(60).nullable(),
  message: z.string().max(500).nullable(),
  /** 0 = the open connection went on under the new credential; null = it was made anew, or nothing was done. */
  offlineMs: z.int().nonnegative().nullable(),
});

export const storeFrameSchema = z.discriminatedUnion('type', [
  helloSchema,
  statFrameSchema,
  authFrameSchema,
  rotationFrameSchema,
  pingFrameSchema,
  pongFrameSchema,
]);

export const hqFrameSchema = z.discriminatedUnion('type', [
  welcomeSchema,
  refuseSchema,
  headFrameSchema,
  askFrameSchema,
  verifyFrameSchema,
  parkedFrameSchema,
  authenticatedFrameSchema,
  rotateFrameSchema,
  pingFrameSchema,
  pongFrameSchema,
]);

/** Plain digits: neither '' nor 0x10 nor 1e3 is a number here. */
const digits = z
  .string()
  .regex(/^\d{1,15}$/)
  .transform(Number);
/** `POS,NONCE`. */
const roundMark = z.string().regex(/^\d{1,15},[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);

/** GET pull: the query, as text. */
export const pullQuerySchema = z.object({
  from: digits,
  limit: digits.pipe(z.int().min(1).max(PULL_MAX_ROWS)).optional(),
  /** `POS,NONCE` of the last applied round; absent before the first apply. */
  cursor: roundMark.optional(),
  /** `HEAD,NONCE` of the newest page of the round being downloaded. */
  seen: roundMark.optional(),
  fresh: z.literal('1').optional(),
});

/** The first line of a page (page.ts). */
export const pageHeadSchema = z.object({
  from: position,
  /** Continue from here: the last row's position, or the head on a closing page. */
  to: position,
  head: position,
  /** The page reaches the head in its own snapshot: the round may be applied. */
  closing: z.boolean(),
  /** Nonce of the round that `head` ends. */
  nonce: uuid,
  /** When that round was sealed, by HQ's clock in milliseconds since 1970. Only measured with. */
  sealedAt: position.optional(),
  /** Lines behind this one. */
  rows: position,
});

/** POST push: whole store transactions, dense in seq, cut only between transactions. */
export const pushSchema = z.object({
  epoch,
  fence: uuid,
  first: z.int().positive(),
  /** Chain of entry first - 1. */
  prev: chain,
  txs: z
    .array(z.object({ seq: z.int().positive(), v: z.int().positive(), body: z.string() }))
    .min(1)
    .max(PUSH_MAX_TRANSACTIONS),
  lastChain: chain,
});

export const pushAnswerSchema = z.object({
  /** HQ has committed everything up to this, with this chain. */
  seq: position,
  chain,
  /** Sequences of this store that are dead letters or parked behind one. */
  dead: z.array(position).max(10_000),
});

export const PUSH_CONFLICTS = ['gap', 'diverged', 'epoch', 'fenced'] as const;

/** 409: nothing was applied; where HQ stands. */
export const pushConflictSchema = z.object({
  code: z.enum(PUSH_CONFLICTS),
  epoch,
  seq: position,
  chain,
});

/** Any refusal over HTTP: {error:{code,message,hint}}; `retry_ms` with 429 and 503. */
export const errorBodySchema = z.object({
  error: z.object({
    code: z.string().max(60),
    message: z.string().max(2_000),
    hint: z.string().max(2_000).optional(),
  }),
  retry_ms: z.int().nonnegative().optional(),
});

/** POST enrol: the one-time token's kid and secret, and the kid and hash of the credential made in the store. */
export const enrolSchema = z.object({
  token: z.string().min(40).max(5_000),
  kid: z.string().regex(/^[A-Z2-9]{4,16}$/),
  /** SHA-256 of the credential's secret, hex. */
  hash: z.string().regex(/^[0-9a-f]{64}$/),
  instance: instanceSchema,
  software: shortText,
  /** `store init --replace`: an empty server takes over; asks for what numbering continues from. */
  replace: z.boolean(),
  /** The store's database has neither sent nor sold anything yet. */
  empty: z.boolean().optional(),
});

export const enrolAnswerSchema = z.object({
  store: z.object({
    id: z.int().positive(),
    code: shortText,
    name: z.string().max(1000),
    timeZone: shortText,
  }),
  hq: z.object({ id: uuid }),
  epoch,
  expiresAt: z.string().max(40).nullable(),
  /** Only with `replace`: documents [table, row] to continue from. */
  continuation: z.array(z.tuple([shortText, z.record(z.string(), z.unknown())])).optional(),
});

/** POST tokens/rotations, with the credential in force. The same `id` gets the same answer again. */
export const rotationSchema = z.object({
  id: uuid,
  kid: z.string().regex(/^[A-Z2-9]{4,16}$/),
  /** SHA-256 of the new credential's secret, hex: HQ never sees the secret itself here. */
  hash: z.string().regex(/^[0-9a-f]{64}$/),
  /** How long the new one lives, if HQ's own limit is not shorter; null = as HQ is set. */
  expiresInMs: z.int().positive().max(ROTATION_MAX_MS).nullable(),
  /** How long the old one is taken after the new one was confirmed. */
  graceMs: z.int().nonnegative().max(ROTATION_MAX_MS),
  /** Give up another rotation of this store that was never confirmed. */
  replace: z.boolean(),
});

export const rotationAnswerSchema = z.object({
  id: uuid,
  old: z.object({ kid: z.string().max(20), validUntil: z.string().max(40).nullable() }),
  new: z.object({ kid: z.string().max(20), expiresAt: z.string().max(40).nullable() }),
  confirmed: z.boolean(),
});

/** POST re-enrol: HQ closes the epoch and opens the next one. The same `request` gets the same answer again. */
export const reEnrolSchema = z.object({
  request: uuid,
  /** The epoch of the store's database: HQ's next one is above it, even if HQ was restored. */
  epoch,
  instance: instanceSchema,
  /** What HQ has acknowledged last: does HQ still know it? */
  acked: z.object({ epoch, seq: position, chain }),
});

export const reEnrolAnswerSchema = z.object({
  epoch,
  /** Where HQ stood in the epoch that it closed. */
  closed: z.object({ epoch, seq: position, chain }),
  /** HQ has what it once acknowledged; if not, the store sends everything that it keeps. */
  known: z.boolean(),
});

export type Instance = z.infer<typeof instanceSchema>;
export type Hello = z.infer<typeof helloSchema>;
export type Welcome = z.infer<typeof welcomeSchema>;
export type Refuse = z.infer<typeof refuseSchema>;
export type StatFrame = z.infer<typeof statFrameSchema>;
export type ParkedFrame = z.infer<typeof parkedFrameSchema>;
export type VerifyFrame = z.infer<typeof verifyFrameSchema>;
export type StoreFrame = z.infer<typeof storeFrameSchema>;
export type HqFrame = z.infer<typeof hqFrameSchema>;
export type PullQuery = z.infer<typeof pullQuerySchema>;
export type PageHead = z.infer<typeof pageHeadSchema>;
export type Push = z.infer<typeof pushSchema>;
export type PushAnswer = z.infer<typeof pushAnswerSchema>;
export type PushConflict = z.infer<typeof pushConflictSchema>;
export type ErrorBody = z.infer<typeof errorBodySchema>;
export type Enrol = z.infer<typeof enrolSchema>;
export type ReEnrol = z.infer<typeof reEnrolSchema>;
export type ReEnrolAnswer = z.infer<typeof reEnrolAnswerSchema>;
export type AuthFrame = z.infer<typeof authFrameSchema>;
export type Rotation = z.infer<typeof rotationSchema>;
export type RotationAnswer = z.infer<typeof rotationAnswerSchema>;
export type RotationOrder = z.infer<typeof rotationOrderSchema>;
export type RotationReport = z.infer<typeof rotationFrameSchema>;
export type EnrolAnswer = z.infer<typeof enrolAnswerSchema>;
