/**
 * Guards: every synced table has one writer, whoever is logged in.
 *
 *                    HQ-owned (down)           store-owned (up)           transfers, receipts (relay)
 *   in a store       refused                   free                       own rows only (capture-up.ts)
 *   at HQ            free                      refused                    refused
 *
 * Refused means SQLSTATE PS002 unless possync.is_apply(): rights alone would not stop the owner of the tables.
 */
import type { Entity, TableSpec } from '../protocol/entities.ts';
import { tablesOf } from '../protocol/entities.ts';
import type { Role } from './migrations.ts';
import { dollarQuoted, literal, publicTable } from './sql.ts';
import type { Queryable } from './transaction.ts';
import { installTableTriggers, type TriggerSpec } from './triggers.ts';

export const GUARD_TRIGGER = 'possync_guard';

const REFUSE_WRITE = `
create or replace function possync.refuse_write() returns trigger language plpgsql as ${dollarQuoted(`
begin
  if tg_argv[0] = 'hq' then
    raise exception 'possync: % is written by stores and read-only at HQ', tg_table_name
      using errcode = 'PS002', hint = 'correct it with a new document in the store';
  end if;
  raise exception 'possync: % belongs to HQ and is read-only in a store', tg_table_name
    using errcode = 'PS002', hint = 'change it at HQ; the change comes down by itself';
end`)}`;

function statementGuard(table: string, role: Role): TriggerSpec {
  const create = `create or replace trigger ${GUARD_TRIGGER} before insert or update or delete or truncate
    on ${publicTable(table)} for each statement when (not possync.is_apply())
    execute function possync.refuse_write(${literal(role)})`;
  return { name: GUARD_TRIGGER, create };
}

/** Tables whose writes are refused as a whole on this side. */
export function guardedTables(role: Role, entities: readonly Entity[]): readonly TableSpec[] {
  return entities
    .filter((entity) => (role === 'hq' ? entity.direction !== 'down' : entity.direction === 'down'))
    .flatMap(tablesOf);
}

/** Puts the guards of one side in place. */
export async function installGuards(db: Queryable, role: Role, entities: readonly Entity[]): Promise<void> {
  await db.query(REFUSE_WRITE);
  for (const { table } of guardedTables(role, entities))
    await installTableTriggers(db, table, [statementGuard(table, role)]);
}
