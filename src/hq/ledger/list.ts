/** SQL: how Z and ZZ reports stand, for people: counts by state, and the reports themselves. */
import type { Queryable } from '../../db/transaction.ts';
import type { State } from './judge.ts';

export interface ReportRow {
  readonly storeId: number;
  readonly kind: 'z' | 'zz';
  /** The register's code, or its id where HQ does not know the register; none of a ZZ. */
  readonly register: string | null;
  readonly number: number;
  /** The business date of a Z, the month of a ZZ. */
  readonly period: string;
  readonly state: State;
  readonly why: string | null;
  /** RFC 3339: in this state since then. */
  readonly since: string;
}

export interface ReportFilter {
  readonly storeId?: number | undefined;
  /** Complete ones as well. */
  readonly all: boolean;
}

const SINCE = `to_char(l.since at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as since`;

export async function listReports(db: Queryable, { storeId, all }: ReportFilter): Promise<ReportRow[]> {
  const { rows } = await db.query<ReportRow & Record<string, unknown>>(
    `select l.store_id as "storeId", 'z' as kind, coalesce(r.code, l.register_id::text) as register, l.number,
            z.business_date::text as period, l.state, l.why, ${SINCE}
       from possync.ledger_z l
       join public.z_reports z on z.store_id = l.store_id and z.id = l.z_id
       left join public.registers r on r.store_id = l.store_id and r.id = l.register_id
      where ($1::int is null or l.store_id = $1::int) and ($2::boolean or l.state <> 'complete')
     union all
     select l.store_id, 'zz', null, l.number, l.month, l.state, l.why, ${SINCE}
       from possync.ledger_zz l
      where ($1::int is null or l.store_id = $1::int) and ($2::boolean or l.state <> 'complete')
      order by 1, 2, 3, 4`,
    [storeId ?? null, all],
  );
  return rows;
}

export interface ReportCounts {
  readonly storeId: number;
  readonly kind: 'z' | 'zz';
  readonly state: State;
  readonly reports: number;
}

export async function countReports(db: Queryable, storeId?: number): Promise<ReportCounts[]> {
  const { rows } = await db.query<ReportCounts & Record<string, unknown>>(
    `select l.store_id as "storeId", 'z' as kind, l.state, count(*) as reports from possync.ledger_z l
      where $1::int is null or l.store_id = $1::int group by l.store_id, l.state
     union all
     select l.store_id, 'zz', l.state, count(*) from possync.ledger_zz l
      where $1::int is null or l.store_id = $1::int group by l.store_id, l.state`,
    [storeId ?? null],
  );
  return rows;
}
