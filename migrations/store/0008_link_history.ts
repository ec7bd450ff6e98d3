/**
 * What the link to HQ went through: each start of the daemon, each change of the light, and how long the light before
 * had lasted. `possync diagnose` finds a daemon that keeps restarting, and a box on the path that cuts on the minute.
 *
 * The daemon keeps the last thousand rows. New table only: no lock on anything that exists, instant.
 */
import type { Knex } from 'knex';

export const name = '0008_link_history';

export async function up(db: Knex): Promise<void> {
  await db.raw(`
create table if not exists possync.link_history (
  id bigint generated always as identity primary key,
  at timestamptz not null,
  event text not null check (event in ('start', 'stop', 'up', 'down')),
  code text,
  lasted_ms bigint,
  pid integer not null);
`);
}

export async function down(db: Knex): Promise<void> {
  await db.raw('drop table possync.link_history');
}
