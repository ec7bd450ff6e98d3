/**
 * Triggers at HQ that note which records changed: (type, key) into possync.capture, once per statement.
 *
 *   UPDATE products SET price = … WHERE …      one trigger call, whatever the number of rows
 *     └─▶ possync.mark_products()  ─▶  capture ('product', '["0190…"]') per row
 *   DELETE FROM role_permissions …             a child marks its parent record
 *     └─▶ possync.mark_role_permissions() ─▶ capture ('role', …)
 *
 * Only keys are kept: a round reads the rows themselves, in its one snapshot. No NOTIFY here, because notifying
 * transactions commit one after the other. What the inbox writes for stores is captured as well: it must go down.
 */
import { downEntities, type Entity } from '../protocol/entities.ts';
import { recordKey } from './record-key.ts';
import { dollarQuoted, ident, literal, publicTable } from './sql.ts';
import type { Queryable } from './transaction.ts';
import { installTableTriggers, type TriggerSpec } from './triggers.ts';

/** The transition tables must never be called `n` or `o`: a column of that name would hide the alias. */
const NEW_ROWS = 'possync_new';
const OLD_ROWS = 'possync_old';

export const FEED_TRIGGERS = [
  'possync_feed_insert',
  'possync_feed_update',
  'possync_feed_delete',
  'possync_feed_truncate',
] as const;

interface Mark {
  readonly type: string;
  readonly key: readonly string[];
  /** The rows of this table are the records themselves, so that no key comes twice or is null. */
  readonly root: boolean;
}

/** Which records a change of each table concerns. */
export function marksByTable(entities: readonly Entity[]): ReadonlyMap<string, readonly Mark[]> {
  const marks = new Map<string, Mark[]>();
  const add = (table: string, mark: Mark): void => {
    marks.set(table, [...(marks.get(table) ?? []), mark]);
  };
  for (const { type, root, children, down } of downEntities(entities)) {
    add(root.table, { type, key: root.key, root: true });
    for (const child of children) add(child.table, { type, key: child.parentKey, root: false });
    for (const other of down.alsoMarkedBy) add(other.table, { type, key: other.key, root: false });
  }
  return marks;
}

function insertMarks(mark: Mark, rows: string): string {
  const columns = mark.key.map(ident).join(', ');
  const known = mark.root ? '' : ` where ${mark.key.map((c) => `r.${ident(c)} is not null`).join(' and ')}`;
  const from =
    rows === 'both'
      ? `(select ${columns} from ${NEW_ROWS} union select ${columns} from ${OLD_ROWS})`
      : mark.root
        ? rows
        : `(select distinct ${columns} from ${rows})`;
  return `insert into possync.capture (entity, pk)
      select ${literal(mark.type)}, ${recordKey('r', mark.key)} from ${from} r${known};`;
}

function markFunction(table: string, marks: readonly Mark[]): string {
  const statements = (rows: string): string => marks.map((mark) => insertMarks(mark, rows)).join('\n    ');
  return `create or replace function possync.${ident(`mark_${table}`)}() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp as ${dollarQuoted(`begin
  if tg_op = 'INSERT' then
    ${statements(NEW_ROWS)}
  elsif tg_op = 'DELETE' then
    ${statements(OLD_ROWS)}
  else
    -- Both keys of a row whose key changed: one record went, another came.
    ${statements('both')}
  end if;
  return null;
end`)}`;
}

function triggers(table: string): TriggerSpec[] {
  const on = publicTable(table);
  const call = `for each statement execute function possync.${ident(`mark_${table}`)}()`;
  const [insert, update, remove, truncate] = FEED_TRIGGERS;
  const make = (name: string, rest: string): TriggerSpec => ({
    name,
    create: `create or replace trigger ${name} ${rest}`,
  });
  return [
    make(insert, `after insert on ${on} referencing new table as ${NEW_ROWS} ${call}`),
    make(
      update,
      `after update on ${on} referencing old table as ${OLD_ROWS} new table as ${NEW_ROWS} ${call}`,
    ),
    make(remove, `after delete on ${on} referencing old table as ${OLD_ROWS} ${call}`),
    make(truncate, `before truncate on ${on} for each statement execute function possync.refuse_truncate()`),
  ];
}

const REFUSE_TRUNCATE = `
create or replace function possync.refuse_truncate() returns trigger language plpgsql as $$
begin
  raise exception 'possync: TRUNCATE of the synced table % cannot be captured', tg_table_name
    using errcode = 'PS006', hint = 'use DELETE';
end $$`;

/** Puts capture for the feed in place, table by table: HQ's programs go on writing meanwhile. HQ only. */
export async function installDownCapture(db: Queryable, entities: readonly Entity[]): Promise<void> {
  await db.query(REFUSE_TRUNCATE);
  for (const [table, marks] of marksByTable(entities)) {
    await db.query(markFunction(table, marks));
    await installTableTriggers(db, table, triggers(table));
  }
}
