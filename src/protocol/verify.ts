/**
 * The messages of `possync verify` between a store and HQ, and the document that it makes: names are a contract with
 * scripts. The store asks, about nobody but itself; HQ answers with digests, with the keys and hashes of the rows in the
 * buckets that differ, and with what is on its way and therefore no difference.
 */
import * as z from 'zod';
import { errorBodySchema } from './messages.ts';

/** More buckets would cost more bytes than they save: a million rows leave 122 in each. */
export const VERIFY_MAX_BUCKETS = 8_192;
/** Rows in one answer: bounds the memory of both sides. */
export const VERIFY_MAX_ROWS = 100_000;
/** Records that one request repairs. */
export const VERIFY_MAX_REPAIRS = 500;
/** Keys that a report lists of each table and kind; the counts are whole. */
export const VERIFY_MAX_KEYS = 20;
/** An answer with rows, uncompressed. */
export const VERIFY_LIMIT_BYTES = 32 * 1024 * 1024;
/** The report of a store with all its tables and keys. */
export const VERIFY_REPORT_BYTES = 4 * 1024 * 1024;

const word = z.string().min(1).max(100);
const key = z.string().min(2).max(2_000);
const count = z.int().nonnegative();
const hash = z.string().regex(/^[0-9a-f]{16}$/);
const direction = z.enum(['down', 'up']);

/** Which comparison this belongs to, and how far it is: HQ shows that to whoever asked for it there. */
const run = z.strictObject({ id: z.uuid(), done: count, total: count });

export const verifyBeginSchema = z.strictObject({ run });

/** What the ledger of HQ found in what the store has sent. */
export const findingSchema = z.object({
  kind: z.string().max(100),
  code: z.string().max(60),
  register: z.string().max(200).nullable(),
  /** A range as `13..15`. */
  number: z.string().max(200).nullable(),
  expected: z.string().max(2_000).nullable(),
  found: z.string().max(2_000).nullable(),
  since: z.string().max(40),
  /** Worth reading, no reason to act. */
  note: z.boolean(),
  detail: z.string().max(4_000),
});

export const verifyBeginAnswerSchema = z.object({ findings: z.array(findingSchema).max(1_000) });

const question = {
  run,
  table: word,
  direction,
  /** A power of two. */
  buckets: z
    .int()
    .min(1)
    .max(VERIFY_MAX_BUCKETS)
    .refine((n) => (n & (n - 1)) === 0, 'a power of two'),
  /** Rows of an earlier business date are only counted: the store has purged everything before. */
  floor: z.iso.date().nullable(),
};

export const digestsSchema = z.strictObject({
  ...question,
  /** The store's digest of the whole table. */
  digest: z.string().regex(/^[0-9a-f]{1,13}:[0-9a-f]{16}$/),
});

export const digestsAnswerSchema = z.object({
  rows: count,
  below: count,
  /** Base64 of 12 bytes for each bucket; null = the digests of the whole table are equal. */
  buckets: z
    .string()
    .max(VERIFY_MAX_BUCKETS * 16 + 4)
    .nullable(),
});

export const rowsSchema = z.strictObject({
  ...question,
  wanted: z
    .array(
      z
        .int()
        .nonnegative()
        .max(VERIFY_MAX_BUCKETS - 1),
    )
    .min(1)
    .max(VERIFY_MAX_BUCKETS),
  /** Down: the round that the store had applied when it read its rows. */
  cursor: z.strictObject({ pos: count, nonce: z.uuid() }).nullable(),
});

export const rowsAnswerSchema = z.object({
  /** false: HQ does not know the store's cursor; nothing can be said now. */
  known: z.boolean(),
  /** [key, hash], and the record's key where it is another one. */
  rows: z.array(z.union([z.tuple([key, hash]), z.tuple([key, hash, key])])).max(VERIFY_MAX_ROWS),
  /** Records of these buckets that moved after the cursor, are not sealed yet, or are parked: nobody can compare them now. */
  unsettled: z.array(key).max(VERIFY_MAX_ROWS),
  /** Up: what HQ has taken from the store, in the snapshot of the rows. */
  inbox: z.object({ epoch: count, seq: count }),
});

export const repairSchema = z.strictObject({
  run,
  /** Who asked for it, as the store knows it. */
  actor: z.string().max(200),
  records: z
    .array(z.strictObject({ type: word, direction, key }))
    .min(1)
    .max(VERIFY_MAX_REPAIRS),
});

export const repairAnswerSchema = z.object({
  /** Documents of the records that come down: [type, key, position, document]; null = the store is not to have it. */
  documents: z
    .array(z.tuple([word, key, count, z.record(z.string(), z.unknown()).nullable()]))
    .max(VERIFY_MAX_REPAIRS),
  /** The head after HQ has sealed what differed there. */
  head: count,
});

const keys = z.array(z.string().max(2_000)).max(VERIFY_MAX_KEYS);
const figure = count.nullable();

export const tableReportSchema = z.object({
  table: word,
  direction,
  rows_hq: figure,
  rows_store: figure,
  differing: figure,
  missing_at_hq: figure,
  missing_at_store: figure,
  /** Written by the store and no longer there: purged, and no difference. */
  only_at_hq: figure,
  /** Left out: on their way, or parked at HQ. */
  in_flight: figure,
  /** The first of them. */
  keys: z.object({ differing: keys, missing_at_hq: keys, missing_at_store: keys }),
  /** Why nothing is known, if nothing is. */
  reason: z.object({ code: z.string().max(60), message: z.string().max(2_000) }).nullable(),
});

export const repairedSchema = z.object({
  type: word,
  direction,
  key,
  result: z.enum(['sent', 'removed', 'unchanged', 'failed']),
});

export const storeReportSchema = z.object({
  id: z.int().positive(),
  code: z.string().max(200),
  state: z.enum(['equal', 'different', 'unknown']),
  reason: errorBodySchema.shape.error.nullable(),
  tables: z.array(tableReportSchema).max(1_000),
  /** What --repair sent again, the first thousand. */
  repaired: z.array(repairedSchema).max(1_000),
  findings: z.array(findingSchema).max(1_000),
  bytes: count,
  duration_ms: count,
});

export const reportSchema = z.strictObject({ run, store: storeReportSchema });

export type VerifyRun = z.infer<typeof run>;
export type DigestsQuestion = z.infer<typeof digestsSchema>;
export type DigestsAnswer = z.infer<typeof digestsAnswerSchema>;
export type RowsQuestion = z.infer<typeof rowsSchema>;
export type RowsAnswer = z.infer<typeof rowsAnswerSchema>;
export type Repair = z.infer<typeof repairSchema>;
export type RepairAnswer = z.infer<typeof repairAnswerSchema>;
export type Finding = z.infer<typeof findingSchema>;
export type TableReport = z.infer<typeof tableReportSchema>;
export type Repaired = z.infer<typeof repairedSchema>;
export type StoreReport = z.infer<typeof storeReportSchema>;
export type Report = z.infer<typeof reportSchema>;

/** A repair as either side has written it down. HQ: `open` until the store's record has come, then `done`. */
export interface ListedRepair {
  readonly store: string;
  readonly at: string;
  /** Of the comparison that asked for it. */
  readonly run: string;
  readonly actor: string;
  readonly direction: 'down' | 'up';
  readonly type: string;
  readonly key: string;
  readonly result: 'sent' | 'open' | 'done' | 'removed' | 'unchanged' | 'failed';
  readonly done_at: string | null;
  /** Rows of HQ that were replaced, and are kept; null in a store. */
  readonly replaced_rows: number | null;
}
