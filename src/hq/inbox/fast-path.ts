/**
 * The fast way into HQ's tables: rows that a store has inserted go to COPY as they came.
 *
 *   body ─ sections ─┬─ I, partitioned type, our layout ──▶ COPY, a table after the other, in one message
 *                    └─ everything else ──▶ JSON ──▶ possync.apply_batch, behind them in the same savepoint
 *
 * Nothing is believed: the header must name the store of the credential and a state that exists; of its lines, store and
 * date are not theirs to say, they are written in front of each from the header in the same transaction. What does not
 * fit goes with the rest, and any data error takes the batch to the careful way (apply.ts), so this file decides
 * how fast a batch is and never what becomes of it. A row that was there before is such an error: a duplicate key.
 */
import type { Entity, TableSpec, UpRule } from '../../protocol/entities.ts';
import { upEntities } from '../../protocol/entities.ts';
import {
  csvOf,
  fieldsOf,
  JSON_LAYOUT,
  layoutOf,
  layoutsOf,
  sectionsAsJson,
  sectionsOf,
  type Layout,
  type Section,
} from '../../protocol/row-text.ts';
import type { CopyIn } from '../../db/copy-in.ts';
import { ident, publicTable } from '../../db/sql.ts';
import type { Entry } from './apply.ts';

/** How rows of one layout reach a table by COPY. */
interface Route {
  readonly copy: string;
  readonly root: TableSpec;
  /** Of headers only. */
  readonly header?: {
    readonly columns: number;
    readonly key: number;
    readonly store: number;
    readonly date: number;
    readonly state: number;
    readonly states: readonly string[];
  };
}

export type IsJson = (table: string, column: string) => boolean;

export interface FastPlan {
  readonly copies: readonly CopyIn[];
  /** What COPY cannot take, as JSON. */
  readonly rest: readonly { readonly seq: number; readonly body: string }[];
  /** Of the headers among what is copied: table, key and date. */
  readonly headers: readonly (readonly [table: string, key: string, date: string])[];
}

export class FastPath {
  readonly layouts: ReadonlyMap<string, Layout>;
  readonly #routes: ReadonlyMap<string, Route>;
  /** Parents first; only so that a batch of HQ's is written in a fixed order. */
  readonly #order: readonly string[];

  constructor(entities: readonly Entity[]) {
    this.layouts = layoutsOf(entities);
    const routes = upEntities(entities).flatMap(({ root, children, up }) => {
      const header = headerOf(root, up);
      const date = up.partitionColumn;
      // Only what comes by the thousand, which is what is partitioned: each table is a statement more in the message.
      if (header === undefined || date === null) return [];
      const prefixed = children.filter(
        ({ parentKey, columns }) => parentKey.length === 1 && parentKey[0] === columns[0],
      );
      return [
        [
          layoutOf(root).id,
          { root, header, copy: copyStatement(root.table, layoutOf(root).columns) },
        ] as const,
        ...prefixed.map(
          (child) =>
            [
              layoutOf(child).id,
              { root, copy: copyStatement(child.table, ['store_id', date, ...layoutOf(child).columns]) },
            ] as const,
        ),
      ];
    });
    this.#routes = new Map<string, Route>(routes);
    this.#order = [...this.#routes.keys()];
  }

