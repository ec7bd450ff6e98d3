/**
 * Compares a store with HQ, table by table and row by row, from the entity table: what both sides hold of each
 * record, whichever way it travels. Used where both databases are at hand (the demo, the tests).
 *
 * Left out, as the schema says: `updated_at`, and rows that a store keeps after they left its audience
 * (`possync.kept`). Rows that only HQ has of what a store wrote are counted apart: the store may purge old ones.
 */
import type { Audience, Entity, TableSpec } from '../protocol/entities.ts';
import { ENTITIES } from '../protocol/entities.ts';
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

interface Side {
  readonly table: TableSpec;
  readonly direction: 'down' | 'up';
  /** A FROM … WHERE over alias `x` for the table itself; $1 is the store's id. */
  readonly hq: string;
  readonly store: string;
}

/** Every table of every entity, for one store. `$1` in the texts is the store's id. */
export async function compareStore(
  hq: Queryable,
  store: Queryable,
  storeId: number,
  entities: readonly Entity[] = ENTITIES,
): Promise<TableComparison[]> {
  const result: TableComparison[] = [];
  for (const side of entities.flatMap(sidesOf)) {
    const [rowsHq, rowsStore] = [
      await digests(hq, side.table, side.hq, storeId),
      await digests(store, side.table, side.store, storeId),
    ];
    result.push(compareRows(side, rowsHq, rowsStore));
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

function compareRows(side: Side, hq: Map<string, string>, store: Map<string, string>): TableComparison {
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

/** Key → MD5 of the row's synced columns, written the same way whatever the session's zone and styles are. */
async function digests(
  db: Queryable,
  { key, columns }: TableSpec,
  from: string,
  storeId: number,
): Promise<Map<string, string>> {
  const list = (names: readonly string[]): string => names.map((name) => `x."${name}"`).join(', ');
  const { rows } = await db.query<{ key: string; digest: string }>(
    `select jsonb_build_array(${key.map((name) => `x."${name}"::text`).join(', ')})::text as key,
            md5(jsonb_build_array(${columns.map(canonical).join(', ')})::text) as digest
       from ${from}
      order by ${list(key)}`,
    [storeId],
  );
  return new Map(rows.map((row) => [row.key, row.digest]));
}

/** A timestamptz prints in the session's zone, as text and as JSON alike: both sides are compared as UTC. */
function canonical(column: string): string {
  return column.endsWith('_at') ? `x."${column}" at time zone 'UTC'` : `x."${column}"`;
}

function sidesOf(entity: Entity): Side[] {
  switch (entity.direction) {
    case 'down':
      return downSides(entity, entity.down.audience, entity.down.when);
    case 'up':
      return upSides(entity, entity.up.storeColumn, entity.up.partitionColumn);
    case 'relay':
      return [
        ...upSides(entity, entity.up.storeColumn, entity.up.partitionColumn),
        ...downSides(entity, entity.down.audience, entity.down.when),
      ];
  }
}

function downSides(
  entity: Entity & { direction: 'down' | 'relay' },
  audience: Audience,
  when = 'true',
): Side[] {
  const { root } = entity;
  const inAudience = `(${when}) and ${audiencePredicate(audience)}`;
  // A relayed record in a store is either its own (it travels up) or the other party's (it came down).
  const cameDown = entity.direction === 'relay' ? `not (${ownInStore(entity.up.storeColumn)})` : 'true';
  const notKept = `not exists (select from possync.kept k
      where k.entity = '${entity.type}'
        and k.pk::jsonb = jsonb_build_array(${root.key.map((name) => `r."${name}"::text`).join(', ')}))`;
  return [
    {
      table: root,
      direction: 'down',
      hq: `public."${root.table}" x join public."${root.table}" r using (${quoted(root.key)}) where ${inAudience}`,
      store: `public."${root.table}" x join public."${root.table}" r using (${quoted(root.key)})
               where ${cameDown} and ${notKept} and $1::int is not null`,
    },
    ...entity.children.map((child): Side => {
      const live = child.link ? 'x.active' : 'true';
      const toRoot = root.key
        .map((name, i) => `r."${name}" = x."${child.parentKey[i] ?? name}"`)
        .join(' and ');
      const from = `public."${child.table}" x join public."${root.table}" r on ${toRoot}`;
      return {
        table: child,
        direction: 'down',
        hq: `${from} where ${live} and ${inAudience}`,
        store: `${from} where ${live} and ${cameDown} and ${notKept} and $1::int is not null`,
      };
    }),
  ];
}

function upSides(entity: Entity, storeColumn: string | null, partitionColumn: string | null): Side[] {
  const { root } = entity;
  const hqOwner = `r."${storeColumn ?? 'store_id'}" = $1::int`;
  return [
    {
      table: root,
      direction: 'up',
      hq: `public."${root.table}" x join public."${root.table}" r
             using (${quoted(hqKey(root, storeColumn, partitionColumn))}) where ${hqOwner}`,
      store: `public."${root.table}" x join public."${root.table}" r using (${quoted(root.key)})
               where ${ownInStore(storeColumn)}`,
    },
    ...entity.children.map((child): Side => {
      const toRoot = root.key
        .map((name, i) => `r."${name}" = x."${child.parentKey[i] ?? name}"`)
        .join(' and ');
      return {
        table: child,
        direction: 'up',
        hq:
          partitionColumn === null
            ? `public."${child.table}" x join public."${root.table}" r on ${toRoot} where ${hqOwner}`
            : `public."${child.table}" x where x.store_id = $1::int`,
        store: `public."${child.table}" x join public."${root.table}" r on ${toRoot} where ${ownInStore(storeColumn)}`,
      };
    }),
  ];
}

/** In a store: the rows that it writes itself. A receipt is the destination's, which its transfer tells. */
function ownInStore(storeColumn: string | null): string {
  return storeColumn === null
    ? `exists (select from public.transfers t where t.id = r.transfer_id and t.to_store_id = $1::int)`
    : `r."${storeColumn}" = $1::int`;
}

function audiencePredicate(audience: Audience): string {
  switch (audience.kind) {
    case 'all':
      return '$1::int is not null';
    case 'column':
      return `coalesce(r."${audience.column}", 0) in (0, $1::int)`;
    case 'query':
      return `exists (select from (${audience.sql}) as a(store_id) where a.store_id in (0, $1::int))`;
  }
}

/** HQ's primary key: store and partition column before the store's own key. */
function hqKey(root: TableSpec, storeColumn: string | null, partitionColumn: string | null): string[] {
  const owner = storeColumn === 'store_id' ? ['store_id'] : [];
  return [...owner, ...(partitionColumn === null ? [] : [partitionColumn]), ...root.key];
}

function quoted(names: readonly string[]): string {
  return names.map((name) => `"${name}"`).join(', ');
}
