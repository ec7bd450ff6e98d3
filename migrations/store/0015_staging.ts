/**
 * Staged records as they come: without an index, which cost as much as everything else about staging a page. What came
 * twice is sorted out once, by the apply.
 *
 * Dropping a constraint is instant; a download in progress goes on.
 */
import type { Knex } from 'knex';

export const name = '0015_staging';

export async function up(db: Knex): Promise<void> {
  await db.raw(`
alter table possync.staging drop constraint staging_pkey;
alter table possync.staging
  add check (jsonb_typeof(doc) = 'object') not valid; -- what an older daemon has staged was looked at by it
`);
}

export async function down(db: Knex): Promise<void> {
  await db.raw(`
delete from possync.staging s using possync.staging o
 where o.entity = s.entity and o.pk = s.pk and (o.pos, o.ctid) > (s.pos, s.ctid);
alter table possync.staging drop constraint staging_doc_check, add primary key (entity, pk);
`);
}
