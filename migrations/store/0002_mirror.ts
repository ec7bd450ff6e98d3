/**
 * What a store has of HQ's feed: the pages of the round being downloaded, and how far it has come.
 *
 *   staging  records of the round in progress, the latest state of each; emptied by the apply that used them
 *   cursor   one row: the last applied round (pos, nonce), how far pages are staged (paged), the newest head seen
 *   kept     records that left this store but whose row stays: taken back when their document returns
 *
 * New tables only: no lock on anything that exists, instant. A first download of a large catalogue passes through
 * staging once and leaves it empty.
 */
import type { Knex } from 'knex';

export const name = '0002_mirror';

export async function up(db: Knex): Promise<void> {
  await db.raw(`
create table possync.staging (
  entity text not null, pk text not null, pos bigint not null, doc jsonb, -- null = removed
  primary key (entity, pk))
  with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);

create table possync.cursor (
  one boolean primary key default true check (one),
  pos bigint not null default 0 check (pos >= 0), nonce uuid, -- null: nothing applied yet, or everything again
  paged bigint not null default 0 check (paged >= pos),
  seen_head bigint not null default 0, seen_nonce uuid, -- null: no download in progress
  shape text, -- digest of the tables and columns that the applied rounds filled
  applied_at timestamptz, records bigint not null default 0, -- of the last applied round
  error_code text, error text, error_at timestamptz, check ((error is null) = (error_at is null)));
insert into possync.cursor default values;

create table possync.kept (
  entity text not null, pk text not null, kept_at timestamptz not null default now(), primary key (entity, pk));

-- Only the owner may analyze: the daemon's role calls this before it applies a large round.
create function possync.analyze_staging() returns void language plpgsql security definer
  set search_path = pg_catalog, pg_temp as $$
begin
  analyze possync.staging;
end $$;
`);
}

export async function down(db: Knex): Promise<void> {
  await db.raw(
    'drop function possync.analyze_staging(); drop table possync.kept, possync.cursor, possync.staging',
  );
}
