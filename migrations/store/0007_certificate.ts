/**
 * The life of HQ's certificate, as the link saw it last: `status` and the log warn before it ends.
 *
 * New columns without a default: instant.
 */
import type { Knex } from 'knex';

export const name = '0007_certificate';

export async function up(db: Knex): Promise<void> {
  await db.raw(
    'alter table possync.link add column tls_not_before timestamptz, add column tls_not_after timestamptz',
  );
}

export async function down(db: Knex): Promise<void> {
  await db.raw('alter table possync.link drop column tls_not_before, drop column tls_not_after');
}
