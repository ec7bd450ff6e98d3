/**
 * SQL: what has to be judged again. Marks are appended by triggers in the transaction that changes something, and deleted
 * by the round that has judged it; both by id, so neither waits for the other.
 */
import type { Queryable } from '../../db/transaction.ts';

export interface Marks {
  readonly ids: readonly number[];
  readonly sessions: readonly SessionKey[];
  readonly zzs: readonly { readonly storeId: number; readonly id: string }[];
  /** Stores whose audit has a new line. */
  readonly audits: readonly number[];
  /** Stores to be judged from the beginning. */
  readonly stores: readonly number[];
}

export interface SessionKey {
  readonly storeId: number;
  readonly id: string;
}

/** Bounds a round: its transaction holds back the cleaning of dead rows while it lasts. */
const MOST_MARKS = 4_000;
const MOST_SESSIONS = 400;

/** The oldest marks, of one store or of all. */
export async function readMarks(tx: Queryable, storeId?: number): Promise<Marks> {
  const { rows } = await tx.query<{ id: number; store_id: number; what: string; key: string | null }>(
    `select m.id, m.store_id, m.what, m.key from possync.ledger_marks m
      where $1::int is null or m.store_id = $1::int order by m.id limit ${MOST_MARKS}`,
    [storeId ?? null],
  );
  const ids: number[] = [];
  const sessions = new Map<string, SessionKey>();
  const zzs = new Map<string, SessionKey>();
  const audits = new Set<number>();
  const stores = new Set<number>();
  for (const { id, store_id: store, what, key } of rows) {
    if (sessions.size >= MOST_SESSIONS) break;
    ids.push(id);
    if (what === 'store') stores.add(store);
    if (what === 'audit') audits.add(store);
    if (key === null) continue;
    (what === 'zz' ? zzs : sessions).set(`${store} ${key}`, { storeId: store, id: key });
  }
  return {
    ids,
    sessions: [...sessions.values()],
    zzs: [...zzs.values()],
    audits: [...audits],
    stores: [...stores],
  };
}

export async function deleteMarks(tx: Queryable, ids: readonly number[]): Promise<void> {
  await tx.query('delete from possync.ledger_marks m where m.id = any($1::bigint[])', [ids]);
}

/** Everything that there is of a store, for later rounds. */
export async function markStores(tx: Queryable, storeIds: readonly number[]): Promise<void> {
  if (storeIds.length === 0) return;
  await tx.query(
    `insert into possync.ledger_marks (store_id, what, key)
     select k.store_id, 'session', k.id
       from (select s.store_id, s.id from public.register_sessions s where s.store_id = any($1::int[])
             union select z.store_id, z.session_id from public.z_reports z where z.store_id = any($1::int[])
             union select x.store_id, x.session_id from public.sales x where x.store_id = any($1::int[])
             union select l.store_id, l.session_id from possync.ledger_z l where l.store_id = any($1::int[])) k
     union all
     select z.store_id, 'zz', z.id from public.zz_reports z where z.store_id = any($1::int[])
     union all
     select a.store_id, 'audit', null from unnest($1::int[]) as a(store_id)`,
    [storeIds],
  );
}

/** The id of the newest mark; undefined when nothing is marked. */
export async function newestMark(db: Queryable): Promise<number | undefined> {
  const { rows } = await db.query<{ id: number }>(
    'select m.id from possync.ledger_marks m order by m.id desc limit 1',
  );
  return rows[0]?.id;
}

export async function hasMarks(db: Queryable, upTo: number): Promise<boolean> {
  const { rows } = await db.query('select from possync.ledger_marks m where m.id <= $1::bigint limit 1', [
    upTo,
  ]);
  return rows.length > 0;
}

/** Stores with marks, for when they have to be judged one by one. */
export async function markedStores(db: Queryable): Promise<number[]> {
  const { rows } = await db.query<{ store_id: number }>(
    'select distinct m.store_id from possync.ledger_marks m order by m.store_id',
  );
  return rows.map((row) => row.store_id);
}
