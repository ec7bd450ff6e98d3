/**
 * The body of a store transaction, version 2: rows as PostgreSQL writes them, so that HQ can hand them to COPY.
 *
 *   I 1 5d1c09aa sales              what the rows are: new in this transaction (I) or changed (U) · how many · layout · table
 *   (0190…,7,…,completed,,"1 2")    one row, as `row::text` gives it: NULL is nothing, '' is "", quotes doubled
 *   I 5 77be4f02 sale_lines
 *   (0190…,1,…)
 *
 * A *layout* names a list of columns: both ends make its id from the entity table, so where the ids are equal the
 * columns are. A store of another release says in hello what its ids stand for. The layout `-` means JSON objects:
 * captured by triggers of version 1 and sealed after an upgrade.
 */
import { createHash } from 'node:crypto';
import { tablesOf, upEntities, type Entity, type TableSpec } from './entities.ts';

export interface Layout {
  readonly id: string;
  readonly table: string;
  readonly columns: readonly string[];
}

export const JSON_LAYOUT = '-';

/** What a captured row holds, in this order. */
export function rowColumns(table: TableSpec): readonly string[] {
  return table.stamped ? [...table.columns, 'updated_at'] : table.columns;
}

export function layoutOf(table: TableSpec): Layout {
  const columns = rowColumns(table);
  const id = createHash('sha256')
    .update(JSON.stringify([table.table, columns]))
    .digest('hex')
    .slice(0, 8);
  return { id, table: table.table, columns };
}

/** The layouts of everything that travels up, by id. */
export function layoutsOf(entities: readonly Entity[]): ReadonlyMap<string, Layout> {
  const layouts = upEntities(entities).flatMap(tablesOf).map(layoutOf);
  return new Map(layouts.map((layout) => [layout.id, layout]));
}

export interface Section {
  readonly table: string;
  readonly layout: string;
  /** The transaction inserted these rows; false: it changed rows that were there. */
  readonly inserted: boolean;
  readonly rows: readonly string[];
}

/** undefined: this is no body of version 2. */
export function sectionsOf(body: string): Section[] | undefined {
  const sections: Section[] = [];
  for (let at = 0; at < body.length;) {
    const end = body.indexOf('\n', at);
    if (end < 0) return undefined;
    const [op, count, layout, ...name] = body.slice(at, end).split(' ');
    const n = Number(count);
    if ((op !== 'I' && op !== 'U') || layout === undefined || !Number.isInteger(n) || n < 1) return undefined;
    const rows: string[] = [];
    at = end + 1;
    for (let left = n; left > 0; left -= 1) {
      const rowEnd = layout === JSON_LAYOUT ? body.indexOf('\n', at) : endOfRow(body, at);
      if (rowEnd < 0) return undefined;
      const row = body.slice(at, rowEnd);
      if (layout !== JSON_LAYOUT && !isRow(row)) return undefined;
      rows.push(row);
      at = rowEnd + 1;
    }
    sections.push({ table: name.join(' '), layout, inserted: op === 'I', rows });
  }
  return sections;
}

/**
 * What stands between the parentheses is read by itself later. Were one of them a quote, it would be missing there: what
 * was inside quotes would be outside, and a line feed in it would begin a row of COPY that nobody has looked at.
 */
function isRow(row: string): boolean {
  return row.startsWith('(') && row.endsWith(')');
}

/** A line feed inside quotes belongs to the row; quotes inside quotes are doubled, so their number tells. */
function endOfRow(body: string, from: number): number {
  let end = body.indexOf('\n', from);
  let quote = body.indexOf('"', from);
  for (let inside = false; end >= 0; end = body.indexOf('\n', end + 1)) {
    for (; quote >= 0 && quote < end; quote = body.indexOf('"', quote + 1)) inside = !inside;
    if (!inside) return end;
  }
  return end;
}

/** The fields of a row, NULL as null. */
export function fieldsOf(row: string): (string | null)[] {
  const inner = row.slice(1, -1);
  if (!/["\\]/.test(inner)) return inner.split(',').map((field) => (field === '' ? null : field));
  const fields: (string | null)[] = [];
  let field = '';
  let quoted = false;
  let inside = false;
  const done = (): void => {
    fields.push(field === '' && !quoted ? null : field);
    field = '';
    quoted = false;
  };
  for (let at = 0; at < inner.length; at += 1) {
    const char = inner.charAt(at);
    if (char === '\\' || (char === '"' && inside && inner.charAt(at + 1) === '"')) {
      at += 1;
      field += inner.charAt(at);
    } else if (char === '"') {
      inside = !inside;
      quoted = true;
    } else if (char === ',' && !inside) {
      done();
    } else {
      field += char;
    }
  }
  done();
  return fields;
}

/** A row as COPY reads it in its CSV format: only backslashes are written differently. */
export function csvOf(row: string): string {
  const inner = row.slice(1, -1);
  return inner.includes('\\') ? inner.replaceAll('\\\\', '\\') : inner;
}

/**
 * The same as version 1 wrote it: `{"sales":[{"id":…}],…}`, with every value as text but those of `isJson`.
 * Throws where a layout is not known or the text makes no sense.
 */
export function bodyAsJson(
  body: string,
  layouts: ReadonlyMap<string, Layout>,
  isJson: (table: string, column: string) => boolean,
): string {
  const sections = sectionsOf(body);
  if (sections === undefined) throw new SyntaxError('this is no body of version 2');
  return sectionsAsJson(sections, layouts, isJson);
}

export function sectionsAsJson(
  sections: readonly Section[],
  layouts: ReadonlyMap<string, Layout>,
  isJson: (table: string, column: string) => boolean,
): string {
  const tables = new Map<string, string[]>();
  for (const { table, layout, rows } of sections) {
    const into = tables.get(table) ?? [];
    tables.set(table, into);
    for (const row of rows) {
      into.push(layout === JSON_LAYOUT ? row : objectOf(row, layouts.get(layout), isJson));
    }
  }
  return `{${[...tables].map(([table, rows]) => `${JSON.stringify(table)}:[${rows.join(',')}]`).join(',')}}`;
}

function objectOf(
  row: string,
  layout: Layout | undefined,
  isJson: (table: string, column: string) => boolean,
): string {
  if (layout === undefined) throw new SyntaxError('a row with a layout that nobody has described');
  const fields = fieldsOf(row);
  if (fields.length !== layout.columns.length)
    throw new SyntaxError('a row with more or fewer columns than its layout');
  const members = layout.columns.map((column, n) => {
    const value = fields[n] ?? null;
    const text = value !== null && isJson(layout.table, column) ? value : JSON.stringify(value);
    return `${JSON.stringify(column)}:${text}`;
  });
  return `{${members.join(',')}}`;
}
