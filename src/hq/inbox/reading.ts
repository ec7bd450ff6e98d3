/** What the bodies of stores mean at this HQ: keys, layouts and JSON columns, worked out once per pool and entity table. */
import type pg from 'pg';
import { queryMaybe, withConnection, type Queryable } from '../../db/transaction.ts';
import { tablesOf, upEntities, type Entity } from '../../protocol/entities.ts';
import { helloSchema } from '../../protocol/messages.ts';
import { JSON_LAYOUT, sectionsOf, type Layout } from '../../protocol/row-text.ts';
import type { Entry, Reading } from './apply.ts';
import { rootKeys } from './body.ts';
import { FastPath, type IsJson } from './fast-path.ts';

const readings = new WeakMap<pg.Pool, Map<readonly Entity[], Promise<Reading>>>();

export async function readingOf(pool: pg.Pool, entities: readonly Entity[]): Promise<Reading> {
  const known = readings.get(pool) ?? new Map<readonly Entity[], Promise<Reading>>();
  readings.set(pool, known);
  const reading = known.get(entities) ?? readReading(pool, entities);
  known.set(entities, reading);
  try {
    return await reading;
  } catch (error) {
    known.delete(entities);
    throw error;
  }
}

async function readReading(pool: pg.Pool, entities: readonly Entity[]): Promise<Reading> {
  return {
    keys: rootKeys(entities),
    fast: new FastPath(entities),
    isJson: await withConnection(pool, (db) => jsonColumns(db, entities)),
  };
}

async function jsonColumns(db: Queryable, entities: readonly Entity[]): Promise<IsJson> {
  const { rows } = await db.query<{ name: string }>(
    `select c.relname || '.' || a.attname as name
       from pg_catalog.pg_class c
       join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname = 'public'
       join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      where c.relname = any($1::text[]) and a.atttypid in ('json'::regtype, 'jsonb'::regtype)`,
    [
      upEntities(entities)
        .flatMap(tablesOf)
        .map(({ table }) => table),
    ],
  );
  const names = new Set(rows.map(({ name }) => name));
  return (table, column) => names.has(`${table}.${column}`);
}

const HEAD = /^[IU] \d+ (\S+) /gm;

/** Layouts of this program and, where entries have others, of the store's hello; undefined: one that it did not name. */
export async function layoutsFor(
  tx: pg.PoolClient,
  storeId: number,
  entries: readonly Entry[],
  { fast }: Reading,
): Promise<ReadonlyMap<string, Layout> | undefined> {
  const foreign = foreignLayouts(entries, fast.layouts);
  if (foreign.size === 0) return fast.layouts;
  const row = await queryMaybe<{ layouts: string }>(
    tx,
    'select layouts::text as layouts from possync.inbox where store_id = $1::int',
    [storeId],
  );
  const declared = helloSchema.shape.layouts.parse(JSON.parse(row?.layouts ?? '[]')) ?? [];
  const layouts = new Map([
    ...declared.map(([id, table, columns]): [string, Layout] => [id, { id, table, columns }]),
    ...fast.layouts,
  ]);
  return [...foreign].every((id) => layouts.has(id)) ? layouts : undefined;
}

function foreignLayouts(entries: readonly Entry[], own: ReadonlyMap<string, Layout>): ReadonlySet<string> {
  const foreign = new Set<string>();
  for (const { v, body } of entries) {
    if (v < 2 || !seemsForeign(body, own)) continue;
    for (const { layout } of sectionsOf(body) ?? []) {
      if (layout !== JSON_LAYOUT && !own.has(layout)) foreign.add(layout);
    }
  }
  return foreign;
}

/** A text of a till may look like a head as well: only the parsed body decides. */
function seemsForeign(body: string, own: ReadonlyMap<string, Layout>): boolean {
  for (const [, id] of body.matchAll(HEAD)) {
    if (id !== undefined && id !== JSON_LAYOUT && !own.has(id)) return true;
  }
  return false;
}
