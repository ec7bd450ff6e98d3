/**
 * SQL: what HQ answers to a store that compares itself: digests of its tables, the rows of the buckets that differ,
 * and which of their records nobody can compare at this moment.
 *
 * The rows are those of HQ's own tables, never the sealed documents: a table that was changed with its triggers off
 * differs from what the stores were given, and that is one of the things to find. One snapshot holds rows, sealed
 * rounds, unsealed captures and the inbox, so a record is left out exactly as long as its change is on its way.
 */
import type pg from 'pg';
import { PossyncError } from '../../core/errors.ts';
import { readColumnTypes } from '../../db/column-types.ts';
import { comparedTables, type ComparedTable, type Direction } from '../../db/compared.ts';
import {
  beginReading,
  bucketOf,
  foldDigests,
  readDigests,
  readRows,
  type DigestQuestion,
} from '../../db/digest.ts';
import { keyMatches } from '../../db/record-key.ts';
import { literal, publicTable } from '../../db/sql.ts';
import { queryMaybe, withTransaction } from '../../db/transaction.ts';
import type { Entity } from '../../protocol/entities.ts';
import {
  VERIFY_MAX_ROWS,
  type DigestsAnswer,
  type DigestsQuestion,
  type RowsAnswer,
  type RowsQuestion,
} from '../../protocol/verify.ts';

export async function answerDigests(
  pool: pg.Pool,
  storeId: number,
  asked: DigestsQuestion,
  entities: readonly Entity[],
): Promise<DigestsAnswer> {
  const table = tableOf(entities, asked.table, asked.direction);
  return inSnapshot(pool, async (tx) => {
    const types = await readColumnTypes(tx, [table.entity]);
    const { rows, below, buckets } = await readDigests(tx, table, types, questionOf(storeId, asked));
    const equal = foldDigests(buckets) === asked.digest;
    return { rows, below, buckets: equal ? null : buckets.toString('base64') };
  });
}

export async function answerRows(
  pool: pg.Pool,
  storeId: number,
  asked: RowsQuestion,
  entities: readonly Entity[],
): Promise<RowsAnswer> {
  const table = tableOf(entities, asked.table, asked.direction);
  return inSnapshot(pool, async (tx) => {
    const inbox = (await readInbox(tx, storeId)) ?? { epoch: 0, seq: 0 };
    const down = table.direction === 'down';
    if (down && !(await isKnown(tx, asked.cursor))) return { known: false, rows: [], unsettled: [], inbox };
    const types = await readColumnTypes(tx, entities);
    const rows = await readRows(tx, table, types, {
      ...questionOf(storeId, asked),
      wanted: asked.wanted,
      limit: VERIFY_MAX_ROWS + 1,
    });
    const unsettled = down
      ? await movingRecords(tx, table, entities, types, storeId, asked)
      : await parkedRecords(tx, table, storeId);
    if (rows.length > VERIFY_MAX_ROWS || unsettled.length > VERIFY_MAX_ROWS)
      throw new PossyncError('PS-TOO-LARGE', `more than ${VERIFY_MAX_ROWS} rows were asked for at once`);
    return {
      known: true,
      rows: rows.map(({ key, hash, record }) => (record === key ? [key, hash] : [key, hash, record])),
      unsettled,
      inbox,
    };
  });
}

/** Reads only, in one snapshot. */
function inSnapshot<T>(pool: pg.Pool, work: (tx: pg.PoolClient) => Promise<T>): Promise<T> {
  return withTransaction(
    pool,
    async (tx) => {
      await beginReading(tx);
      return await work(tx);
    },
    { isolation: 'repeatable read', readOnly: true },
  );
}

function tableOf(entities: readonly Entity[], name: string, direction: Direction): ComparedTable {
  const found = comparedTables(entities).find(
    ({ table, direction: way }) => table.table === name && way === direction,
  );
  if (found === undefined)
    throw new PossyncError('PS-PROTOCOL', `no table ${name} travels ${direction} here`);
  return found;
}

function questionOf(storeId: number, { buckets, floor }: DigestsQuestion | RowsQuestion): DigestQuestion {
  return { side: 'hq', storeId, buckets, floor };
}

/** What HQ has taken from the store: in this snapshot, so that no later entry shows in the rows. */
async function readInbox(
  tx: pg.PoolClient,
  storeId: number,
): Promise<{ epoch: number; seq: number } | undefined> {
  return queryMaybe<{ epoch: number; seq: number }>(
    tx,
    'select i.epoch, i.seq from possync.inbox i where i.store_id = $1::integer',
    [storeId],
  );
}

async function isKnown(tx: pg.PoolClient, cursor: RowsQuestion['cursor']): Promise<boolean> {
  if (cursor === null) return false;
  const { rows } = await tx.query(
    'select from possync.rounds r where r.head = $1::bigint and r.nonce = $2::uuid',
    [cursor.pos, cursor.nonce],
  );
  return rows.length === 1;
}

/**
 * Records that moved after the store's cursor or are not sealed yet, and transfers that time alone has taken out of
 * their audience: the daily round has not removed them from the store so far.
 */
async function movingRecords(
  tx: pg.PoolClient,
  { entity }: ComparedTable,
  entities: readonly Entity[],
  types: Parameters<typeof keyMatches>[4],
  storeId: number,
  { buckets, wanted, cursor }: RowsQuestion,
): Promise<string[]> {
  const type = literal(entity.type);
  const asked = (pk: string): string => `${bucketOf(pk, '$3::integer')} = any ($4::integer[])`;
  const transfers = entities.find(
    (other) => other.direction === 'relay' && other.up.change.kind === 'transfer',
  )?.root;
  const old =
    entity.direction !== 'relay' || transfers === undefined
      ? ''
      : `union
     select f.pk from possync.feed f
       join ${publicTable(transfers.table)} t on ${keyMatches('t', transfers.table, transfers.key, 'f.pk', types)}
      where f.entity = ${type} and f.store_id in (0, $1::integer) and f.doc is not null and ${asked('f.pk')}
        and possync.transfer_is_old(t.id, t.status, t.updated_at)`;
  const { rows } = await tx.query<{ pk: string }>(
    `select f.pk from possync.feed f
      where f.entity = ${type} and f.store_id in (0, $1::integer) and f.pos > $2::bigint and ${asked('f.pk')}
     union
     select c.pk from possync.capture c where c.entity = ${type} and ${asked('c.pk')}
     ${old}
     limit ${VERIFY_MAX_ROWS + 1}`,
    [storeId, cursor?.pos ?? 0, buckets - 1, wanted],
  );
  return rows.map(({ pk }) => pk);
}

/** Records of which HQ holds a dead letter: what it has of them is older than what the store has sent. */
async function parkedRecords(
  tx: pg.PoolClient,
  { entity }: ComparedTable,
  storeId: number,
): Promise<string[]> {
  const { rows } = await tx.query<{ key: string }>(
    `select distinct substr(a.aggregate, length($2::text) + 2) as key
       from possync.dead d cross join lateral unnest(d.aggregates) as a (aggregate)
      where d.store_id = $1::integer and starts_with(a.aggregate, $2::text || ':')
      limit ${VERIFY_MAX_ROWS + 1}`,
    [storeId, entity.type],
  );
  // One column is kept as it is, several as a JSON array, which is what a record's key looks like already.
  return rows.map(({ key }) => (entity.root.key.length === 1 ? JSON.stringify([key]) : key));
}
