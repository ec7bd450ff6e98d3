/**
 * The inbox: how far HQ has taken what each store sends, and what it could not take.
 *
 *   inbox        one row per store, locked and moved in the transaction that applies a batch: hence exactly once
 *   inbox_chain  ends of the last batches, to find where two histories parted
 *   dead         store transactions that were refused, whole, and those parked behind one (a record is parked while a
 *                row here names it in `aggregates`: there is no second list that could disagree)
 *   findings     what is odd but no reason to refuse: kept and shown, never dropped
 *   queue_audit  who retried or dropped what, and why
 *
 * possync.ensure_month(table, month) makes the partition of a month. It moves rows that met the default partition in
 * the same transaction: attaching fails while the default partition holds a row that belongs to the new one. It locks
 * that one default partition against writers, for as long as the move takes; batches that meet it wait.
 *
 * New tables only: no lock on anything that exists, instant.
 */
import type { Knex } from 'knex';

export const name = '0003_inbox';

const TABLES = `
create table possync.inbox (
  store_id integer primary key,
  epoch integer not null default 1 check (epoch > 0),
  seq bigint not null default 0 check (seq >= 0),
  chain bytea not null default '' check (length(chain) = case when seq = 0 then 0 else 32 end),
  fence uuid, -- random: a counter would repeat after HQ was restored
  instance jsonb, software text, hello_at timestamptz,
  declared jsonb not null default '[]', -- last (seq, chain) of each epoch, as the store's hello says
  request uuid, closed jsonb, -- the last re-enrolment, so that asking again gets the same answer
  pushed_at timestamptz, -- last batch that was taken
  dead_streak integer not null default 0, breaker_waived boolean not null default false,
  stopped text, stopped_why text, stopped_at timestamptz);

create table possync.inbox_chain (
  store_id integer not null, epoch integer not null, seq bigint not null, chain bytea not null,
  primary key (store_id, epoch, seq));

create table possync.dead (
  store_id integer not null, epoch integer not null, seq bigint not null,
  v integer not null, body text not null,
  type text not null, key text not null, aggregates text[] not null,
  kind text not null check (kind in ('data', 'missing_parent', 'parked')),
  sqlstate text, error text not null, behind_epoch integer, behind_seq bigint,
  tries integer not null default 1, first_at timestamptz not null default now(),
  last_at timestamptz not null default now(), next_try_at timestamptz,
  primary key (store_id, epoch, seq));
create index dead_waiting on possync.dead (next_try_at) where kind = 'missing_parent';

create table possync.findings (
  id bigint generated always as identity primary key,
  store_id integer not null, kind text not null, type text not null, key text not null,
  detail jsonb not null default '{}', times bigint not null default 1,
  first_at timestamptz not null default now(), last_at timestamptz not null default now(),
  unique (store_id, kind, type, key));

create table possync.queue_audit (
  id bigint generated always as identity primary key,
  at timestamptz not null default now(), actor text not null,
  action text not null check (action in ('retry', 'drop', 're-enrol')),
  store_id integer not null, epoch integer not null, seq bigint,
  reason text, body text, detail jsonb not null default '{}');
`;

const FUNCTIONS = `
create function possync.note_finding(p_store integer, p_kind text, p_type text, p_key text, p_detail jsonb)
  returns void language sql as $$
  insert into possync.findings as f (store_id, kind, type, key, detail) values (p_store, p_kind, p_type, p_key, p_detail)
  on conflict (store_id, kind, type, key)
  do update set times = f.times + 1, last_at = now(), detail = excluded.detail
$$;

-- Tables partitioned by one date column, with their default partition.
create view possync.monthly_tables as
  select c.oid as table_oid, c.relname::text as table_name, a.attname::text as column_name, d.relname::text as default_name
    from pg_catalog.pg_partitioned_table p
    join pg_catalog.pg_class c on c.oid = p.partrelid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname = 'public'
    join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = p.partattrs[0] and a.atttypid = 'date'::regtype
    join pg_catalog.pg_class d on d.oid = p.partdefid
   where p.partstrat = 'r' and p.partnatts = 1;

create function possync.ensure_month(p_table text, p_month date) returns boolean language plpgsql
  set search_path = pg_catalog, pg_temp as $$
declare
  v_from date := date_trunc('month', p_month);
  v_to date := v_from + interval '1 month';
  v_name text := p_table || to_char(v_from, '"_"YYYY"_"MM');
  t record;
begin
  select m.table_name, m.column_name, m.default_name into strict t
    from possync.monthly_tables m where m.table_name = p_table;
  -- Serializes two makers of the same partition, and keeps writers out between the move and the attachment.
  execute format('lock table public.%I in access exclusive mode', t.default_name);
  if to_regclass(format('public.%I', v_name)) is not null then return false; end if;
  execute format('create table public.%I (like public.%I including all)', v_name, t.table_name);
  execute format('with moved as (delete from public.%I where %I >= %L and %I < %L returning *)
                  insert into public.%I select * from moved',
                 t.default_name, t.column_name, v_from, t.column_name, v_to, v_name);
  execute format('alter table public.%I attach partition public.%I for values from (%L) to (%L)',
                 t.table_name, v_name, v_from, v_to);
  return true;
end $$;
`;

export async function up(db: Knex): Promise<void> {
  await db.raw(TABLES);
  await db.raw(FUNCTIONS);
}

export async function down(db: Knex): Promise<void> {
  await db.raw(`
drop function possync.ensure_month(text, date);
drop view possync.monthly_tables;
drop function possync.note_finding(integer, text, text, text, jsonb);
drop table possync.inbox, possync.inbox_chain, possync.dead, possync.findings, possync.queue_audit;
`);
}
