/** Which records a store transaction touches: read from its body only where a batch has to be taken apart. */
import { tablesOf, upEntities, type Entity } from '../../protocol/entities.ts';

export interface BodySummary {
  /** Type and key of the first record, for people. */
  readonly type: string;
  readonly key: string;
  /** `type:key` of every record: what is parked behind what. */
  readonly aggregates: readonly string[];
}

/** For each table that travels up: the type of its record, and the columns that hold the record's key. */
export type RootKeys = ReadonlyMap<string, RootKey>;

interface RootKey {
  readonly type: string;
  readonly columns: readonly string[];
}

/** Made from the entity table, a chain's own types included. */
export function rootKeys(entities: readonly Entity[]): RootKeys {
  const keys = new Map<string, RootKey>();
  for (const entity of upEntities(entities)) {
    for (const { table } of tablesOf(entity)) {
      const child = entity.children.find((candidate) => candidate.table === table);
      keys.set(table, { type: entity.type, columns: child?.parentKey ?? entity.root.key });
    }
  }
  return keys;
}

/** Never throws: a body that makes no sense is refused by the database, and is then a dead letter of its own. */
export function summarize(body: string, keys: RootKeys): BodySummary {
  const aggregates = new Set<string>();
  let first: { type: string; key: string } | undefined;
  for (const [table, rows] of Object.entries(parseObject(body))) {
    const root = keys.get(table);
    if (root === undefined || !Array.isArray(rows)) continue;
    for (const row of rows as unknown[]) {
      const key = keyOf(row, root.columns);
      first ??= { type: root.type, key };
      aggregates.add(`${root.type}:${key}`);
    }
  }
  return { type: first?.type ?? 'unknown', key: first?.key ?? '', aggregates: [...aggregates] };
}

function parseObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

/** As the store's capture writes it: the column itself, or a JSON array where there are several. */
function keyOf(row: unknown, columns: readonly string[]): string {
  const fields = typeof row === 'object' && row !== null ? (row as Record<string, unknown>) : {};
  const values = columns.map((column) => {
    const value = fields[column];
    return typeof value === 'string' || typeof value === 'number' ? String(value) : '';
  });
  return values.length === 1 ? (values[0] ?? '') : JSON.stringify(values);
}
