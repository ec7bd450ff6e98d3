/**
 * Writes possync.seal(): one sealing round, as static SQL made from the entity table.
 *
 *   capture (keys)  ──delete──▶  keys per type
 *                                  │ shown = documents of those records now, per audience    (this snapshot)
 *                                  │ known = documents in the feed
 *                                  ▼
 *                     shown FULL JOIN known, keep what differs (updated_at apart)
 *                                  │ positions base+1 …: removals first, then documents
 *                                  ▼
 *                     feed · head · rounds, one NOTIFY
 *
 * The caller's transaction is REPEATABLE READ and locked seal_lock before its first snapshot (hq/feed/seal.ts): so
 * rounds are serial, and each takes everything that is visible. A round is never cut in two: a document is from this
 * snapshot, and keys left for later would mix two states.
 *
 * No temporary tables and no session state, so that it runs through a transaction pooler. Keys go through arrays:
 * with force_custom_plan the planner sees how many there are, and picks index lookups for one and a hash for 100,000.
 */
import {
  downEntities,
  type ChildSpec,
  type DownEntity,
  type Entity,
  type RelayEntity,
} from '../protocol/entities.ts';
import type { ColumnTypes } from './column-types.ts';
import { keyPart } from './record-key.ts';
import { dollarQuoted, ident, literal, publicTable } from './sql.ts';

type Down = DownEntity | RelayEntity;

function objectOf(alias: string, columns: readonly string[], stamped: boolean): string {
  const all = stamped ? [...columns, 'updated_at'] : columns;
  return all.map((column) => `${literal(column)}, ${alias}.${ident(column)}`).join(', ');
}

/** The children of one record as an array in the order of their keys, which must not depend on a collation. */
function childArray(child: ChildSpec, root: Down['root'], types: ColumnTypes): string {
  const joined = child.parentKey.map((column, i) => `c.${ident(column)} = r.${ident(root.key[i] ?? column)}`);
  const order = child.key
    .filter((column) => !child.parentKey.includes(column))
    .map((column) => `c.${ident(column)}${types.of(child.table, column) === 'text' ? ' collate "C"' : ''}`);
  const rows = `jsonb_agg(jsonb_build_object(${objectOf('c', child.columns, child.stamped)}) order by ${order.join(', ')})`;
  return `${literal(child.field)}, (select coalesce(${rows}, '[]'::jsonb)
             from ${publicTable(child.table)} c
            where ${[...joined, ...(child.link ? ['c."active"'] : [])].join(' and ')})`;
}

/** jsonb_build_object takes 100 arguments, a record may have more columns. */
const PAIRS_PER_CALL = 40;

function documentOf(entity: Down, types: ColumnTypes): string {
  const { root, children } = entity;
  const columns = root.stamped ? [...root.columns, 'updated_at'] : root.columns;
  const calls: string[] = [];
  for (let from = 0; from < columns.length; from += PAIRS_PER_CALL) {
    calls.push(`jsonb_build_object(${objectOf('r', columns.slice(from, from + PAIRS_PER_CALL), false)})`);
  }
  for (const child of children) calls.push(`jsonb_build_object(${childArray(child, root, types)})`);
  return calls.join('\n           || ');
}

/** One row per scope of the record `r`. Scope 0 rules out every other: never both kinds at once. */
function scopesOf({ down }: Down): string {
  const { audience } = down;
  switch (audience.kind) {
    case 'all':
      return '(select 0 as store_id)';
    case 'column':
      return `(select coalesce(r.${ident(audience.column)}, 0) as store_id)`;
    case 'query':
      return `(select distinct case when bool_or(q.store_id = 0) over () then 0 else q.store_id end as store_id
            from (${audience.sql}) q (store_id) where q.store_id is not null)`;
  }
}

/** The document without what is never a reason to send it: updated_at of the record and of its children. */
function comparable(doc: string, entity: Down): string {
  let expression = entity.root.stamped ? `(${doc} - 'updated_at')` : doc;
  for (const child of entity.children) {
    if (!child.stamped) continue;
    expression = `(case when ${doc} is null then null else jsonb_set(${expression}, array[${literal(child.field)}],
             (select coalesce(jsonb_agg(e.value - 'updated_at' order by e.ordinality), '[]'::jsonb)
                from jsonb_array_elements(${doc} -> ${literal(child.field)}) with ordinality e)) end)`;
  }
  return expression;
}

function urgentCondition({ down }: Down): string {
  if (down.priority === 'high') return 'true';
  if (down.priority === 'normal') return 'false';
  const changed = down.priority.highColumns.map(
    (column) => `(d.doc -> ${literal(column)}) is distinct from (d.was -> ${literal(column)})`,
  );
  return `(d.doc is not null and d.was is not null and (${changed.join(' or ')}))`;
}

