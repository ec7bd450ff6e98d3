/**
 * What a comparison of a store with HQ looks at: for every table and way, which rows count on either side, and the one
 * form in which a row is compared. Row-by-row comparison (compare.ts) and digests (digest.ts) are both made from it,
 * so that they cannot disagree.
 *
 *   down   HQ: rows in the store's audience            store: what came down, but not what it only keeps (possync.kept)
 *   up     HQ: rows that this store has sent           store: rows that it writes itself, drafts apart
 *
 * Left out, as the schema says: `updated_at`, and HQ's `received_at`.
 */
import type { Audience, Entity, TableSpec, UpRule } from '../protocol/entities.ts';
import type { ColumnTypes } from './column-types.ts';
import { recordKey } from './record-key.ts';
import { ident, literal, publicTable } from './sql.ts';

export type Direction = 'down' | 'up';

export interface ComparedTable {
  readonly entity: Entity;
  readonly table: TableSpec;
  readonly direction: Direction;
  /** FROM … WHERE, with the rows of the table as alias `x`; $1 is the store's id. */
  readonly hq: string;
  readonly store: string;
  /** Columns of this table that hold the key of its record. */
  readonly recordKey: readonly string[];
  /** At HQ the table has this business date; a store purges what is older than it wants to keep. */
  readonly dateColumn: string | null;
}

/** Every table of every entity, parents first; what is relayed travels both ways and comes twice. */
export function comparedTables(entities: readonly Entity[]): ComparedTable[] {
  return entities.flatMap((entity) => {
    switch (entity.direction) {
      case 'down':
        return downTables(entity);
      case 'up':
        return upTables(entity, entity.up);
      case 'relay':
        return [...upTables(entity, entity.up), ...downTables(entity)];
    }
  });
}

/** The key of a row, and of the record it belongs to, as text. */
export function rowKey({ table }: ComparedTable): string {
  return recordKey('x', table.key);
}

export function recordKeyOf({ recordKey: columns }: ComparedTable): string {
  return recordKey('x', columns);
}

/** MD5 of the row's synced columns, the same text whatever the session's zone and styles are. */
export function rowHash({ table }: ComparedTable, types: ColumnTypes): string {
  return `md5(row(${table.columns.map((column) => canonical(column, types.of(table.table, column))).join(', ')})::text)`;
}

function canonical(column: string, type: string): string {
  const value = `x.${ident(column)}`;
  switch (type) {
    case 'timestamp with time zone':
      return `${value} at time zone 'UTC'`;
    case 'json': // as a document it travels as jsonb: blanks and the order of its keys mean nothing
      return `${value}::jsonb`;
    case 'bytea':
      return `encode(${value}, 'hex')`;
    default:
      return value;
  }
}

function downTables(entity: Entity & { direction: 'down' | 'relay' }): ComparedTable[] {
  const { root, down } = entity;
  const inAudience = `(${down.when ?? 'true'}) and ${audiencePredicate(down.audience)}`;
  // A relayed record in a store is either its own (it travels up) or the other party's (it came down).
  const cameDown = entity.direction === 'relay' ? `not (${ownInStore(entity.up)})` : 'true';
  const notKept = `not exists (select from possync.kept k
      where k.entity = ${literal(entity.type)} and k.pk = ${recordKey('r', root.key)})`;
  const inStore = `${cameDown} and ${notKept} and $1::integer is not null`;
  const base = { entity, direction: 'down', dateColumn: null } as const;
  return [
    {
      ...base,
      table: root,
      recordKey: root.key,
      hq: `${rootRows(root)} where ${inAudience}`,
      store: `${rootRows(root)} where ${inStore}`,
    },
    ...entity.children.map((child): ComparedTable => {
      const live = child.link ? 'x."active"' : 'true';
      const from = childRows(child, child.parentKey, root);
      return {
        ...base,
        table: child,
        recordKey: child.parentKey,
        hq: `${from} where ${live} and ${inAudience}`,
        store: `${from} where ${live} and ${inStore}`,
      };
    }),
  ];
}

function upTables(entity: Entity, up: UpRule): ComparedTable[] {
  const { root } = entity;
  const hqOwner = `r.${ident(up.storeColumn ?? 'store_id')} = $1::integer`;
  const base = { entity, direction: 'up', dateColumn: up.partitionColumn } as const;
  return [
    {
      ...base,
      table: root,
      recordKey: root.key,
      hq: `${rootRows(root)} where ${hqOwner}`,
      store: `${rootRows(root)} where ${sentByStore(up)}`,
    },
    ...entity.children.map((child): ComparedTable => {
      const from = childRows(child, child.parentKey, root);
      return {
        ...base,
        table: child,
        recordKey: child.parentKey,
        // HQ's partitioned children carry the store themselves, and joining them would read every header again.
        hq:
          up.partitionColumn === null
            ? `${from} where ${hqOwner}`
            : `${publicTable(child.table)} x where x."store_id" = $1::integer`,
        store: `${from} where ${sentByStore(up)}`,
      };
    }),
  ];
}

/** The root under both names: audiences and owners are written for `r`, rows are read as `x`. */
function rootRows(root: TableSpec): string {
  return `${publicTable(root.table)} x cross join lateral (select x.*) r`;
}

function childRows(child: TableSpec, parentKey: readonly string[], root: TableSpec): string {
  const toRoot = root.key
    .map((name, i) => `r.${ident(name)} = x.${ident(parentKey[i] ?? name)}`)
    .join(' and ');
  return `${publicTable(child.table)} x join ${publicTable(root.table)} r on ${toRoot}`;
}

/** In a store: the rows that it writes itself. A receipt is the destination's, which its transfer tells. */
function ownInStore({ storeColumn }: UpRule): string {
  return storeColumn === null
    ? `exists (select from public.transfers t where t.id = r.transfer_id and t.to_store_id = $1::integer)`
    : `r.${ident(storeColumn)} = $1::integer`;
}

/** Of those, what is ever sent: a draft reaches no one. */
function sentByStore(up: UpRule): string {
  return up.change.kind === 'transfer' ? `${ownInStore(up)} and r.status <> 'draft'` : ownInStore(up);
}

function audiencePredicate(audience: Audience): string {
  switch (audience.kind) {
    case 'all':
      return '$1::integer is not null';
    case 'column':
      return `coalesce(r.${ident(audience.column)}, 0) in (0, $1::integer)`;
    case 'query':
      return `exists (select from (${audience.sql}) as a(store_id) where a.store_id in (0, $1::integer))`;
  }
}
