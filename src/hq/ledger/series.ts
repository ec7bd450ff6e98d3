/**
 * SQL: receipt numbers as ranges: of each session, and of all sessions of a register together.
 *
 * A register's sales are never counted through: a session that changes is, and its ranges (usually one) are put together
 * with those of the others.
 */
import type { Queryable } from '../../db/transaction.ts';
import { readRanges, type Series } from './numbers.ts';

export interface SeriesKey {
  readonly storeId: number;
  readonly registerId: string;
  readonly prefix: string;
}

/** A longer one is no number that a register counts up; and an index could not hold it. */
const LONGEST_RECEIPT = 60;
/** A session whose receipts have (nearly) all different prefixes is not numbered at all. */
const MOST_PREFIXES = 10;
/** More ranges than that are no numbers one after the other. */
const MOST_RANGES = 2_000;

/** Counts the sessions; returns the series in which something has changed. */
export async function countReceipts(
  tx: Queryable,
  [storeIds, sessionIds]: readonly [number[], string[]],
): Promise<SeriesKey[]> {
  const { rows } = await tx.query<SeriesKey & Record<string, unknown>>(
    `with keys as (select k.store_id, k.id from unnest($1::int[], $2::uuid[]) as k(store_id, id)),
     counted as (
       select k.store_id, k.id, x.register_id, x.prefix, x.n, x.times
         from keys k
        cross join lateral (
          select s.register_id, left(s.receipt_number, -length(t.digits)) as prefix, t.digits::bigint as n, count(*) as times
            from public.sales s
           cross join lateral (select substring(s.receipt_number from '[0-9]{1,18}$') as digits) t
           where s.store_id = k.store_id and s.session_id = k.id and t.digits is not null
             and length(s.receipt_number) <= ${LONGEST_RECEIPT}
           group by s.register_id, 2, 3) x),
     ranges as (
       select c.store_id, c.id, c.register_id, c.prefix, range_agg(int8range(c.n, c.n, '[]')) as numbers,
              coalesce(range_agg(int8range(c.n, c.n, '[]')) filter (where c.times > 1), '{}') as doubles,
              count(*) over (partition by c.store_id, c.id) as prefixes,
              sum(count(*)) over (partition by c.store_id, c.id) as receipts
         from counted c group by c.store_id, c.id, c.register_id, c.prefix),
     fresh as (
       select r.store_id, r.id, r.register_id, r.prefix, r.numbers, r.doubles from ranges r
        where r.prefixes <= greatest(${MOST_PREFIXES}, r.receipts / 2)),
     gone as (
       delete from possync.ledger_receipts r using keys k
        where r.store_id = k.store_id and r.session_id = k.id
          and not exists (select from fresh f where f.store_id = r.store_id and f.id = r.session_id
                             and f.register_id = r.register_id and f.prefix = r.prefix)
       returning r.store_id, r.register_id, r.prefix),
     kept as (
       insert into possync.ledger_receipts as r (store_id, session_id, register_id, prefix, numbers, doubles)
       select f.store_id, f.id, f.register_id, f.prefix, f.numbers, f.doubles from fresh f
       on conflict (store_id, register_id, prefix, session_id) do update
          set numbers = excluded.numbers, doubles = excluded.doubles
        where (r.numbers, r.doubles) is distinct from (excluded.numbers, excluded.doubles)
       returning r.store_id, r.register_id, r.prefix)
     select g.store_id as "storeId", g.register_id as "registerId", g.prefix from gone g
      union select k.store_id, k.register_id, k.prefix from kept k`,
    [storeIds, sessionIds],
  );
  return rows;
}

/**
 * Puts the sessions of these series together. Sorted by their beginning, a range that begins before an earlier one has
 * ended shares numbers with it.
 */
export async function joinSeries(tx: Queryable, keys: readonly SeriesKey[]): Promise<void> {
  await tx.query(
    `insert into possync.ledger_series as l (store_id, register_id, prefix, numbers, doubles, shared)
     select k.store_id, k.register_id, k.prefix, coalesce(a.numbers, '{}'), coalesce(a.doubles, '{}'),
            coalesce(s.shared, '{}')
       from unnest($1::int[], $2::uuid[], $3::text[]) as k(store_id, register_id, prefix)
      cross join lateral (
        select range_agg(r.numbers) as numbers, range_agg(r.doubles) as doubles
          from possync.ledger_receipts r
         where r.store_id = k.store_id and r.register_id = k.register_id and r.prefix = k.prefix) a
      cross join lateral (
        select range_agg(int8range(lower(w.part), least(upper(w.part), w.before))) as shared
          from (select u.part, max(upper(u.part)) over (order by lower(u.part), upper(u.part)
                                 rows between unbounded preceding and 1 preceding) as before
                  from possync.ledger_receipts r cross join lateral unnest(r.numbers) as u(part)
                 where r.store_id = k.store_id and r.register_id = k.register_id and r.prefix = k.prefix) w
         where w.before > lower(w.part)) s
     on conflict (store_id, prefix, register_id) do update
        set numbers = excluded.numbers, doubles = excluded.doubles, shared = excluded.shared
      where (l.numbers, l.doubles, l.shared) is distinct from (excluded.numbers, excluded.doubles, excluded.shared)`,
    [
      keys.map(({ storeId }) => storeId),
      keys.map(({ registerId }) => registerId),
      keys.map(({ prefix }) => prefix),
    ],
  );
}

interface DbSeriesRow extends Record<string, unknown> {
  storeId: number;
  registerId: string;
  prefix: string;
  numbers: string | null;
  doubles: string;
  shared: string;
}

/** All series of these stores with these prefixes, whichever register: a numbering may be shared. */
export async function readSeries(
  tx: Queryable,
  keys: readonly SeriesKey[],
): Promise<(Series & { readonly storeId: number })[]> {
  const { rows } = await tx.query<DbSeriesRow>(
    `select l.store_id as "storeId", l.register_id as "registerId", l.prefix,
            case when n.ranges <= ${MOST_RANGES} then l.numbers::text end as numbers,
            case when n.ranges <= ${MOST_RANGES} then l.doubles::text else '{}' end as doubles,
            case when n.ranges <= ${MOST_RANGES} then l.shared::text else '{}' end as shared
       from (select distinct k.store_id, k.prefix from unnest($1::int[], $2::text[]) as k(store_id, prefix)) k
       join possync.ledger_series l on l.store_id = k.store_id and l.prefix = k.prefix
      cross join lateral (select count(*) as ranges from unnest(l.numbers)) n
      order by l.store_id, l.prefix, l.register_id`,
    [keys.map(({ storeId }) => storeId), keys.map(({ prefix }) => prefix)],
  );
  return rows.map((row) => ({
    storeId: row.storeId,
    registerId: row.registerId,
    prefix: row.prefix,
    numbers: row.numbers === null ? undefined : readRanges(row.numbers),
    doubles: readRanges(row.doubles),
    shared: readRanges(row.shared),
  }));
}
