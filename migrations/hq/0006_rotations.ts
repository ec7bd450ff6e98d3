/**
 * Rotations of credentials: which credential replaces which, and until when the old one is still taken.
 *
 * The id is made in the store; the same id gets the same answer again, however often a reply gets lost.
 *
 * New table only: no lock on anything that exists, instant.
 */
import type { Knex } from 'knex';

export const name = '0006_rotations';

export async function up(db: Knex): Promise<void> {
  await db.raw(`
create table possync.rotations (
  id uuid primary key,
  store_id integer not null,
  old_kid text not null,
  kid text not null unique references possync.tokens (kid) on delete cascade,
  grace_ms bigint not null check (grace_ms >= 0),
  created_at timestamptz not null default now(),
  confirmed_at timestamptz,
  old_until timestamptz);
create index rotations_store_id on possync.rotations (store_id, created_at);
`);
}

export async function down(db: Knex): Promise<void> {
  await db.raw('drop table possync.rotations');
}
