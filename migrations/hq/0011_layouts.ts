/**
 * What the layouts of a store's bodies mean (src/protocol/row-text.ts), as its last hello said: read only for a store of
 * another release, whose columns are not those of this HQ.
 *
 * A column with a constant default: instant, the lock on possync.inbox is brief.
 */
import type { Knex } from 'knex';

export const name = '0011_layouts';

export async function up(db: Knex): Promise<void> {
  await db.raw(`alter table possync.inbox add column layouts jsonb not null default '[]'`);
}

export async function down(db: Knex): Promise<void> {
  await db.raw('alter table possync.inbox drop column layouts');
}
