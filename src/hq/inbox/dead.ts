/**
 * SQL: dead letters: store transactions that HQ refused, and those behind them; tried again by themselves or by a
 * person, or given up with a reason.
 *
 * Entries are tried in the order of the store, one transaction each; an entry is not tried before every earlier one
 * that touches the same record, so within a record the order holds across parking and retry.
 */
import type pg from 'pg';
import { PossyncError } from '../../core/errors.ts';
import { queryMaybe, withTransaction } from '../../db/transaction.ts';
import { attempt, causeOf } from './apply.ts';
import { readInboxIfAny } from './inbox.ts';
import { droppedAggregates, missesDropped, missingText } from './lost.ts';

export interface DeadEntry {
  readonly storeId: number;
  readonly epoch: number;
  readonly seq: number;
  readonly type: string;
  readonly key: string;
  readonly kind: 'data' | 'missing_parent' | 'parked';
  readonly sqlstate: string | null;
  readonly error: string;
  /** The entry it waits for, if it is parked behind one. */
  readonly behindSeq: number | null;
  readonly bytes: number;
  readonly tries: number;
  readonly firstAt: string;
  readonly lastAt: string;
  readonly nextTryAt: string | null;
}

const COLUMNS = `d.store_id as "storeId", d.epoch, d.seq, d.type, d.key, d.kind, d.sqlstate, d.error,
       d.behind_seq as "behindSeq", octet_length(d.body) as bytes, d.tries, d.first_at as "firstAt",
       d.last_at as "lastAt", d.next_try_at as "nextTryAt"`;

/** All dead letters, or those of one store, in the order they were sent. */
export async function listDead(pool: pg.Pool, storeId?: number): Promise<DeadEntry[]> {
  const { rows } = await pool.query<DeadEntry>(
    `select ${COLUMNS} from possync.dead d
      where $1::int is null or d.store_id = $1::int order by d.store_id, d.epoch, d.seq`,
    [storeId ?? null],
  );
  return rows;
}

/** One dead letter; its text only when asked for, because it holds tender data. */
export async function showDead(
  pool: pg.Pool,
  storeId: number,
  seq: number,
  payload = false,
): Promise<DeadEntry & { readonly body: string | null }> {
  const row = await queryMaybe<DeadEntry & { body: string | null }>(
    pool,
    `select ${COLUMNS}, case when $3::boolean then d.body end as body from possync.dead d
      where d.store_id = $1::int and d.seq = $2::bigint order by d.epoch desc limit 1`,
    [storeId, seq, payload],
  );
  if (row === undefined) throw unknown(seq);
  return row;
}

export interface RetryResult {
  readonly applied: readonly number[];
  /** Refused again, or still behind one that was. */
  readonly left: readonly number[];
}

/** A person retries: the next batch also passes the circuit breaker once. */
export async function retryDead(
  pool: pg.Pool,
  storeId: number,
  seqs: readonly number[] | 'all',
  actor = 'operator',
): Promise<RetryResult> {
  if (seqs !== 'all') for (const seq of seqs) await showDead(pool, storeId, seq);
  await pool.query(
    `update possync.inbox set breaker_waived = true, dead_streak = 0, stopped = null, stopped_why = null, stopped_at = null
      where store_id = $1::int`,
    [storeId],
  );
  return retryEntries(pool, storeId, actor, (entry) => seqs === 'all' || seqs.includes(entry.seq));
}

/**
 * Entries that miss a parent, in all stores: of a receipt the transfer may have come meanwhile. `due` only those whose
 * minute is over. Returns how many were applied.
 */
export async function retryWaiting(pool: pg.Pool, { due = false } = {}): Promise<number> {
  const { rows } = await pool.query<{ store_id: number }>(
    `select distinct d.store_id from possync.dead d
      where d.kind = 'missing_parent' and (not $1::boolean or d.next_try_at <= clock_timestamp())`,
    [due],
  );
  let applied = 0;
  const failures: unknown[] = [];
  for (const { store_id: storeId } of rows) {
    try {
      const result = await retryEntries(pool, storeId, undefined, ({ kind }) => kind === 'missing_parent');
      applied += result.applied.length;
    } catch (error) {
      failures.push(error); // no fault of the other stores', whose turn would otherwise never come
    }
  }
  if (failures.length > 0) throw failures[0];
  return applied;
}

