/**
 * What HQ keeps of comparisons with stores.
 *
 *   verify_runs    a comparison that somebody asked for at HQ, how far the store is with it, and its report
 *   repairs        every record that a repair sent again: who, when, which; also the leave, for a week, that the row of
 *                  a store replaces HQ's although its type does not change once it is committed
 *   repaired_rows  what such a row of HQ was before: nothing that HQ held is ever lost
 *
 * New tables only: no lock on anything that exists, instant.
 */
import type { Knex } from 'knex';

export const name = '0010_verify';

export async function up(db: Knex): Promise<void> {
  await db.raw(`
create table possync.verify_runs (
  id uuid primary key, store_id integer not null, repair boolean not null, actor text not null,
  asked_at timestamptz not null default now(),
  done bigint, total bigint, heard_at timestamptz, -- rows compared so far, as the store's last question said
  report jsonb, reported_at timestamptz, check ((report is null) = (reported_at is null)));
create index verify_runs_asked_at on possync.verify_runs (asked_at);

create table possync.repairs (
  id bigint generated always as identity primary key,
  at timestamptz not null default now(), run uuid not null, actor text not null,
  store_id integer not null, direction text not null check (direction in ('down', 'up')),
  type text not null, key text not null,
  -- down: sent at once; up: open until the store's record has arrived
  state text not null check (state in ('sent', 'open', 'done')),
  done_at timestamptz, check ((state = 'done') = (done_at is not null)));
create unique index repairs_open on possync.repairs (store_id, type, key) where state = 'open';
create index repairs_store_id on possync.repairs (store_id, id);

create table possync.repaired_rows (
  repair bigint not null references possync.repairs on delete cascade,
  at timestamptz not null default clock_timestamp(), tbl text not null, before jsonb not null);
create index repaired_rows_repair on possync.repaired_rows (repair);
`);
}

export async function down(db: Knex): Promise<void> {
  await db.raw('drop table possync.repaired_rows, possync.repairs, possync.verify_runs');
}
