/**
 * SQL: digests of the rows that store and HQ compare, so that what differs is found without moving the rest.
 *
 *   all rows of a table ──MD5 of the record's key──▶ 2^n buckets ──count, XOR of row hashes──▶ 12 bytes a bucket
 *   buckets that differ ──▶ (key, hash) of their rows
 *
 * Buckets by hash and not by ranges of keys: keys made in order fill the last range only, and both sides would have
 * to order text alike. Each call reads its table once, in the caller's snapshot, without a lock; nothing is kept.
 */
import type { ColumnTypes } from './column-types.ts';
import { recordKeyOf, rowHash, rowKey, type ComparedTable } from './compared.ts';
import { ident } from './sql.ts';
import type { Queryable } from './transaction.ts';

export type Side = 'hq' | 'store';

export interface DigestQuestion {
  readonly side: Side;
  readonly storeId: number;
  /** A power of two. */
  readonly buckets: number;
  /** At HQ: rows of an earlier business date are counted, not compared. */
  readonly floor?: string | null;
}

export interface Digests {
  readonly rows: number;
  /** Rows before the floor. */
  readonly below: number;
  /** BUCKET_BYTES for each bucket: count (4 bytes), XOR of the hashes (8 bytes), big-endian. */
  readonly buckets: Buffer;
}

export interface DigestedRow {
  readonly key: string;
  /** First half of the MD5, hex. */
  readonly hash: string;
  /** The key of its record. */
  readonly record: string;
}

export const BUCKET_BYTES = 12;
/** Reading waits for nobody, and nobody waits for it; what lasts longer than this is a fault. */
const STATEMENT_TIMEOUT_MS = 600_000;

/** How long a comparison may read, and with how much of the machine: tills come first. */
export async function beginReading(tx: Queryable): Promise<void> {
  await tx.query(
    `set local statement_timeout = ${STATEMENT_TIMEOUT_MS};
     set local lock_timeout = 2000;
     set local idle_in_transaction_session_timeout = 600000;
     set local max_parallel_workers_per_gather = 0;
     set local jit = off`,
  );
}

/** The bucket of a record: of its key, so that the rows of one record share it. */
export function bucketOf(record: string, mask: string): string {
  return `(('x' || substr(md5(${record}), 1, 8))::bit(32)::integer & ${mask})`;
}

function hashOf(table: ComparedTable, types: ColumnTypes): string {
  return `('x' || substr(${rowHash(table, types)}, 1, 16))::bit(64)::bigint`;
}

/** Digests of all buckets of a table, in one pass over it. */
export async function readDigests(
  tx: Queryable,
  table: ComparedTable,
  types: ColumnTypes,
  question: DigestQuestion,
): Promise<Digests> {
  const floor = floorOf(table, question);
  const { rows } = await tx.query<{ bucket: number; count: number; hash: string }>(
    `select d.bucket, count(*) as count, encode(int8send(bit_xor(d.hash)), 'hex') as hash
       from (select ${bucketOf(recordKeyOf(table), '$2::integer')} as bucket, ${hashOf(table, types)} as hash
               from ${table[question.side]}${floor === undefined ? '' : ` and ${floor} >= $3::date`}) d
      group by d.bucket`,
    [question.storeId, question.buckets - 1, ...(floor === undefined ? [] : [question.floor])],
  );
  const buckets = Buffer.alloc(question.buckets * BUCKET_BYTES);
  let total = 0;
  for (const { bucket, count, hash } of rows) {
    buckets.writeUInt32BE(count, bucket * BUCKET_BYTES);
    buckets.write(hash, bucket * BUCKET_BYTES + 4, 'hex');
    total += count;
  }
  return { rows: total, below: await countBelow(tx, table, question, floor), buckets };
}

/** The rows of some buckets. Their hashes are computed for these rows only. */
export async function readRows(
  tx: Queryable,
  table: ComparedTable,
  types: ColumnTypes,
  question: DigestQuestion & { readonly wanted: readonly number[]; readonly limit: number },
): Promise<DigestedRow[]> {
  const floor = floorOf(table, question);
  const bucket = bucketOf(recordKeyOf(table), '$2::integer');
  const { rows } = await tx.query<DigestedRow>(
    `select ${rowKey(table)} as key, substr(${rowHash(table, types)}, 1, 16) as hash, ${recordKeyOf(table)} as record
       from ${table[question.side]} and ${bucket} = any ($3::integer[])${floor === undefined ? '' : ` and ${floor} >= $5::date`}
      limit $4::integer`,
    [
      question.storeId,
      question.buckets - 1,
      question.wanted,
      question.limit,
      ...(floor === undefined ? [] : [question.floor]),
    ],
  );
  return rows;
}

/** One number for a table: what both sides compare before any bucket travels. */
export function foldDigests(buckets: Buffer): string {
  let count = 0n;
  let hash = 0n;
  for (let at = 0; at < buckets.length; at += BUCKET_BYTES) {
    count += BigInt(buckets.readUInt32BE(at));
    hash ^= buckets.readBigUInt64BE(at + 4);
  }
  return `${count.toString(16)}:${hash.toString(16).padStart(16, '0')}`;
}

/** Numbers of the buckets in which two sides differ. */
export function differingBuckets(mine: Buffer, theirs: Buffer): number[] {
  const differing: number[] = [];
  for (let at = 0; at < mine.length; at += BUCKET_BYTES) {
    if (mine.compare(theirs, at, at + BUCKET_BYTES, at, at + BUCKET_BYTES) !== 0)
      differing.push(at / BUCKET_BYTES);
  }
  return differing;
}

/** Rows before this date in a store, none: what it purged by date is not looked for bucket by bucket. */
export async function readFloor(
  tx: Queryable,
  table: ComparedTable,
  storeId: number,
): Promise<string | null> {
  const { dateColumn, entity } = table;
  if (dateColumn === null) return null;
  const { rows } = await tx.query<{ floor: string | null }>(
    `select min(r.${ident(dateColumn)})::text as floor from public.${ident(entity.root.table)} r
      where $1::integer is not null`,
    [storeId],
  );
  return rows[0]?.floor ?? NEVER;
}

/** A store without a row has purged them all, whatever their date. */
const NEVER = '9999-12-31';

function floorOf({ dateColumn }: ComparedTable, { side, floor }: DigestQuestion): string | undefined {
  if (side !== 'hq' || dateColumn === null || floor === null || floor === undefined) return undefined;
  return `x.${ident(dateColumn)}`;
}

async function countBelow(
  tx: Queryable,
  table: ComparedTable,
  { storeId, floor: date }: DigestQuestion,
  floor: string | undefined,
): Promise<number> {
  if (floor === undefined) return 0;
  const { rows } = await tx.query<{ below: number }>(
    `select count(*) as below from ${table.hq} and ${floor} < $2::date`,
    [storeId, date],
  );
  return rows[0]?.below ?? 0;
}
