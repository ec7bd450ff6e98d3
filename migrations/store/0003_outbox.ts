/**
 * The outbox: what tills have committed and HQ has not yet acknowledged, and for 35 days what it has.
 *
 *   raw      one line per captured row, written by the triggers in the till's own transaction; read and deleted whole
 *   outbox   one line per store transaction, dense in seq, chained by SHA-256; never updated but for acked_at
 *   state    who we are and the last sealed (epoch, seq, chain); written by the sealer alone
 *   sending  how far HQ has acknowledged, and how the sending goes; a row of its own, because an acknowledgement
 *            that commits during a sealing round must not make that round fail (it runs in REPEATABLE READ)
 *   tally    running totals of what was sealed and what was acknowledged: the queue is their difference, so a
 *            million queued rows are counted without reading one
 *   epochs   where HQ stood in each epoch that was closed by a re-enrolment
 *
 * New tables only: no lock on anything that exists, instant. raw is emptied every minute, hence its own vacuum rule.
 */
import type { Knex } from 'knex';

export const name = '0003_outbox';

const TABLES = `
create table possync.raw (
  id bigint generated always as identity, -- its sequence must keep CACHE 1: ids give the order of transactions
  xid xid8 not null default pg_current_xact_id(), -- of the top level: savepoints do not split a transaction
  at timestamptz not null default now(),
  type text not null, tbl text not null,
  op "char" not null check (op in ('I', 'U', 'S', 'D')), -- S: left its draft state; D: cancels rows of its transaction
  pk text not null, root text not null, high boolean not null,
  doc text, check ((op = 'D') = (doc is null)))
  with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
create index raw_xid on possync.raw (xid); -- is this row of my own transaction: asked when a till changes one

create table possync.seal_lock ();

create table possync.outbox (
  epoch integer not null check (epoch > 0), seq bigint not null check (seq > 0),
  v smallint not null default 1, -- version of the body: of when it was captured, whatever runs when it is sent
  body text not null, chain bytea not null check (length(chain) = 32),
  high boolean not null,
  captured_at timestamptz not null, sealed_at timestamptz not null default clock_timestamp(), acked_at timestamptz,
  -- what queue ls shows, so that listing parses no body
  type text not null, key text not null, records integer not null check (records > 0), rows integer not null,
  bytes bigint not null, types jsonb not null,
  primary key (epoch, seq));
create index outbox_waiting on possync.outbox (epoch, seq) where acked_at is null;
create index outbox_waiting_high on possync.outbox (epoch, seq) where acked_at is null and high;
create index outbox_acked on possync.outbox (acked_at) where acked_at is not null;

create table possync.state (
  one boolean primary key default true check (one),
  store_id integer check (store_id > 0), store_code text, check ((store_id is null) = (store_code is null)),
  epoch integer not null default 1 check (epoch > 0),
  seq bigint not null default 0 check (seq >= 0),
  chain bytea not null default '' check (length(chain) = case when seq = 0 then 0 else 32 end),
  pending_epoch uuid); -- a re-enrolment was asked for and its answer is not yet carried out
insert into possync.state default values;

create table possync.sending (
  one boolean primary key default true check (one),
  epoch integer not null default 1, seq bigint not null default 0, chain bytea not null default '',
  acked_at timestamptz, -- the last acknowledgement
  dead bigint[] not null default '{}', -- of the current epoch: refused by HQ, or parked there behind a refused one
  halted text, halted_why text, halted_at timestamptz, check ((halted is null) = (halted_at is null)),
  tries integer not null default 0, try_first bigint, try_last bigint, -- the batch at the head of the queue
  sending_at timestamptz, next_try_at timestamptz, last_error text, last_message text);
insert into possync.sending default values;

create table possync.tally (
  side text not null check (side in ('sealed', 'acked')),
  what text not null, -- a type of record, or #entries, #high, #bytes
  n bigint not null default 0,
  primary key (side, what));

create table possync.epochs (
  epoch integer primary key, seq bigint not null, chain bytea not null, closed_at timestamptz not null default now());
`;

const FUNCTIONS = `
-- chain(n) = sha256(chain(n-1) || n as 8 bytes, big-endian || body as UTF-8)
create function possync.chain_step(state bytea, prev bytea, seq bigint, body text) returns bytea
  language sql immutable as $$
  select sha256(coalesce(state, prev) || int8send(seq) || convert_to(body, 'UTF8'))
$$;
create aggregate possync.chain(prev bytea, seq bigint, body text) (sfunc = possync.chain_step, stype = bytea);

create function possync.tally_add(p_side text, p_what text, p_n bigint) returns void language sql as $$
  insert into possync.tally as t (side, what, n) values (p_side, p_what, p_n)
  on conflict (side, what) do update set n = t.n + excluded.n
$$;

`;

