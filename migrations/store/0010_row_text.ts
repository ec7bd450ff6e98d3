/**
 * Bodies of version 2: rows as PostgreSQL's own text (src/protocol/row-text.ts has the form), which HQ hands to COPY,
 * instead of JSON. Less is written at the till and on the line, and sealing sorts once instead of once per table.
 *
 * What triggers of the release before have captured has no layout: it is JSON, and is sealed as such.
 *
 * Adding a column to possync.raw waits for open transactions of tills, and they wait for it; it is instant then.
 */
import type { Knex } from 'knex';
import { SEAL_OUTBOX } from './0003_outbox.ts';

export const name = '0010_row_text';

const TABLES = `
alter table possync.raw add column layout text collate "C";
alter table possync.outbox alter column v set default 2;
create table possync.layouts (id text primary key, tbl text not null, columns text[] not null);
`;

const FUNCTIONS = `
-- plpgsql: called once for each entry, and a function in SQL starts an executor each time.
create or replace function possync.chain_step(state bytea, prev bytea, seq bigint, body text) returns bytea
  language plpgsql immutable as $$
begin
  return sha256(coalesce(state, prev) || int8send(seq) || convert_to(body, 'UTF8'));
end $$;

-- Moves every visible capture into the outbox and returns how many transactions that were.
--
--   raw  (xid 7: a1 b3)   (xid 5: a2 c4)      order by max(id): xid 7 (3), xid 5 (4); never by xid or first id
--          │ last version of each row in its transaction; a deleted row cancels its earlier versions
--          ▼ sections: rows of one table in one transaction
--   outbox  n+1 'I 1 5d1c09aa sales …'   n+2 …
--
-- If T2 read what T1 committed, the rows of T2 that depend on it were captured after all of T1's, so max(id) orders
-- them. Must run in a REPEATABLE READ transaction that locked seal_lock first: two sealers would give a seq twice,
-- and with a snapshot per statement a transaction could be cut in two.
--
-- Rows are sorted once and grouped as they come: an ORDER BY inside an aggregate would sort each group by itself,
-- which was most of the time. Hence no hash aggregate, which need not keep the order.
create or replace function possync.seal_outbox() returns bigint language plpgsql
  set search_path = pg_catalog, pg_temp
  set work_mem = '64MB'
  set enable_hashagg = off
  set jit = off as $$
declare
  v_epoch integer; v_seq bigint; v_chain bytea; v_sealed bigint;
begin
  select s.epoch, s.seq, s.chain into strict v_epoch, v_seq, v_chain from possync.state s;
  with gone as materialized (
    delete from possync.raw r
    returning r.id, r.xid, r.at, r.type collate "C" as type, r.tbl, r.op, r.pk, r.root collate "C" as root, r.high,
              coalesce(r.layout, '- ' || r.tbl) as layout,
              -- A line feed between tokens of JSON means nothing, here it would end the row.
              case when r.layout is null then replace(r.doc, E'\\n', ' ') else r.doc end as doc
  ), rewritten as materialized ( -- only in these can a row have been captured twice
    select distinct g.xid from gone g where g.op <> 'I'
  ), kept as materialized (
    select g.id, g.xid, g.type, g.root, g.high, g.layout, g.doc, true as fresh
      from gone g where g.xid not in (select w.xid from rewritten w)
     union all
    select g.id, g.xid, g.type, g.root, g.high, g.layout, g.doc,
           exists (select from gone e where e.op = 'I' and e.xid = g.xid and e.tbl = g.tbl and e.pk = g.pk)
      from gone g join rewritten w on w.xid = g.xid
     where g.op <> 'D'
       and not exists (select from gone later
                        where later.op <> 'I' and later.xid = g.xid and later.tbl = g.tbl and later.pk = g.pk
                          and later.id > g.id)
  ), ordered as (
    select k.xid, k.layout, k.fresh, k.id, k.type, k.root, k.high, k.doc
      from kept k order by k.xid, k.layout, k.fresh, k.id
  ), sections as (
    select o.xid, o.layout, o.fresh, min(o.id) as first_id, count(*) as n, bool_or(o.high) as high,
           min(o.type) as type, min(o.root) as least, max(o.root) as greatest, string_agg(o.doc, E'\\n') as docs
      from ordered o group by o.xid, o.layout, o.fresh
  ), in_order as (
    select s.* from sections s order by s.xid, s.first_id
  ), bodies as materialized (
    select s.xid, sum(s.n)::integer as rows, bool_or(s.high) as high, min(s.type) as type, min(s.least) as key,
           min(s.type) = max(s.type) and min(s.least) = max(s.greatest) as single,
           string_agg(case when s.fresh then 'I ' else 'U ' end || s.n || ' ' || s.layout || E'\\n' || s.docs || E'\\n', '') as body
      from in_order s group by s.xid
  ), places as (
    select g.xid, row_number() over (order by max(g.id)) + v_seq as seq, min(g.at) as captured_at
      from gone g where g.xid in (select b.xid from bodies b) group by g.xid
  ), several as ( -- transactions of more than one record: these alone have to be counted
    select k.xid, k.type, k.root, min(k.id) as first_id
      from kept k where k.xid in (select b.xid from bodies b where not b.single) group by k.xid, k.type, k.root
  ), by_type as (
    select v.xid, v.type, count(*) as n from several v group by v.xid, v.type
  ), summaries as (
    select t.xid, sum(t.n)::integer as records, jsonb_object_agg(t.type, t.n) as types from by_type t group by t.xid
  ), firsts as (
    select distinct on (v.xid) v.xid, v.type, v.root as key from several v order by v.xid, v.first_id
  ), sealed as (
    insert into possync.outbox (epoch, seq, v, body, chain, high, captured_at, type, key, records, rows, bytes, types)
    select v_epoch, p.seq, 2, b.body, possync.chain(v_chain, p.seq, b.body) over (order by p.seq),
           b.high, p.captured_at, coalesce(f.type, b.type), coalesce(f.key, b.key), coalesce(m.records, 1), b.rows,
           octet_length(b.body), coalesce(m.types, jsonb_build_object(b.type, 1))
      from places p join bodies b on b.xid = p.xid
      left join summaries m on m.xid = p.xid
      left join firsts f on f.xid = p.xid
    returning seq, chain
  ), counted as (
    select b.type as what, count(*) as n from bodies b where b.single group by b.type
     union all select t.type, t.n from by_type t
     union all select '#entries', count(*) from bodies
     union all select '#high', count(*) from bodies b where b.high
     union all select '#bytes', sum(octet_length(b.body))::bigint from bodies b
  ), summed as (
    select c.what, sum(c.n)::bigint as n from counted c group by c.what having sum(c.n) <> 0
  ), tallied as (
    insert into possync.tally as t (side, what, n) select 'sealed', s.what, s.n from summed s
    on conflict (side, what) do update set n = t.n + excluded.n
  ), moved as (
    update possync.state s set seq = l.seq, chain = l.chain
      from (select x.seq, x.chain from sealed x order by x.seq desc limit 1) l
  )
  select count(*) into v_sealed from sealed;
  return v_sealed;
end $$;
`;

export async function up(db: Knex): Promise<void> {
  await db.raw(TABLES);
  await db.raw(FUNCTIONS);
}

export async function down(db: Knex): Promise<void> {
  await db.raw(`
do $$ begin
  if exists (select from possync.raw r where r.layout is not null) then
    raise exception 'captures of this version are not sealed yet' using hint = 'let the store seal them first';
  end if;
end $$;
alter table possync.outbox alter column v set default 1;
alter table possync.raw drop column layout;
drop table possync.layouts;
drop function possync.seal_outbox();`);
  await db.raw(SEAL_OUTBOX);
}
