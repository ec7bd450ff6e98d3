/**
 * Triggers in a store that keep every row the tills write until the outbox has sealed it, and hold tills to the rules
 * of the schema; at HQ, the function that applies what stores push.
 *
 *   till: insert/update/delete ──▶ statement trigger (SECURITY DEFINER: a till needs no right on anything of ours)
 *                                   │ refuses what the rules forbid     PS002 not yours · PS003 frozen column
 *                                   │                                   PS004 immutable or backwards · PS006 truncate
 *                                   ▼
 *                                  possync.raw: one line per row, written in the till's own transaction
 *
 * What an apply writes fires nothing: WHEN (not possync.is_apply()). The whole row is kept as it was at that moment:
 * read later, it could already show what a later transaction did, and HQ would see effects before their causes.
 */
import type { Entity, RelayEntity, TableSpec, UpEntity } from '../protocol/entities.ts';
import { tablesOf, upEntities } from '../protocol/entities.ts';
import { layoutsOf } from '../protocol/row-text.ts';
import { installUpApply } from './apply-up.ts';
import { captureBody } from './capture-up-rules.ts';
import { recaptureFunction, ROW_TEXT_SETTINGS } from './capture-up-rows.ts';
import type { Role } from './migrations.ts';
import { dollarQuoted, ident, literal, publicTable } from './sql.ts';
import type { Queryable } from './transaction.ts';
import { installTableTriggers, type TriggerSpec } from './triggers.ts';

export async function installUpCapture(
  db: Queryable,
  role: Role,
  entities: readonly Entity[],
): Promise<void> {
  const up = upEntities(entities);
  if (role === 'hq') {
    await installUpApply(db, up);
    return;
  }
  for (const entity of up) {
    for (const table of tablesOf(entity)) {
      const { functions, triggers } = tableTriggers(entity, table, up);
      await db.query(functions);
      await installTableTriggers(db, table.table, triggers);
    }
  }
  await db.query(recaptureFunction(up));
  await db.query(
    `insert into possync.layouts (id, tbl, columns)
     select l.id, l.tbl, l.columns
       from jsonb_to_recordset($1::jsonb) as l (id text, tbl text, columns text[])
     on conflict (id) do nothing`,
    [
      JSON.stringify(
        [...layoutsOf(up).values()].map(({ id, table, columns }) => ({ id, tbl: table, columns })),
      ),
    ],
  );
}

/**
 * The trigger functions and triggers of one table, replaced: a disabled trigger comes back enabled. Never dropped first:
 * that takes the table from its readers as well, so an upgrade beside a backup would wait for it, and every till for
 * the upgrade.
 */
function tableTriggers(
  entity: UpEntity | RelayEntity,
  table: TableSpec,
  up: readonly (UpEntity | RelayEntity)[],
): { readonly functions: string; readonly triggers: readonly TriggerSpec[] } {
  const name = (event: string): string => `possync_up_${event}`;
  const fn = (event: string): string => `possync.${ident(`up_${table.table}_${event}`)}`;
  const on = publicTable(table.table);
  const body = captureBody(entity, table, up);
  const functions = [
    triggerFunction(fn('insert'), body.insert),
    triggerFunction(fn('update'), body.update),
    triggerFunction(fn('delete'), body.delete),
    triggerFunction(
      fn('truncate'),
      `  raise exception using errcode = 'PS006', message = ${literal(`${table.table} may not be truncated`)},
    hint = 'delete old rows instead: possync sees each one';`,
    ),
  ].join('\n');
  const triggers = [
    statementTrigger(name('insert'), 'insert', on, 'new table as possync_new', fn('insert')),
    statementTrigger(
      name('update'),
      'update',
      on,
      'old table as possync_old new table as possync_new',
      fn('update'),
    ),
    statementTrigger(name('delete'), 'delete', on, 'old table as possync_old', fn('delete')),
    {
      name: name('truncate'),
      create: `create or replace trigger ${name('truncate')} before truncate on ${on}
  for each statement execute function ${fn('truncate')}()`,
    },
  ];
  return { functions, triggers };
}

function triggerFunction(name: string, body: string): string {
  return `create or replace function ${name}() returns trigger language plpgsql security definer
  set search_path = pg_catalog, pg_temp ${ROW_TEXT_SETTINGS} as ${dollarQuoted(`begin
${body}
  return null;
end`)};`;
}

function statementTrigger(
  name: string,
  event: string,
  table: string,
  referencing: string,
  fn: string,
): TriggerSpec {
  return {
    name,
    create: `create or replace trigger ${name} after ${event} on ${table} referencing ${referencing}
  for each statement when (not possync.is_apply()) execute function ${fn}()`,
  };
}
