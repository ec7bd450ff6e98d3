/**
 * possync.refuse_redated: no record of a partitioned table is there under two dates.
 *
 * The date is part of the key at HQ, because a partitioned table must have it there; so the same id under another date
 * is no conflict for PostgreSQL, and a sale that a store writes anew with a corrected business date would count twice.
 * Dates are immutable: such a row is other content under the same key, PS410, like any other.
 *
 * Looked for is where it can be: from 45 days before the earliest of the rows' dates, and of the times in their UUIDs
 * (a register whose clock was years off), to 45 days after the latest. That is three partitions instead of all.
 */
import type { ColumnTypes } from './apply-up.ts';
import type { StoreEntity } from './capture-up-rows.ts';
import { dollarQuoted, ident, literal, publicTable } from './sql.ts';

const AROUND_DAYS = 45;

/** The day in a UUID of version 7, which begins with its milliseconds. */
const DAY_OF_ID = `(timestamptz 'epoch' + ('x' || substr(u.k, 1, 8) || substr(u.k, 10, 4))::bit(48)::bigint * interval '1 millisecond')::date`;

export function redatedFunction(up: readonly StoreEntity[], types: ReadonlyMap<string, ColumnTypes>): string {
  const blocks = up.flatMap((entity) => {
    const { root } = entity;
    const date = entity.up.partitionColumn;
    const [key] = root.key;
    if (date === null || key === undefined || root.key.length > 1) return [];
    const type = types.get(root.table)?.get(key)?.type ?? 'uuid';
    const minted = type === 'uuid' ? `case when u.k ~ '^.{14}7' then ${DAY_OF_ID} end` : 'null::date';
    return [
      `  select array_agg(u.k), least(min(u.d::date), min(${minted})) - ${AROUND_DAYS},
         greatest(max(u.d::date), max(${minted})) + ${AROUND_DAYS}
    into v_keys, v_from, v_to
    from unnest(p_tables, p_keys, p_dates) as u (t, k, d) where u.t = ${literal(root.table)};
  if v_keys is not null then
    select s.${ident(key)}::text into v_key from ${publicTable(root.table)} s
     where s.store_id = p_store and s.${ident(key)} = any (v_keys::${type}[]) and s.${ident(date)} between v_from and v_to
     group by s.${ident(key)} having count(*) > 1 limit 1;
    if found then
      raise exception using errcode = 'PS410', message = ${literal(`${entity.title}: it is there under another ${date}`)}, detail = v_key;
    end if;
  end if;`,
    ];
  });
  return `create or replace function possync.refuse_redated(p_store integer, p_tables text[], p_keys text[], p_dates text[])
  returns void language plpgsql set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off as ${dollarQuoted(`declare
  v_keys text[]; v_from date; v_to date; v_key text;
begin
${blocks.join('\n')}
end`)}`;
}
