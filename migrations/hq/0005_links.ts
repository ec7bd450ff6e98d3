/**
 * The live connections of stores, as every `hq serve` last wrote them.
 *
 * One row per store, kept after the connection ends: it then says when and why, and what the store last reported.
 * A row whose `written_at` is older than ten seconds belongs to a process that died: red, whatever `connected` says.
 * No foreign key to stores: HQ may be restored to before a store that says hello.
 *
 * New table only: no lock on anything that exists, instant.
 */
import type { Knex } from 'knex';

export const name = '0005_links';

export async function up(db: Knex): Promise<void> {
  await db.raw(`
create table if not exists possync.live_links (
  store_id integer primary key,
  server uuid not null,
  connection uuid not null,
  daemon uuid not null,
  kid text not null,
  remote text not null,
  software text not null,
  connected boolean not null,
  since timestamptz not null,
  last_frame_at timestamptz not null,
  rtt_ms integer,
  close_code integer,
  close_reason text,
  stat jsonb,
  stat_at timestamptz,
  written_at timestamptz not null default clock_timestamp());
`);
}

export async function down(db: Knex): Promise<void> {
  await db.raw('drop table possync.live_links');
}
