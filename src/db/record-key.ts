/** How a record's key looks in the feed: a JSON array of its key columns as text, without blanks. */
import type { ColumnTypes } from './column-types.ts';
import { ident } from './sql.ts';

/** The key of a row as text: `["0190…","pos:void_sale"]`. One column or several, no ambiguity. */
export function recordKey(alias: string, columns: readonly string[]): string {
  const parts = columns.map((column) => `to_json(${alias}.${ident(column)}::text)::text`);
  return `'[' || ${parts.join(` || ',' || `)} || ']'`;
}

/** The n-th key column out of such a text, in the column's own type, so that the primary key's index serves it. */
export function keyPart(pk: string, index: number, type: string): string {
  return `((${pk})::json ->> ${index})::${type}`;
}

/** `t."id" = ((s.pk)::json ->> 0)::uuid and …`: row `alias` of `table` is the record that `pk` names. */
export function keyMatches(
  alias: string,
  table: string,
  columns: readonly string[],
  pk: string,
  types: ColumnTypes,
): string {
  return columns
    .map((column, index) => `${alias}.${ident(column)} = ${keyPart(pk, index, types.of(table, column))}`)
    .join(' and ');
}
