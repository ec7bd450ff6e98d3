/**
 * What HQ knows of its stores beside their row in public.stores: provisioning, tokens, and who did what.
 *
 *   store_ids     the highest id ever given: raised by every insert into public.stores, never lowered, so that an
 *                 id is never given twice, whether plain SQL or `stores add` gave it and even if its row is gone
 *   store_status  since when a store has been provisioned; no row = not yet, so that a plain insert is enough
 *   tokens        SHA-256 of each secret, never the secret; a state and its times agree
 *   received      per store and data type, how many records HQ has taken and when: counting sales would take minutes
 *   audit         what people changed by command
 *
 * A store is deactivated when public.stores.active is false, by command or by plain SQL: one truth. A trigger tells
 * the servers, which cut the link.
 *
 * New tables; two triggers on public.stores (SHARE ROW EXCLUSIVE, instant).
 */
import type { Knex } from 'knex';
import { TODAY_IN } from '../today.ts';

export const name = '0004_stores';

const TABLES = `
create table possync.store_ids (
  one boolean primary key default true check (one), highest integer not null default 0 check (highest >= 0));
insert into possync.store_ids (highest) select coalesce(max(s.id), 0) from public.stores s;

create table possync.store_status (
  store_id integer primary key, activated_at timestamptz not null default now());

create table possync.tokens (
  kid text primary key,
  store_id integer not null,
  kind text not null check (kind in ('enrolment', 'credential')),
  state text not null check (state in ('pending', 'active', 'retiring', 'revoked', 'expired', 'spent')),
  hash bytea not null check (length(hash) = 32),
  hq_url text check ((kind = 'enrolment') = (hq_url is not null)),
  created_at timestamptz not null default now(),
  expires_at timestamptz check (kind = 'credential' or expires_at is not null),
  last_used_at timestamptz,
  ended_at timestamptz, ended_why text,
  -- of a spent enrolment token: the credential it was spent for, so that the same request gets the same answer again
  spent_for text check ((state = 'spent') = (spent_for is not null)),
  answer jsonb,
  check ((state in ('revoked', 'expired', 'spent')) = (ended_at is not null)),
  check (kind = 'enrolment' or state <> 'spent'),
  check (kind = 'credential' or state not in ('active', 'retiring')));
create index tokens_store_id on possync.tokens (store_id);
create unique index tokens_one_pending on possync.tokens (store_id, kind) where state = 'pending';
create unique index tokens_one_active on possync.tokens (store_id) where state = 'active';
create unique index tokens_one_retiring on possync.tokens (store_id) where state = 'retiring';

create table possync.received (
  store_id integer not null, type text not null, records bigint not null default 0, last_at timestamptz not null,
  primary key (store_id, type)) with (fillfactor = 70);

create table possync.audit (
  id bigint generated always as identity primary key,
  at timestamptz not null default now(),
  actor text not null, action text not null, store_id integer, details jsonb not null default '{}');
create index audit_store_id on possync.audit (store_id, id);
`;

const TRIGGERS = `
create function possync.note_store_ids() returns trigger language plpgsql
  security definer set search_path = pg_catalog, pg_temp as $$
begin
  update possync.store_ids i set highest = n.id
    from (select max(x.id) as id from possync_new x) n
   where n.id > i.highest;
  return null;
end $$;
create trigger possync_note_ids after insert on public.stores
  referencing new table as possync_new for each statement execute function possync.note_store_ids();

create function possync.tell_store_change() returns trigger language plpgsql
  set search_path = pg_catalog, pg_temp as $$
begin
  perform pg_notify('possync_stores', new.id::text);
  return null;
end $$;
create trigger possync_tell_change after update of active on public.stores
  for each row when (old.active is distinct from new.active) execute function possync.tell_store_change();
`;

export async function up(db: Knex): Promise<void> {
  await db.raw(TABLES);
  await db.raw(TODAY_IN);
  await db.raw(TRIGGERS);
}

export async function down(db: Knex): Promise<void> {
  await db.raw(`
drop trigger possync_note_ids on public.stores;
drop trigger possync_tell_change on public.stores;
drop function possync.today_in(text);
drop function possync.note_store_ids();
drop function possync.tell_store_change();
drop table possync.audit, possync.received, possync.tokens, possync.store_status, possync.store_ids;
`);
}