  /** undefined: nothing of it can be copied. */
  plan(
    entries: readonly Entry[],
    storeId: number,
    layouts: ReadonlyMap<string, Layout>,
    isJson: IsJson,
  ): FastPlan | undefined {
    const texts = new Map<string, { text: string; rows: number }>();
    const rest: { seq: number; body: string }[] = [];
    const headers: [string, string, string][] = [];
    for (const { seq, v, body } of entries) {
      if (v < 2) {
        rest.push({ seq, body });
        continue;
      }
      const sections = sectionsOf(body);
      if (sections === undefined) return undefined;
      const left = this.#copySections(sections, String(storeId), texts, headers);
      // A layout of another release: its columns are known once the hello of the store was read.
      if (left.some(({ layout }) => layout !== JSON_LAYOUT && !layouts.has(layout))) return undefined;
      if (left.length > 0) rest.push({ seq, body: jsonOrNothing(left, layouts, isJson) ?? body });
    }
    if (texts.size === 0) return undefined;
    const copies = this.#order.flatMap((layout) => {
      const copied = texts.get(layout);
      const route = this.#routes.get(layout);
      if (copied === undefined || route === undefined) return [];
      return [{ sql: route.copy, data: Buffer.from(copied.text), rows: copied.rows }];
    });
    return { copies, rest, headers };
  }

  /** Adds what can be copied and returns what cannot. */
  #copySections(
    sections: readonly Section[],
    storeId: string,
    texts: Map<string, { text: string; rows: number }>,
    headers: [string, string, string][],
  ): Section[] {
    const left: Section[] = [];
    /** By table and key, what stands in front of a child: `7,2026-11-20,`. */
    const prefixes = new Map<string, string>();
    const add = (layout: string, lines: string, rows: number): void => {
      const copied = texts.get(layout) ?? { text: '', rows: 0 };
      copied.text += lines;
      copied.rows += rows;
      texts.set(layout, copied);
    };
    const children: Section[] = [];
    for (const section of sections) {
      const route = section.inserted ? this.#routes.get(section.layout) : undefined;
      if (route?.header === undefined) {
        (route === undefined ? left : children).push(section);
        continue;
      }
      const lines = headerLines(section, route.root.table, route.header, storeId, prefixes, headers);
      if (lines === undefined) left.push(section);
      else add(section.layout, lines, section.rows.length);
    }
    for (const section of children) {
      const lines = childLines(section, this.#routes.get(section.layout)?.root.table ?? '', prefixes);
      if (lines === undefined) left.push(section);
      else add(section.layout, lines, section.rows.length);
    }
    return left;
  }
}

/** undefined: rows that do not fit their layout. The database then refuses the body, and the batch goes the careful way. */
function jsonOrNothing(
  sections: readonly Section[],
  layouts: ReadonlyMap<string, Layout>,
  isJson: IsJson,
): string | undefined {
  try {
    return sectionsAsJson(sections, layouts, isJson);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function headerOf(root: TableSpec, up: UpRule): Route['header'] {
  const { change, storeColumn, partitionColumn } = up;
  if (storeColumn === null || partitionColumn === null || root.key.length !== 1) return undefined;
  if (change.kind !== 'append' && change.kind !== 'states') return undefined;
  const { columns } = layoutOf(root);
  const at = (column: string | undefined): number => columns.indexOf(column ?? '');
  return {
    columns: columns.length,
    key: at(root.key[0]),
    store: at(storeColumn),
    date: at(partitionColumn),
    state: change.kind === 'states' ? at(change.column) : -1,
    states: change.kind === 'states' ? change.order : [],
  };
}

function copyStatement(table: string, columns: readonly string[]): string {
  return `copy ${publicTable(table)} (${columns.map(ident).join(', ')}) from stdin (format csv)`;
}

/** A date as PostgreSQL writes it; anything else would be a way to write more than a date in front of a line. */
const DATE = /^\d{4,7}-\d\d-\d\d$/;

function headerLines(
  { rows }: Section,
  table: string,
  header: NonNullable<Route['header']>,
  storeId: string,
  prefixes: Map<string, string>,
  headers: [string, string, string][],
): string | undefined {
  let lines = '';
  const found: [string, string][] = [];
  for (const row of rows) {
    // A backslash reads differently here and in COPY: such a header must not be judged by one and written by the other.
    if (row.includes('\\')) return undefined;
    const fields = fieldsOf(row);
    const key = fields[header.key];
    const date = fields[header.date];
    if (fields.length !== header.columns || typeof key !== 'string' || typeof date !== 'string')
      return undefined;
    if (fields[header.store] !== storeId || !DATE.test(date)) return undefined;
    if (header.state >= 0 && !header.states.includes(fields[header.state] ?? '')) return undefined;
    found.push([`${table}:${key}`, `${storeId},${date},`]);
    lines += `${row.slice(1, -1)}\n`;
  }
  for (const [key, prefix] of found) {
    prefixes.set(key, prefix);
    headers.push([table, key.slice(table.length + 1), prefix.slice(storeId.length + 1, -1)]);
  }
  return lines;
}

/** Only with the header in the same transaction; a child that comes later finds its header in the careful way. */
function childLines(
  { rows }: Section,
  table: string,
  prefixes: ReadonlyMap<string, string>,
): string | undefined {
  let lines = '';
  let lastKey: string | undefined;
  let prefix: string | undefined;
  for (const row of rows) {
    const key = row.slice(1, row.indexOf(','));
    if (key !== lastKey) {
      prefix = prefixes.get(`${table}:${key}`);
      lastKey = key;
    }
    if (prefix === undefined) return undefined;
    lines += `${prefix}${csvOf(row)}\n`;
  }
  return lines;
}
