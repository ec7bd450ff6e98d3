/**
 * What `possync status` needs in a store beside the tables of outbox, mirror and link: the day in its time zone.
 *
 * One function: no lock, instant.
 */
import type { Knex } from 'knex';
import { TODAY_IN } from '../today.ts';

export const name = '0004_state';

export async function up(db: Knex): Promise<void> {
  await db.raw(TODAY_IN);
}

export async function down(db: Knex): Promise<void> {
  await db.raw('drop function possync.today_in(text)');
}
