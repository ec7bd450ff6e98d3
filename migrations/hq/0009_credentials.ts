/**
 * What HQ must remember of credentials beside the credentials themselves.
 *
 *   rotation_orders  `token rotate` at HQ: which credential a store is to replace. One row per store, the newest order; it is
 *                    kept until the store has done it, however long it is away, and then says what came of it
 *   refused_uses     a credential that has ended and is still used: one row each, so that a flood of uses is one number
 *   servers          the `hq serve` processes, as each last wrote itself: until when its certificate is good
 *
 * New tables only: no lock on anything that exists, instant.
 */
import type { Knex } from 'knex';

export const name = '0009_credentials';

export async function up(db: Knex): Promise<void> {
  await db.raw(`
create table possync.rotation_orders (
  store_id integer primary key,
  id uuid not null,
  old_kid text not null,
  grace_ms bigint not null check (grace_ms >= 0),
  expires_in_ms bigint check (expires_in_ms > 0),
  revoke_old_now boolean not null,
  replace boolean not null,
  ordered_at timestamptz not null default now(),
  ordered_by text not null,
  -- done: a newer credential than old_kid is in force, whoever began that rotation
  done_at timestamptz, kid text,
  -- what the store said last
  reported_at timestamptz, offline_ms integer, failure_code text, failure text,
  check ((done_at is null) = (kid is null)));
create index rotation_orders_open on possync.rotation_orders (store_id) where done_at is null;

create table possync.refused_uses (
  kid text primary key references possync.tokens (kid) on delete cascade,
  store_id integer not null,
  state text not null,
  uses bigint not null,
  first_at timestamptz not null default now(),
  last_at timestamptz not null default now(),
  audited_at timestamptz not null default now());
create index refused_uses_last_at on possync.refused_uses (last_at);

create table possync.servers (
  server uuid primary key,
  url text not null,
  software text not null,
  started_at timestamptz not null default now(),
  written_at timestamptz not null default clock_timestamp(),
  tls_not_before timestamptz, tls_not_after timestamptz);
`);
}

export async function down(db: Knex): Promise<void> {
  await db.raw('drop table possync.servers, possync.refused_uses, possync.rotation_orders');
}
