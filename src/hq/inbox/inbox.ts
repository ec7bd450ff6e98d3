/** SQL: the inbox row of a store: how far HQ has taken what it sends. */
import type pg from 'pg';
import { queryMaybe, queryOne, type Queryable } from '../../db/transaction.ts';

export interface Inbox {
  readonly epoch: number;
  readonly seq: number;
  /** Hex, '' before the first entry. */
  readonly chain: string;
  readonly fence: string | null;
  readonly declared: readonly DeclaredEpoch[];
  readonly deadStreak: number;
  readonly breakerWaived: boolean;
}

/** The last entry of an epoch, as the store's hello says. */
export interface DeclaredEpoch {
  readonly epoch: number;
  readonly seq: number;
  readonly chain: string;
}

interface DbInboxRow {
  epoch: number;
  seq: number;
  chain: string;
  fence: string | null;
  declared: string;
  dead_streak: number;
  breaker_waived: boolean;
}

/**
 * The row, locked to the end of the transaction: pushes, hellos and retries of one store go one after the other.
 * Lock order everywhere: inbox, then dead, then the tables.
 *
 * Nothing of another table is read in this statement: after a wait for the lock it would be of the time before.
 */
export async function readInbox(tx: pg.PoolClient, storeId: number): Promise<Inbox> {
  const inbox = await readInboxIfAny(tx, storeId);
  if (inbox === undefined) throw new Error(`no inbox for store ${storeId}`);
  return inbox;
}

export async function readInboxIfAny(tx: pg.PoolClient, storeId: number): Promise<Inbox | undefined> {
  const row = await queryMaybe<DbInboxRow & pg.QueryResultRow>(
    tx,
    `select epoch, seq, encode(chain, 'hex') as chain, fence, declared::text as declared, dead_streak, breaker_waived
       from possync.inbox where store_id = $1::int for update`,
    [storeId],
  );
  if (row === undefined) return undefined;
  return {
    epoch: row.epoch,
    seq: row.seq,
    chain: row.chain,
    fence: row.fence,
    declared: JSON.parse(row.declared) as DeclaredEpoch[],
    deadStreak: row.dead_streak,
    breakerWaived: row.breaker_waived,
  };
}

/** Moves the inbox, in the transaction that has applied everything up to there. */
export async function moveInbox(
  tx: Queryable,
  storeId: number,
  { epoch, seq, chain, deadStreak }: { epoch: number; seq: number; chain: string; deadStreak: number },
): Promise<void> {
  await tx.query(
    `with moved as (
       update possync.inbox set epoch = $2::int, seq = $3::bigint, chain = decode($4::text, 'hex'),
              dead_streak = $5::int, breaker_waived = false, stopped = null, stopped_why = null, stopped_at = null,
              pushed_at = clock_timestamp()
        where store_id = $1::int
       returning store_id, epoch, seq, chain)
     insert into possync.inbox_chain (store_id, epoch, seq, chain)
     select m.store_id, m.epoch, m.seq, m.chain from moved m on conflict (store_id, epoch, seq) do nothing`,
    [storeId, epoch, seq, chain, deadStreak],
  );
}

/** Marks a store whose batches are not taken until a person has acted. */
export async function stopInbox(db: Queryable, storeId: number, code: string, why: string): Promise<void> {
  await db.query(
    `update possync.inbox set stopped = $2::text, stopped_why = left($3::text, 2000),
            stopped_at = coalesce(stopped_at, clock_timestamp())
      where store_id = $1::int`,
    [storeId, code, why],
  );
}

/**
 * As many as fit into a frame, however large their numbers: a welcome that is longer than a frame ends the socket, and
 * the store would never be green again.
 */
export const DEAD_SHOWN = 3_000;

export async function deadSeqs(db: Queryable, storeId: number, epoch: number): Promise<number[]> {
  const { seqs } = await queryOne<{ seqs: string[] }>(
    db,
    `select array(select d.seq from possync.dead d where d.store_id = $1::int and d.epoch = $2::int
                   order by d.seq limit ${DEAD_SHOWN})::text[] as seqs`,
    [storeId, epoch],
  );
  return seqs.map(Number);
}

const CHAINS_KEPT = 1_000;
const PRUNE_EVERY = 50;

/** Once in a while: a delete in every small batch would double its cost. */
export async function pruneChains(tx: Queryable, storeId: number, from: number, to: number): Promise<void> {
  if (Math.floor(from / PRUNE_EVERY) === Math.floor(to / PRUNE_EVERY)) return;
  await tx.query(
    `delete from possync.inbox_chain c
      where c.store_id = $1::int
        and (c.epoch, c.seq) < (select x.epoch, x.seq from possync.inbox_chain x where x.store_id = $1::int
                                 order by x.epoch desc, x.seq desc offset ${CHAINS_KEPT} limit 1)`,
    [storeId],
  );
}
