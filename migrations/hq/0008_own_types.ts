/**
 * The chain's own data types at HQ: the checked file that `hq init --types` was given, so that every process of this
 * side works with the same ones.
 *
 * New table only: no lock on anything that exists, instant.
 */
import type { Knex } from 'knex';

export const name = '0008_own_types';

export async function up(db: Knex): Promise<void> {
  await db.raw(`
create table if not exists possync.own_types (
  one boolean primary key default true check (one),
  document json not null,
  changed_at timestamptz not null default clock_timestamp());
`);
}

export async function down(db: Knex): Promise<void> {
  await db.raw('drop table possync.own_types');
}
