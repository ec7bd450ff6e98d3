/**
 * The state of the link to HQ, as the daemon last wrote it: what `possync status` reads when the daemon is down.
 *
 * One row, written at each change and every five seconds. Older than ten seconds, it is history.
 *
 * New table only: no lock on anything that exists, instant.
 */
import type { Knex } from 'knex';

export const name = '0005_link';

export async function up(db: Knex): Promise<void> {
  await db.raw(`
create table if not exists possync.link (
  one boolean primary key default true check (one),
  indicator text not null check (indicator in ('green', 'red')),
  state text not null check (state in ('idle', 'connecting', 'greeting', 'online', 'waiting')),
  session text not null check (session in ('none', 'socket', 'http')),
  since timestamptz not null,
  last_frame_at timestamptz,
  rtt_ms integer,
  reason_code text,
  reason_message text,
  attempt integer not null,
  next_attempt_at timestamptz,
  hq_url text,
  hq_version text,
  hq_head bigint,
  kid text,
  pid integer not null,
  version text not null,
  started_at timestamptz not null,
  written_at timestamptz not null default clock_timestamp());
`);
}

export async function down(db: Knex): Promise<void> {
  await db.raw('drop table possync.link');
}