/** Gives an entry up, for good; what was parked behind it is tried. */
export async function dropDead(
  pool: pg.Pool,
  storeId: number,
  seq: number,
  reason: string,
  actor: string,
): Promise<RetryResult> {
  if (reason.trim() === '') throw new PossyncError('PS-USAGE', 'dropping an entry needs a reason');
  await withTransaction(pool, async (tx) => {
    await readInboxIfAny(tx, storeId);
    const dropped = await queryMaybe<{ seq: number }>(
      tx,
      `with gone as (
         delete from possync.dead d
          where d.store_id = $1::int and d.seq = $2::bigint
            and d.epoch = (select max(x.epoch) from possync.dead x where x.store_id = $1::int and x.seq = $2::bigint)
         returning d.epoch, d.seq, d.body, d.type, d.key, d.error, d.aggregates)
       insert into possync.queue_audit (actor, action, store_id, epoch, seq, reason, body, detail)
       select $4::text, 'drop', $1::int, g.epoch, g.seq, $3::text, g.body,
              jsonb_build_object('type', g.type, 'key', g.key, 'error', g.error, 'aggregates', g.aggregates)
         from gone g returning seq`,
      [storeId, seq, reason, actor],
    );
    if (dropped === undefined) throw unknown(seq);
  });
  return retryEntries(pool, storeId, actor, () => false);
}

function unknown(seq: number): PossyncError {
  return new PossyncError('PS-QUEUE-UNKNOWN', `there is no dead letter ${seq} of this store`, {
    hint: 'list them with: possync queue ls --dead',
  });
}

interface DbDeadRow {
  epoch: number;
  seq: number;
  kind: DeadEntry['kind'];
  aggregates: string[];
}

async function retryEntries(
  pool: pg.Pool,
  storeId: number,
  actor: string | undefined,
  wanted: (entry: DbDeadRow) => boolean,
): Promise<RetryResult> {
  const { rows } = await pool.query<DbDeadRow>(
    `select d.epoch, d.seq, d.kind, d.aggregates from possync.dead d
      where d.store_id = $1::int order by d.epoch, d.seq`,
    [storeId],
  );
  const blocked = new Set<string>();
  const applied: number[] = [];
  const left: number[] = [];
  for (const entry of rows) {
    // A parked one is tried as soon as nothing earlier blocks it, whoever was asked for.
    const free = !entry.aggregates.some((aggregate) => blocked.has(aggregate));
    const tried = free && (entry.kind === 'parked' || wanted(entry));
    if (tried && (await retryOne(pool, storeId, entry, actor))) {
      applied.push(entry.seq);
      continue;
    }
    for (const aggregate of entry.aggregates) blocked.add(aggregate);
    if (tried || wanted(entry)) left.push(entry.seq);
  }
  return { applied, left };
}

/** One entry in one transaction; true: it is no longer dead. */
async function retryOne(
  pool: pg.Pool,
  storeId: number,
  { epoch, seq }: DbDeadRow,
  actor: string | undefined,
): Promise<boolean> {
  return withTransaction(pool, async (tx) => {
    await tx.query(`set local synchronous_commit to on; set local possync.applying = 'on'`);
    await readInboxIfAny(tx, storeId); // pushes of this store wait: they must not overtake
    const row = await queryMaybe<{ v: number; body: string }>(
      tx,
      `select d.v, d.body from possync.dead d
        where d.store_id = $1::int and d.epoch = $2::int and d.seq = $3::bigint for update`,
      [storeId, epoch, seq],
    );
    if (row === undefined) return true; // another process was faster
    const gone = await missesDropped(tx, storeId, row.body, await droppedAggregates(tx, storeId));
    if (gone !== undefined) {
      await tx.query(
        `update possync.dead set error = $4::text, tries = tries + 1, behind_epoch = $5::int, behind_seq = $6::bigint,
                last_at = clock_timestamp()
          where store_id = $1::int and epoch = $2::int and seq = $3::bigint`,
        [storeId, epoch, seq, missingText(gone), gone.epoch, gone.seq],
      );
      return false;
    }
    const error = await attempt(tx, storeId, [{ epoch, seq, v: row.v, body: row.body }]);
    if (error !== undefined) {
      const cause = causeOf(error);
      await tx.query(
        `update possync.dead set kind = $4::text, sqlstate = $5::text, error = $6::text, tries = tries + 1,
                behind_epoch = null, behind_seq = null, last_at = clock_timestamp(),
                next_try_at = case when $4::text = 'missing_parent' then clock_timestamp() + interval '1 minute' end
          where store_id = $1::int and epoch = $2::int and seq = $3::bigint`,
        [storeId, epoch, seq, cause.kind, cause.sqlstate, cause.error],
      );
      return false;
    }
    await tx.query(
      'delete from possync.dead where store_id = $1::int and epoch = $2::int and seq = $3::bigint',
      [storeId, epoch, seq],
    );
    if (actor !== undefined) {
      await tx.query(
        `insert into possync.queue_audit (actor, action, store_id, epoch, seq)
         values ($1::text, 'retry', $2::int, $3::int, $4::bigint)`,
        [actor, storeId, epoch, seq],
      );
    }
    return true;
  });
}
