/**
 * The key of the outbox carries size and age, so that `queue ls --sort bytes` reads 50 MB of index for a million entries
 * and not their gigabyte of bodies. Sixteen bytes an entry, in an index that only grows at its end.
 *
 * Making it takes about two seconds for a million entries and waits for the daemon's own statements only: tills do not
 * touch this table.
 */
import type { Knex } from 'knex';

export const name = '0013_listing';

export async function up(db: Knex): Promise<void> {
  await db.raw(`
alter table possync.outbox drop constraint outbox_pkey,
  add constraint outbox_pkey primary key (epoch, seq) include (bytes, captured_at)`);
}

export async function down(db: Knex): Promise<void> {
  await db.raw(`
alter table possync.outbox drop constraint outbox_pkey,
  add constraint outbox_pkey primary key (epoch, seq)`);
}
