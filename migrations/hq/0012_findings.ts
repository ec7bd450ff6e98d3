/**
 * A finding that was closed and is met again is opened again, whoever writes it: what a push notes (an older state of a
 * record) has an end now as well, when the record comes in its newest state, or by an audited command.
 *
 * One function is replaced: instant, no lock on a table.
 */
import type { Knex } from 'knex';

export const name = '0012_findings';

const noteFinding = (reopens: string): string => `
create or replace function possync.note_finding(p_store integer, p_kind text, p_type text, p_key text, p_detail jsonb)
  returns void language sql as $$
  insert into possync.findings as f (store_id, kind, type, key, detail) values (p_store, p_kind, p_type, p_key, p_detail)
  on conflict (store_id, kind, type, key)
  do update set times = f.times + 1, last_at = now(), detail = excluded.detail${reopens}
$$`;

export async function up(db: Knex): Promise<void> {
  await db.raw(
    noteFinding(`,
                opened_at = case when f.closed_at is null then f.opened_at else now() end, closed_at = null`),
  );
}

export async function down(db: Knex): Promise<void> {
  await db.raw(noteFinding(''));
}
