/** SQL: what HQ knows of each store for its status; one row per store, in one statement. */
import { queryOne, type Queryable } from '../db/transaction.ts';

/** Times are milliseconds since 1970 by the database's clock, which has also written them. */
export interface DbStoreRow {
  readonly id: number;
  readonly code: string;
  readonly name: string;
  readonly active: boolean;
  readonly nowMs: number;
  readonly activatedMs: number | null;
  /** It has a credential that HQ accepts. */
  readonly credential: boolean;
  readonly connected: boolean;
  readonly linkSinceMs: number | null;
  readonly lastFrameMs: number | null;
  readonly writtenMs: number | null;
  readonly rttMs: number | null;
  readonly closeCode: number | null;
  readonly closeReason: string | null;
  readonly software: string | null;
  readonly queued: number | null;
  readonly oldestMs: number | null;
  readonly halted: string | null;
  readonly downError: string | null;
  readonly statMs: number | null;
  readonly pushedMs: number | null;
  readonly stopped: string | null;
  readonly lastPullMs: number | null;
  readonly lastSyncMs: number | null;
  readonly cursor: number | null;
  readonly pending: number;
  readonly parked: number;
  readonly findings: number;
  readonly today: string;
  readonly sales: number;
  readonly revenue: number;
  readonly tax: number;
  readonly refunds: number;
}

/** Counting on tells nobody more than "very far behind". */
const PENDING_LIMIT = 1_000_000;

const ms = (column: string): string => `(extract(epoch from ${column}) * 1000)::bigint`;

/**
 * The newest of what the store said of its cursor and what it last pulled from: either may be older than the other.
 * A connected store that says "nothing waits", or whose downloads work, has synced though it sent nothing: its report
 * counts. The report of one that neither can send nor apply does not.
 */
const STORES = `
select s.id, s.code, s.name, s.active, ${ms('now()')} as "nowMs", ${ms('p.activated_at')} as "activatedMs",
       exists (select from possync.tokens t
                where t.store_id = s.id and t.kind = 'credential' and t.state in ('active', 'retiring')
                  and (t.expires_at is null or t.expires_at > now())) as credential,
       coalesce(l.connected, false) as connected, ${ms('l.since')} as "linkSinceMs",
       ${ms('l.last_frame_at')} as "lastFrameMs", ${ms('l.written_at')} as "writtenMs", l.rtt_ms as "rttMs",
       l.close_code as "closeCode", l.close_reason as "closeReason", l.software,
       (l.stat #>> '{out,queued}')::bigint as queued,
       l.stat #>> '{out,oldestAt}' as "oldestAt",
       l.stat #>> '{out,halted}' as halted, l.stat #>> '{in,error}' as "downError", ${ms('l.stat_at')} as "statMs",
       ${ms('b.pushed_at')} as "pushedMs", b.stopped, ${ms('c.at')} as "lastPullMs",
       ${ms('greatest(b.pushed_at, b.hello_at, c.at, k.synced_at)')} as "lastSyncMs",
       u.cursor, coalesce(f.pending, 0) as pending, coalesce(d.parked, 0) as parked, coalesce(n.findings, 0) as findings,
       y.today::text as today, t.sales, t.revenue, t.tax, t.refunds
  from public.stores s
  left join possync.store_status p on p.store_id = s.id
  left join possync.live_links l on l.store_id = s.id
  left join possync.inbox b on b.store_id = s.id
  left join possync.store_cursor c on c.store_id = s.id
 cross join lateral (
   select case when l.stat_at is not null and (c.at is null or l.stat_at >= c.at)
               then (l.stat #>> '{in,pos}')::bigint else c.pos end as cursor) u
 cross join lateral (
   select case when l.stat #>> '{in,error}' is null or (l.stat #>> '{out,queued}')::bigint = 0
               then l.stat_at end as synced_at) k
  left join lateral (
   select count(*) as pending from (
     (select from possync.feed x where x.store_id = 0 and x.pos > coalesce(u.cursor, 0)
         and (coalesce(u.cursor, 0) > 0 or x.doc is not null) limit ${PENDING_LIMIT})
     union all
     (select from possync.feed x where x.store_id = s.id and x.pos > coalesce(u.cursor, 0)
         and (coalesce(u.cursor, 0) > 0 or x.doc is not null) limit ${PENDING_LIMIT})) w) f on true
  left join (select x.store_id, count(*) as parked from possync.dead x group by x.store_id) d on d.store_id = s.id
  left join (select x.store_id, count(*) as findings from possync.findings x
              where x.closed_at is null and not x.note group by x.store_id) n on n.store_id = s.id
 cross join lateral (select possync.today_in(s.time_zone) as today) y
 cross join lateral (
   select count(*) filter (where x.kind = 'sale') as sales,
          coalesce(sum(x.total) filter (where x.kind = 'sale'), 0)::bigint as revenue,
          coalesce(sum(x.tax_total) filter (where x.kind = 'sale'), 0)::bigint as tax,
          coalesce(sum(x.total) filter (where x.kind = 'refund'), 0)::bigint as refunds
     from public.sales x
    where x.store_id = s.id and x.business_date = y.today and x.status = 'completed') t
 where $1::integer is null or s.id = $1::integer
 order by s.code`;

export async function readStoreRows(
  tx: Queryable,
  storeId: number | undefined,
): Promise<{ head: number; rows: DbStoreRow[] }> {
  const { head } = await queryOne<{ head: number }>(tx, 'select h.pos as head from possync.head h');
  const { rows } = await tx.query<DbStoreRow & { oldestAt: string | null }>(STORES, [storeId ?? null]);
  return { head, rows: rows.map((row) => ({ ...row, oldestMs: timeOf(row.oldestAt) })) };
}

/** A store's own text, and not cast by PostgreSQL: one that is no time would end the statement for all stores. */
function timeOf(text: string | null): number | null {
  const ms = text === null ? NaN : Date.parse(text);
  return Number.isNaN(ms) ? null : ms;
}
