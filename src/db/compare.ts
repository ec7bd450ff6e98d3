/**
 * Compares a store with HQ, table by table and row by row, from the entity table: what both sides hold of each
 * record, whichever way it travels. Used where both databases are at hand (the demo, the tests), and without regard
 * to changes on their way; `possync verify` compares by digests (digest.ts) and leaves those out.
 *
 * Rows that only HQ has of what a store wrote are counted apart: the store may purge old ones.
 */
import type { Entity } from '../protocol/entities.ts';
import { ENTITIES } from '../protocol/entities.ts';
import { readColumnTypes, type ColumnTypes } from './column-types.ts';
import { comparedTables, rowHash, rowKey, type ComparedTable } from './compared.ts';
import type { Queryable } from './transaction.ts';

export interface TableComparison {
  readonly table: string;
  readonly direction: 'down' | 'up';
  readonly rowsHq: number;
  readonly rowsStore: number;
  /** Keys (as text) of rows that differ, are missing, or are there only at HQ. */
  readonly differing: readonly string[];
  readonly missingAtHq: readonly string[];
  readonly missingAtStore: readonly string[];
}

/** Every table of every entity, for one store. */
export async function compareStore(
  hq: Queryable,
  store: Queryable,
  storeId: number,
  entities: readonly Entity[] = ENTITIES,
): Promise<TableComparison[]> {
  const result: TableComparison[] = [];
  const [typesHq, typesStore] = [await readColumnTypes(hq, entities), await readColumnTypes(store, entities)];
  for (const table of comparedTables(entities)) {
    const rowsHq = await digests(hq, table, table.hq, storeId, typesHq);
    const rowsStore = await digests(store, table, table.store, storeId, typesStore);
    result.push(compareRows(table, rowsHq, rowsStore));
  }
  return result;
}

/** Rows that differ or are missing on either side, over all tables. */
export function countDifferences(tables: readonly TableComparison[]): number {
  return tables.reduce(
    (sum, table) => sum + table.differing.length + table.missingAtHq.length + table.missingAtStore.length,
    0,
  );
}

function compareRows(
  side: ComparedTable,
  hq: Map<string, string>,
  store: Map<string, string>,
): TableComparison {
  const differing: string[] = [];
  const missingAtHq: string[] = [];
  for (const [key, digest] of store) {
    const other = hq.get(key);
    if (other === undefined) missingAtHq.push(key);
    else if (other !== digest) differing.push(key);
  }
  const missingAtStore = [...hq.keys()].filter((key) => !store.has(key));
  return {
    table: side.table.table,
    direction: side.direction,
    rowsHq: hq.size,
    rowsStore: store.size,
    differing,
    missingAtHq,
    missingAtStore,
  };
}

/** Key → MD5 of the row. */
async function digests(
  db: Queryable,
  table: ComparedTable,
  from: string,
  storeId: number,
  types: ColumnTypes,
): Promise<Map<string, string>> {
  const { rows } = await db.query<{ key: string; digest: string }>(
    `select ${rowKey(table)} as key, ${rowHash(table, types)} as digest from ${from}`,
    [storeId],
  );
  return new Map(rows.map((row) => [row.key, row.digest]));
}
