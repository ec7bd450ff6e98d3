/** SQL: what a store's own database knows for its status; cheap, and right with the daemon down. */
import { readEntities } from '../db/own-types.ts';
import { publicTable } from '../db/sql.ts';
import { queryMaybe, queryOne, type Queryable } from '../db/transaction.ts';
import type { TodayView, TypeView } from '../protocol/status.ts';

/** The state of the link as the daemon last wrote it; times in milliseconds since 1970. */
export interface DbLinkRow {
  readonly indicator: 'green' | 'red';
  readonly state: string;
  readonly sinceMs: number;
  readonly lastFrameMs: number | null;
  readonly rttMs: number | null;
  readonly reasonCode: string | null;
  readonly reasonMessage: string | null;
  /** When the daemon's own diagnosis found that reason. */
  readonly diagnosedMs: number | null;
  readonly attempt: number;
  readonly nextAttemptMs: number | null;
  readonly hqUrl: string | null;
  readonly hqVersion: string | null;
  readonly hqHead: number | null;
  readonly kid: string | null;
  readonly pid: number;
  readonly version: string;
  readonly startedMs: number;
  readonly writtenMs: number;
  /** HQ's certificate, as last seen. */
  readonly tlsNotBeforeMs: number | null;
  readonly tlsNotAfterMs: number | null;
  /** HQ's clock minus this machine's, and how far that may be off. */
  readonly clockSkewMs: number | null;
  readonly clockErrorMs: number | null;
}

const ms = (column: string): string => `(extract(epoch from ${column}) * 1000)::bigint`;

/** undefined: no daemon has ever run here. */
export async function readLinkRow(db: Queryable): Promise<DbLinkRow | undefined> {
  return await queryMaybe<DbLinkRow>(
    db,
    `select l.indicator, l.state, ${ms('l.since')} as "sinceMs", ${ms('l.last_frame_at')} as "lastFrameMs",
            l.rtt_ms as "rttMs", l.reason_code as "reasonCode", l.reason_message as "reasonMessage",
            ${ms('l.diagnosed_at')} as "diagnosedMs", l.attempt,
            ${ms('l.next_attempt_at')} as "nextAttemptMs", l.hq_url as "hqUrl", l.hq_version as "hqVersion",
            l.hq_head as "hqHead", l.kid, l.pid, l.version, ${ms('l.started_at')} as "startedMs",
            ${ms('l.written_at')} as "writtenMs", ${ms('l.tls_not_before')} as "tlsNotBeforeMs",
            ${ms('l.tls_not_after')} as "tlsNotAfterMs", l.clock_skew_ms as "clockSkewMs",
            l.clock_error_ms as "clockErrorMs"
       from possync.link l`,
  );
}

/** The store's own row, as HQ sent it; undefined before the first download. */
export interface DbSelfRow {
  readonly name: string;
  readonly active: boolean;
  readonly timeZone: string;
}

export async function readSelf(db: Queryable, storeId: number): Promise<DbSelfRow | undefined> {
  return await queryMaybe<DbSelfRow>(
    db,
    'select s.name, s.active, s.time_zone as "timeZone" from public.stores s where s.id = $1::integer',
    [storeId],
  );
}

export async function readNowMs(db: Queryable): Promise<number> {
  const { now } = await queryOne<{ now: number }>(db, `select ${ms('clock_timestamp()')} as now`);
  return now;
}

/** Completed sales of today; before the first download the store's zone is unknown, and UTC counts. */
export async function readToday(db: Queryable, timeZone: string | undefined): Promise<TodayView> {
  return await queryOne<TodayView & { business_date: string }>(
    db,
    `select d.today::text as business_date,
            count(*) filter (where s.kind = 'sale') as sales,
            coalesce(sum(s.total) filter (where s.kind = 'sale'), 0)::bigint as revenue,
            coalesce(sum(s.tax_total) filter (where s.kind = 'sale'), 0)::bigint as tax,
            coalesce(sum(s.total) filter (where s.kind = 'refund'), 0)::bigint as refunds
       from (select possync.today_in($1::text) as today) d
       left join public.sales s on s.business_date = d.today and s.status = 'completed'
      group by d.today`,
    [timeZone ?? 'UTC'],
  );
}

/** Up: what HQ has acknowledged. Down: what is here. */
export async function readTypes(
  db: Queryable,
  lastUpAt: string | null,
  lastDownAt: string | null,
): Promise<Record<string, TypeView>> {
  const entities = await readEntities(db);
  const down = entities.filter((entity) => entity.direction === 'down');
  const here = await db.query<{ type: string; records: number }>(
    down
      .map(
        ({ type, root }) => `select '${type}' as type, count(*) as records from ${publicTable(root.table)}`,
      )
      .join(' union all '),
  );
  const sent = await db.query<{ type: string; records: number }>(
    `select t.what as type, t.n as records from possync.tally t where t.side = 'acked' and t.what not like '#%'`,
  );
  const records = new Map([...here.rows, ...sent.rows].map((row) => [row.type, row.records]));
  return Object.fromEntries(
    entities.map(({ type, direction }) => [
      type,
      {
        direction: direction === 'relay' ? 'both' : direction,
        last_success_at: direction === 'down' ? lastDownAt : (records.get(type) ?? 0) > 0 ? lastUpAt : null,
        records: records.get(type) ?? 0,
      },
    ]),
  );
}
