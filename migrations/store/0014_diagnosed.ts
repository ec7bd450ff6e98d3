/**
 * When the daemon's own diagnosis found why the link is red: `status` says so beside the reason.
 *
 * A new column without a default: instant.
 */
import type { Knex } from 'knex';

export const name = '0014_diagnosed';

export async function up(db: Knex): Promise<void> {
  await db.raw('alter table possync.link add column diagnosed_at timestamptz');
}

export async function down(db: Knex): Promise<void> {
  await db.raw('alter table possync.link drop column diagnosed_at');
}
