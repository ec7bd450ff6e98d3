/**
 * How far HQ's clock is from this store's, as the link measured it last: `status` names it before a till's times are wrong.
 *
 * New columns without a default: instant.
 */
import type { Knex } from 'knex';

export const name = '0012_clock';

export async function up(db: Knex): Promise<void> {
  await db.raw('alter table possync.link add column clock_skew_ms bigint, add column clock_error_ms integer');
}

export async function down(db: Knex): Promise<void> {
  await db.raw('alter table possync.link drop column clock_skew_ms, drop column clock_error_ms');
}
