/**
 * The change feed of HQ: what changed (capture), the rounds that gave it positions, and the latest state of every
 * record for every audience (feed).
 *
 *   capture      (entity, key) of every changed row; read whole and deleted whole by a round, therefore no index
 *   seal_lock    empty; locking it makes rounds serial, to the end of their transaction
 *   head         the last position given
 *   rounds       one row per round, kept 35 days: a store's cursor counts only with the nonce of its round
 *   feed         one row per record and scope (store id, 0 = all stores) with the document as it was sealed
 *   store_cursor where each store stood last: its round outlives the 35 days
 *   settings     how long rounds are kept, and when closed transfers leave the audiences
 *
 * New tables only: no lock on anything that exists, instant. Every change of the catalogue writes a row of capture
 * and one of feed; both indexes of feed are needed by every round and every pull, and no third one is.
 */
import type { Knex } from 'knex';

export const name = '0002_feed';

const TABLES = `
create table possync.capture (entity text not null, pk text not null)
  with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_analyze_threshold = 1000000);

create table possync.seal_lock ();

create table possync.head (
  one boolean primary key default true check (one), pos bigint not null default 0 check (pos >= 0));
insert into possync.head default values;

create table possync.rounds (
  head bigint primary key, nonce uuid not null default gen_random_uuid(),
  sealed_at timestamptz not null default clock_timestamp(), records integer not null check (records >= 0),
  stores integer[], -- the stores it touched, 0 among them if it touched records of all; null = such records only
  urgent boolean not null default false);
insert into possync.rounds (head, records) values (0, 0);
create index rounds_sealed_at on possync.rounds (sealed_at);

create table possync.feed (
  entity text not null, pk text not null, store_id integer not null check (store_id >= 0),
  pos bigint not null, doc jsonb, -- null = removed
  primary key (entity, pk, store_id))
  with (autovacuum_vacuum_scale_factor = 0.05);
create unique index feed_pos on possync.feed (store_id, pos);

create table possync.store_cursor (
  store_id integer primary key, pos bigint not null, at timestamptz not null default now());

create table possync.settings (
  one boolean primary key default true check (one),
  transfer_days integer not null default 90 check (transfer_days > 0),
  round_days integer not null default 35 check (round_days > 0));
insert into possync.settings default values;
`;

/** A transfer is over when it was received (a receipt exists) or cancelled; it stays in the feed a while longer. */
const TRANSFER_IS_OLD = `
create function possync.transfer_is_old(p_id uuid, p_status text, p_updated_at timestamptz) returns boolean
  language sql stable as $$
  select coalesce(
    (case when p_status = 'cancelled' then p_updated_at
          else (select r.received_at from public.transfer_receipts r where r.transfer_id = p_id) end)
      < now() - (select s.transfer_days * interval '1 day' from possync.settings s), false)
$$;
`;

export async function up(db: Knex): Promise<void> {
  await db.raw(TABLES);
  await db.raw(TRANSFER_IS_OLD);
}

export async function down(db: Knex): Promise<void> {
  await db.raw(`
drop function if exists possync.seal();
drop function possync.transfer_is_old(uuid, text, timestamptz);
drop table possync.settings, possync.store_cursor, possync.feed, possync.rounds, possync.head, possync.seal_lock,
  possync.capture;
`);
}
