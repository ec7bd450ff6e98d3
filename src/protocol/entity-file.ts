/**
 * A chain's own data types, described in a JSON file of the shape of ENTITIES: `{"entities": [{…}, …]}`.
 *
 * `updated_at` and defaults may be left out. SQL in `when`, `sql` and `highWhen` runs inside generated functions with
 * an empty search path: names are written out (`public.suppliers`), the root row is `r`. The file belongs to the
 * administrator, like the migrations that make its tables: it is checked for sense, not for malice.
 */
import * as z from 'zod';
import { tablesOf, type Entity } from './entities.ts';

/** PostgreSQL cuts longer names, and would then call two triggers alike. */
const name = z
  .string()
  .regex(/^[a-z_][a-z0-9_]{0,50}$/, 'must be a plain lower-case name of at most 51 characters');
const names = z.array(name).max(400);
const predicate = z.string().trim().min(1).max(4_000);

const tableSchema = z.strictObject({
  table: name,
  key: names.min(1).max(8),
  columns: names.min(1),
  stamped: z.boolean().default(false),
});

const childSchema = tableSchema.extend({
  field: name,
  parentKey: names.min(1).max(8),
  link: z.boolean().default(false),
});

const downSchema = z.strictObject({
  audience: z.discriminatedUnion('kind', [
    z.strictObject({ kind: z.literal('all') }),
    z.strictObject({ kind: z.literal('column'), column: name }),
    z.strictObject({ kind: z.literal('query'), sql: predicate }),
  ]),
  when: predicate.optional(),
  removal: z.enum(['delete', 'deactivate', 'delete-or-deactivate', 'keep']),
  unique: names.default([]),
  alsoMarkedBy: z.array(z.strictObject({ table: name, key: names.min(1).max(8) })).default([]),
  priority: z
    .union([z.enum(['high', 'normal']), z.strictObject({ highColumns: names.min(1) })])
    .default('normal'),
});

const upSchema = z.strictObject({
  change: z.discriminatedUnion('kind', [
    z.strictObject({ kind: z.literal('append') }),
    z.strictObject({ kind: z.literal('replace') }),
    z.strictObject({
      kind: z.literal('states'),
      column: name,
      order: z.array(z.string().min(1).max(100)).min(2).max(50),
      mutable: names.nullable().default(null),
    }),
  ]),
  storeColumn: name,
  partitionColumn: name.nullable().default(null),
  priority: z.union([z.enum(['high', 'normal']), z.strictObject({ highWhen: predicate })]).default('normal'),
});

const base = {
  type: name,
  title: z.string().trim().min(1).max(60),
  root: tableSchema,
  children: z.array(childSchema).max(20).default([]),
};

const entitySchema = z.discriminatedUnion('direction', [
  z.strictObject({ ...base, direction: z.literal('down'), down: downSchema }),
  z.strictObject({ ...base, direction: z.literal('up'), up: upSchema }),
]);

const fileSchema = z.strictObject({ entities: z.array(entitySchema).max(200) });

export type EntityFile =
  | { readonly result: 'entities'; readonly entities: Entity[] }
  /** Every fault at once, each with the place where it is. */
  | { readonly result: 'faults'; readonly faults: string[] };

/**
 * Parses and checks such a file. `known` are the types that are there already: names and tables may not meet theirs.
 * Its types come after them in the order of dependency.
 */
export function parseEntities(json: unknown, known: readonly Entity[] = []): EntityFile {
  const parsed = fileSchema.safeParse(json);
  if (!parsed.success) {
    return {
      result: 'faults',
      faults: parsed.error.issues.map((issue) => `${issue.path.join('.') || 'the file'}: ${issue.message}`),
    };
  }
  const entities = parsed.data.entities.map(asEntity);
  const faults = [...entities.flatMap(faultsOf), ...clashes([...known, ...entities])];
  return faults.length === 0 ? { result: 'entities', entities } : { result: 'faults', faults };
}

function asEntity(entity: z.infer<typeof entitySchema>): Entity {
  if (entity.direction === 'up') return entity;
  const { when, ...down } = entity.down;
  return { ...entity, down: when === undefined ? down : { ...down, when } };
}

/** Contradictions inside one entry that its shape cannot show. */
function faultsOf(entity: Entity): string[] {
  const faults: string[] = [];
  const need = (ok: boolean, text: string): void => {
    if (!ok) faults.push(`${entity.type}: ${text}`);
  };
  for (const spec of tablesOf(entity)) {
    need(new Set(spec.columns).size === spec.columns.length, `${spec.table} names a column twice`);
    need(
      spec.key.every((column) => spec.columns.includes(column)),
      `the key of ${spec.table} must be among its columns`,
    );
    need(!spec.columns.includes('updated_at'), `${spec.table}: write "stamped": true instead of updated_at`);
  }
  const { root } = entity;
  for (const child of entity.children) {
    need(
      child.parentKey.length === root.key.length,
      `${child.table} must hold the whole key of ${root.table}`,
    );
    need(
      child.parentKey.every((column) => child.key.includes(column)),
      `the key of ${child.table} must hold its parentKey`,
    );
    need(
      !child.link || child.columns.includes('active'),
      `${child.table} is a link but has no column active`,
    );
    need(!root.columns.includes(child.field), `${child.field} is a column already`);
  }
  if (entity.direction === 'down') {
    const { audience, removal, unique, priority } = entity.down;
    const has = (column: string): boolean => root.columns.includes(column);
    if (audience.kind === 'column')
      need(has(audience.column), `audience names ${audience.column}, which is no column`);
    if (removal !== 'delete' && removal !== 'keep')
      need(has('active'), `removal ${removal} needs a column active`);
    need(
      unique.every((column) => has(column) && !root.key.includes(column)),
      'unique names no column outside the key',
    );
    if (typeof priority === 'object') need(priority.highColumns.every(has), 'highColumns names no column');
  }
  if (entity.direction === 'up') {
    const { storeColumn, partitionColumn, change } = entity.up;
    need(storeColumn !== null && root.columns.includes(storeColumn), 'storeColumn names no column');
    need(
      partitionColumn === null || root.columns.includes(partitionColumn),
      'partitionColumn names no column',
    );
    if (change.kind === 'states') {
      need(root.columns.includes(change.column), 'change.column names no column');
      need(change.mutable?.includes(change.column) !== false, 'mutable must hold the column of the states');
    }
  }
  return faults;
}

function clashes(entities: readonly Entity[]): string[] {
  const faults: string[] = [];
  const types = new Set<string>();
  const tables = new Set<string>();
  for (const entity of entities) {
    if (types.has(entity.type)) faults.push(`${entity.type}: this type is described twice`);
    types.add(entity.type);
    for (const { table } of tablesOf(entity)) {
      if (tables.has(table))
        faults.push(`${entity.type}: the table ${table} belongs to another type already`);
      tables.add(table);
    }
  }
  return faults;
}