/** One type in one statement: what it moved, whose stores, whether it is urgent. */
function sealEntity(entity: Down, types: ColumnTypes): string {
  const { type, root, down } = entity;
  const keys = root.key.map((column, i) => `${keyPart('u.pk', i, types.of(root.table, column))} as k${i}`);
  const join = root.key.map((column, i) => `r.${ident(column)} = k.k${i}`).join(' and ');
  return `    when ${literal(type)} then
      with k as materialized (
        select u.pk, ${keys.join(', ')} from unnest(v_batch.pks) u (pk)
      ), shown as (
        select k.pk, s.store_id, ${documentOf(entity, types)} as doc
          from k join ${publicTable(root.table)} r on ${join}
         cross join lateral ${scopesOf(entity)} s${down.when === undefined ? '' : `\n         where ${down.when}`}
      ), known as (
        select f.pk, f.store_id, f.doc from k join possync.feed f on f.entity = ${literal(type)} and f.pk = k.pk
      ), differing as (
        select coalesce(s.pk, f.pk) as pk, coalesce(s.store_id, f.store_id) as store_id, s.doc, f.doc as was
          from shown s full join known f on f.pk = s.pk and f.store_id = s.store_id
         where ${comparable('s.doc', entity)} is distinct from ${comparable('f.doc', entity)}
      ), numbered as materialized (
        select d.pk, d.store_id, d.doc, v_head + row_number() over (order by d.doc is not null) as pos,
               ${urgentCondition(entity)} as urgent
          from differing d
      ), stored as (
        insert into possync.feed as f (entity, pk, store_id, pos, doc)
        select ${literal(type)}, n.pk, n.store_id, n.pos, n.doc from numbered n
        on conflict (entity, pk, store_id) do update set pos = excluded.pos, doc = excluded.doc
      )
      select count(*), coalesce(array_agg(distinct n.store_id), '{}'), coalesce(bool_or(n.urgent), false)
        into v_moved, v_touched, v_high from numbered n;`;
}

/** The definition of possync.seal(); returns null when nothing that travels has changed. */
export function sealFunction(entities: readonly Entity[], types: ColumnTypes): string {
  const body = `declare
  v_batch record;
  v_start bigint;
  v_head bigint;
  v_moved bigint;
  v_touched integer[];
  v_stores integer[] := '{}';
  v_high boolean;
  v_urgent boolean := false;
  v_nonce uuid;
begin
  if not exists (select from possync.capture) then
    return;
  end if;
  -- A round that a crash takes back would give its positions twice. Local: it must hold beyond this function.
  perform set_config('synchronous_commit', 'on', true);
  select h.pos into strict v_start from possync.head h;
  v_head := v_start;
  for v_batch in
    with taken as (delete from possync.capture c returning c.entity, c.pk),
         keys as (select distinct t.entity, t.pk from taken t)
    select k.entity, array_agg(k.pk) as pks from keys k group by k.entity order by k.entity
  loop
    v_moved := 0;
    v_touched := '{}';
    v_high := false;
    case v_batch.entity
${downEntities(entities)
  .map((entity) => sealEntity(entity, types))
  .join('\n')}
    else
      null; -- a type that is no longer described: nobody can say what its records look like
    end case;
    v_head := v_head + v_moved;
    v_urgent := v_urgent or v_high;
    v_stores := v_stores || v_touched;
  end loop;
  if v_head = v_start then
    return;
  end if;
  select array_agg(distinct s.store_id order by s.store_id) into v_stores from unnest(v_stores) s (store_id);
  update possync.head h set pos = v_head;
  insert into possync.rounds (head, records, stores, urgent)
  values (v_head, (v_head - v_start)::integer, nullif(v_stores, '{0}'), v_urgent)
  returning rounds.nonce into v_nonce;
  perform pg_notify('possync_head', v_head::text);
  return query select v_head, v_nonce, (v_head - v_start)::integer, nullif(v_stores, '{0}'), v_urgent;
end`;
  return `drop function if exists possync.seal();
create function possync.seal()
  returns table (head bigint, nonce uuid, records integer, stores integer[], urgent boolean)
  language plpgsql
  set search_path = pg_catalog, pg_temp
  -- Documents must not depend on the session that seals: two sealers would move every record back and forth.
  set timezone = 'UTC'
  set bytea_output = 'hex'
  set intervalstyle = 'postgres'
  set plan_cache_mode = force_custom_plan
  set work_mem = '64MB'
  set jit = off
as ${dollarQuoted(body)}`;
}
