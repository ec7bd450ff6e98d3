/** SQL: the monthly partitions of what stores write: made ahead, and for any month of the past when its rows come. */
import type pg from 'pg';
import { isRetryableSql } from '../../core/classify.ts';
import { ident, publicTable } from '../../db/sql.ts';
import { queryOne, withTransaction } from '../../db/transaction.ts';

export interface PartitionReport {
  readonly created: number;
  /** Rows with a date that no partition is made for: a wrong clock or a typing error. They stay readable. */
  readonly unplaceable: number;
}

/** Three months: a partition is there long before its first row, even if nobody looks at HQ for a quarter. */
const MONTHS_AHEAD = 3;
const EARLIEST = '2000-01-01';
const LATEST = `interval '2 years'`;

export async function ensurePartitions(pool: pg.Pool): Promise<PartitionReport> {
  const { rows } = await pool.query<{ table_name: string; column_name: string; default_name: string }>(
    'select table_name, column_name, default_name from possync.monthly_tables order by table_name',
  );
  let created = 0;
  let unplaceable = 0;
  for (const { table_name: table, column_name: column, default_name: fallback } of rows) {
    const months = await missingMonths(pool, table, column, fallback);
    for (const month of months) created += await ensureMonth(pool, table, month);
    unplaceable += await noteUnplaceable(pool, table, column, fallback);
  }
  return { created, unplaceable };
}

async function missingMonths(
  pool: pg.Pool,
  table: string,
  column: string,
  fallback: string,
): Promise<string[]> {
  const { rows } = await pool.query<{ month: string }>(
    `select m.month::text as month
       from (select (date_trunc('month', now()) + make_interval(months => n))::date as month
               from generate_series(0, ${MONTHS_AHEAD}) n
             union
             select distinct date_trunc('month', x.${ident(column)})::date from ${publicTable(fallback)} x
              where x.${ident(column)} >= date '${EARLIEST}' and x.${ident(column)} < now() + ${LATEST}) m
      where to_regclass(format('public.%I', $1::text || to_char(m.month, '"_"YYYY"_"MM'))) is null
      order by m.month`,
    [table],
  );
  return rows.map(({ month }) => month);
}

/**
 * A transaction per partition: its locks are short, and a batch that meets them waits or is repeated.
 *
 * The table itself is locked before its default partition: a reader that waited at the partition would have planned
 * without the new one, and would then miss every row that has moved into it. Whoever comes meanwhile waits here, hence
 * the short limit.
 */
async function ensureMonth(pool: pg.Pool, table: string, month: string): Promise<number> {
  try {
    return await withTransaction(pool, async (tx) => {
      await tx.query(`set local lock_timeout = '500ms'`);
      await tx.query(`lock table only ${publicTable(table)} in access exclusive mode`);
      const { made } = await queryOne<{ made: boolean }>(
        tx,
        'select possync.ensure_month($1::text, $2::date) as made',
        [table, month],
      );
      return made ? 1 : 0;
    });
  } catch (error) {
    // Busy now: the rows are safe in the default partition, and the next minute tries again.
    if (isRetryableSql(error)) return 0;
    throw error;
  }
}

async function noteUnplaceable(
  pool: pg.Pool,
  table: string,
  column: string,
  fallback: string,
): Promise<number> {
  const { rows } = await pool.query<{ rows: number }>(
    `with odd as (
       select x.store_id, x.${ident(column)} as day, count(*) as rows from ${publicTable(fallback)} x
        where x.${ident(column)} < date '${EARLIEST}' or x.${ident(column)} >= now() + ${LATEST}
        group by x.store_id, x.${ident(column)})
     select o.rows, possync.note_finding(o.store_id, 'odd_date', $1::text, o.day::text,
                                         jsonb_build_object('rows', o.rows)) from odd o`,
    [table],
  );
  return rows.reduce((sum, row) => sum + row.rows, 0);
}
