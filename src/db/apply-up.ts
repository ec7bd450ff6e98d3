/**
 * possync.apply_batch: the function at HQ that takes a batch of store transactions, made from the entity table.
 *
 *   bodies ──json_each once──▶ per table: all its rows of the whole batch ──one INSERT … ON CONFLICT DO NOTHING──▶ table
 *                                                                            └─ only if some row was there before:
 *                                                                               compare, move states, note findings
 *
 * Sets instead of rows make a batch of fresh sales cost one statement per table. The result is that of applying the
 * transactions one by one: rows of one record meet in the order of seq, and records do not depend on each other but
 * through their headers, which come first.
 *
 * It refuses with PS403 not yours · PS409 missing parent · PS410 other content under the same key · PS411 illegal
 * state · PS412 unknown table; the caller then takes the batch apart.
 */
import type { TableSpec } from '../protocol/entities.ts';
import { tablesOf } from '../protocol/entities.ts';
import { REPAIR_BEGIN, REPAIR_DECLARED, REPAIR_END } from './apply-up-repair.ts';
import { redatedFunction } from './apply-up-redated.ts';
import { applyBlock } from './apply-up-tables.ts';
import type { StoreEntity } from './capture-up-rows.ts';
import { dollarQuoted, ident, literal } from './sql.ts';
import type { Queryable } from './transaction.ts';

/** Column → type, as HQ's table has it, and whether it must have a value. */
export type ColumnTypes = ReadonlyMap<string, { readonly type: string; readonly required: boolean }>;

export async function installUpApply(db: Queryable, up: readonly StoreEntity[]): Promise<void> {
  const types = await columnTypes(db, up.flatMap(tablesOf));
  // One message is one transaction: a server that runs meanwhile finds the old one or the new one, never none.
  await db.query(
    `drop function if exists possync.apply_batch(integer, bigint[], text[]); ${applyFunction(up, types)}; ${redatedFunction(up, types)}`,
  );
  await ensureFirstMonths(db);
}

function applyFunction(up: readonly StoreEntity[], types: ReadonlyMap<string, ColumnTypes>): string {
  const tables = up.flatMap((entity) => tablesOf(entity).map((table) => ({ entity, table })));
  const order = tables.map(({ table }) => literal(table.table)).join(', ');
  const declared = up.flatMap((entity) => {
    const key = types.get(entity.root.table)?.get(entity.root.key[0] ?? 'id')?.type ?? 'uuid';
    return [
      `  ${ident(`keys_${entity.root.table}`)} ${key}[]; ${ident(`dates_${entity.root.table}`)} date[];`,
      `  ${ident(`seqs_${entity.root.table}`)} bigint[];`,
    ];
  });
  const blocks = tables.map(
    ({ entity, table }) => `    when ${literal(table.table)} then
${applyBlock(entity, table, up, types.get(table.table) ?? new Map())}`,
  );
  return `create function possync.apply_batch(p_store integer, p_seqs bigint[], p_bodies text[])
  returns void language plpgsql set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off as ${dollarQuoted(`declare
  part record; v record;
${REPAIR_DECLARED}
${declared.join('\n')}
begin
${REPAIR_BEGIN}
  for part in
    select t.key as tbl, array_agg(b.seq order by b.seq) as seqs, array_agg(t.value order by b.seq) as rows
      from unnest(p_seqs, p_bodies) as b(seq, body) cross join lateral json_each(b.body::json) t
     group by t.key
     order by array_position(array[${order}]::text[], t.key)
  loop
    case part.tbl
${blocks.join('\n')}
    else
      raise exception using errcode = 'PS412', message = format('HQ has no table %s', part.tbl);
    end case;
  end loop;
${REPAIR_END}
end`)}`;
}

async function columnTypes(
  db: Queryable,
  tables: readonly TableSpec[],
): Promise<ReadonlyMap<string, ColumnTypes>> {
  const { rows } = await db.query<{ tbl: string; name: string; type: string; required: boolean }>(
    `select c.relname::text as tbl, a.attname::text as name, format_type(a.atttypid, a.atttypmod) as type,
            a.attnotnull as required
       from pg_catalog.pg_class c
       join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname = 'public'
       join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      where c.relname = any($1::text[])`,
    [tables.map((table) => table.table)],
  );
  const types = new Map<string, Map<string, { type: string; required: boolean }>>();
  for (const { tbl, name, type, required } of rows) {
    const columns = types.get(tbl) ?? new Map<string, { type: string; required: boolean }>();
    columns.set(name, { type, required });
    types.set(tbl, columns);
  }
  return types;
}

/** Last month to three months ahead, so that a new HQ starts with partitions; later its own maintenance makes them. */
async function ensureFirstMonths(db: Queryable): Promise<void> {
  await db.query(
    `select possync.ensure_month(m.table_name, (date_trunc('month', now()) + make_interval(months => n))::date)
       from possync.monthly_tables m, generate_series(-1, 3) n
      where to_regclass(format('public.%I', m.table_name
              || to_char(date_trunc('month', now()) + make_interval(months => n), '"_"YYYY"_"MM'))) is null`,
  );
}