/** Bodies of version 1; a later migration writes another. */
export const SEAL_OUTBOX = `
-- Moves every visible capture into the outbox and returns how many transactions that were.
--
--   raw  (xid 7: a1 b3)   (xid 5: a2 c4)      order by max(id): xid 7 (3), xid 5 (4); never by xid or first id
--          │ last version of each row in its transaction; a deleted row cancels its earlier versions
--          ▼
--   outbox  n+1 {"sales":[…],"sale_lines":[…]}   n+2 …
--
-- If T2 read what T1 committed, the rows of T2 that depend on it were captured after all of T1's, so max(id) orders
-- them. Must run in a REPEATABLE READ transaction that locked seal_lock first: two sealers would give a seq twice,
-- and with a snapshot per statement a transaction could be cut in two.
create function possync.seal_outbox() returns bigint language plpgsql
  set search_path = pg_catalog, pg_temp
  set work_mem = '64MB'
  set jit = off as $$
declare
  v_epoch integer; v_seq bigint; v_chain bytea; v_sealed bigint;
begin
  select s.epoch, s.seq, s.chain into strict v_epoch, v_seq, v_chain from possync.state s;
  with gone as materialized (
    delete from possync.raw r returning r.id, r.xid, r.at, r.type, r.tbl, r.op, r.pk, r.root, r.high, r.doc
  ), kept as materialized (
    select g.id, g.xid, g.type, g.tbl, g.root, g.high, g.doc
      from gone g
     where g.op <> 'D'
       and not exists (select from gone later
                        where later.op <> 'I' and later.xid = g.xid and later.tbl = g.tbl and later.pk = g.pk
                          and later.id > g.id)
  ), transactions as (
    select g.xid, row_number() over (order by max(g.id)) + v_seq as seq, min(g.at) as captured_at
      from gone g
     where exists (select from kept k where k.xid = g.xid)
     group by g.xid
  ), parts as (
    select k.xid, min(k.id) as first_id, count(*) as rows, bool_or(k.high) as high,
           to_json(k.tbl)::text || ':[' || string_agg(k.doc, ',' order by k.id) || ']' as part
      from kept k group by k.xid, k.tbl
  ), bodies as (
    select p.xid, sum(p.rows)::integer as rows, bool_or(p.high) as high,
           '{' || string_agg(p.part, ',' order by p.first_id) || '}' as body
      from parts p group by p.xid
  ), records as (
    select k.xid, k.type, count(distinct k.root) as n, (array_agg(k.root order by k.id))[1] as key, min(k.id) as first_id
      from kept k group by k.xid, k.type
  ), summaries as (
    select r.xid, sum(r.n)::integer as records, jsonb_object_agg(r.type, r.n) as types,
           (array_agg(r.type order by r.first_id))[1] as type, (array_agg(r.key order by r.first_id))[1] as key
      from records r group by r.xid
  ), sealed as (
    insert into possync.outbox (epoch, seq, body, chain, high, captured_at, type, key, records, rows, bytes, types)
    select v_epoch, t.seq, b.body, possync.chain(v_chain, t.seq, b.body) over (order by t.seq),
           b.high, t.captured_at, s.type, s.key, s.records, b.rows, octet_length(b.body), s.types
      from transactions t join bodies b on b.xid = t.xid join summaries s on s.xid = t.xid
    returning seq, chain, high, bytes, types
  ), counted as (
    select w.what, sum(w.n)::bigint as n
      from sealed s
     cross join lateral (
       select '#entries' as what, 1::bigint as n
       union all select '#high', s.high::integer
       union all select '#bytes', s.bytes
       union all select e.key, e.value::text::bigint from jsonb_each(s.types) e) w
     group by w.what
  ), tallied as (
    insert into possync.tally as t (side, what, n) select 'sealed', c.what, c.n from counted c
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
  await db.raw(SEAL_OUTBOX);
}

export async function down(db: Knex): Promise<void> {
  await db.raw(`
drop function possync.seal_outbox();
drop function possync.tally_add(text, text, bigint);
drop aggregate possync.chain(bytea, bigint, text);
drop function possync.chain_step(bytea, bytea, bigint, text);
drop table possync.raw, possync.seal_lock, possync.outbox, possync.state, possync.sending, possync.tally, possync.epochs;
`);
}
