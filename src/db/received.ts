/**
 * HQ's running totals of what stores have sent, by triggers on the root table of each type: exact whatever writes,
 * and in the transaction that applies. A store's batches are applied one after the other, so its rows of
 * possync.received are never fought over.
 */
import { upEntities, type Entity } from '../protocol/entities.ts';
import { dollarQuoted, ident, literal, publicTable } from './sql.ts';
import type { Queryable } from './transaction.ts';
import { installTableTriggers, type TriggerSpec } from './triggers.ts';

export async function installReceived(db: Queryable, entities: readonly Entity[]): Promise<void> {
  for (const { type, root, up } of upEntities(entities)) {
    const name = `possync.${ident(`received_${type}`)}`;
    // HQ's table of a receipt has the receiving store in a column of its own.
    const store = ident(up.storeColumn ?? 'store_id');
    const body = `
begin
  insert into possync.received as t (store_id, type, records, last_at)
  select x.${store}, ${literal(type)}, case tg_op when 'INSERT' then count(*) else 0 end, now()
    from possync_new x group by x.${store}
  on conflict (store_id, type) do update set records = t.records + excluded.records, last_at = excluded.last_at;
  return null;
end`;
    const trigger = (op: 'insert' | 'update'): TriggerSpec => ({
      name: `possync_received_${op}`,
      create: `create or replace trigger possync_received_${op} after ${op} on ${publicTable(root.table)}
         referencing new table as possync_new for each statement execute function ${name}()`,
    });
    await db.query(
      `create or replace function ${name}() returns trigger language plpgsql
         security definer set search_path = pg_catalog, pg_temp as ${dollarQuoted(body)}`,
    );
    await installTableTriggers(db, root.table, [trigger('insert'), trigger('update')]);
  }
}
