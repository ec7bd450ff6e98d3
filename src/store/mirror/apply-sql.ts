/**
 * Writes the statements of an apply from the entity table: staged documents into the tables of the store.
 *
 *   per type, parents first:   UPDATE what differs ─▶ INSERT what is missing ─▶ children: DELETE, UPDATE, INSERT
 *   then, children first:      removals (removal-sql.ts)
 *
 * No ON CONFLICT: it locks a row by the columns in its list, changed or not, and every till that sells that product
 * would wait for the whole apply. A plain UPDATE takes the strong lock only where a key value really changes. The
 * order does not matter to constraints (they are deferred), but to the plans: no row is looked at twice.
 */
import type { ColumnTypes } from '../../db/column-types.ts';
import { keyMatches } from '../../db/record-key.ts';
import { columnsOf, ident, literal, publicTable } from '../../db/sql.ts';
import type { ChildSpec, DownEntity, RelayEntity, TableSpec } from '../../protocol/entities.ts';

export type MirroredEntity = DownEntity | RelayEntity;

/** Types without an equality: compared as text. */
const WITHOUT_EQUALITY = new Set(['json', 'xml', 'point', 'polygon']);

function written(spec: TableSpec): string[] {
  return spec.stamped ? [...spec.columns, 'updated_at'] : [...spec.columns];
}

/** `(t."sku", …) is distinct from (d."sku", …)`; updated_at is never a reason to write. */
function differs(spec: TableSpec, types: ColumnTypes): string | undefined {
  const columns = spec.columns.filter((column) => !spec.key.includes(column));
  if (columns.length === 0) return undefined;
  const row = (alias: string): string =>
    columns
      .map((column) => {
        const cast = WITHOUT_EQUALITY.has(types.of(spec.table, column)) ? '::text' : '';
        return `${alias}.${ident(column)}${cast}`;
      })
      .join(', ');
  return `(${row('t')}) is distinct from (${row('d')})`;
}

function assignments(spec: TableSpec): string {
  return written(spec)
    .filter((column) => !spec.key.includes(column))
    .map((column) => `${ident(column)} = d.${ident(column)}`)
    .join(', ');
}

/** Staged documents `s` of one type. */
function staged(type: string): string {
  return `s.entity = ${literal(type)} and s.doc is not null`;
}

function updateRoot({ type, root }: MirroredEntity, types: ColumnTypes): string[] {
  const condition = differs(root, types);
  if (condition === undefined) return [];
  return [
    `update ${publicTable(root.table)} t set ${assignments(root)}
  from possync.staging s
 cross join lateral jsonb_populate_record(null::${publicTable(root.table)}, s.doc) d
 where ${staged(type)} and ${keyMatches('t', root.table, root.key, 's.pk', types)}
   and ${condition}`,
  ];
}

function insertRoot({ type, root }: MirroredEntity): string {
  const columns = written(root);
  return `insert into ${publicTable(root.table)} (${columns.map(ident).join(', ')})
select ${columnsOf('d', columns)}
  from possync.staging s
 cross join lateral jsonb_populate_record(null::${publicTable(root.table)}, s.doc) d
 where ${staged(type)}
   and not exists (select from ${publicTable(root.table)} t where ${sameKey(root)})`;
}

function sameKey(spec: TableSpec): string {
  return spec.key.map((column) => `d.${ident(column)} = t.${ident(column)}`).join(' and ');
}

/** Rows of a child that the document no longer has go; the rest is compared like any other row. */
function childStatements({ type }: MirroredEntity, child: ChildSpec, types: ColumnTypes): string[] {
  const table = publicTable(child.table);
  const documents = `jsonb_populate_recordset(null::${table}, s.doc -> ${literal(child.field)}) d`;
  const ofParent = keyMatches('t', child.table, child.parentKey, 's.pk', types);
  const condition = differs(child, types);
  const columns = written(child);
  return [
    `delete from ${table} t using possync.staging s
 where ${staged(type)} and ${ofParent}
   and not exists (select from ${documents} where ${sameKey(child)})`,
    ...(condition === undefined
      ? []
      : [
          `update ${table} t set ${assignments(child)}
  from possync.staging s cross join lateral ${documents}
 where ${staged(type)} and ${ofParent} and ${sameKey(child)} and ${condition}`,
        ]),
    `insert into ${table} (${columns.map(ident).join(', ')})
select ${columnsOf('d', columns)}
  from possync.staging s cross join lateral ${documents}
 where ${staged(type)} and not exists (select from ${table} t where ${sameKey(child)})`,
  ];
}

/** The statements that bring the documents of one type into its tables. */
export function upsertStatements(entity: MirroredEntity, types: ColumnTypes): string[] {
  return [
    ...updateRoot(entity, types),
    insertRoot(entity),
    ...entity.children.flatMap((child) => childStatements(entity, child, types)),
  ];
}
