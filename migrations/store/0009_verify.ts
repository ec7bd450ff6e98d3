/**
 * What a store keeps of repairs: every record that `verify --repair` sent again, in either direction, by whom and when.
 *
 * New table only: no lock on anything that exists, instant.
 */
import type { Knex } from 'knex';

export const name = '0009_verify';

export async function up(db: Knex): Promise<void> {
  await db.raw(`
create table possync.repairs (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(), run uuid not null, actor text not null,
  direction text not null check (direction in ('down', 'up')),
  type text not null, key text not null,
  result text not null check (result in ('sent', 'removed', 'unchanged', 'failed')))`);
}

export async function down(db: Knex): Promise<void> {
  await db.raw('drop table possync.repairs');
}
