/** SQL: types of the columns of synced tables, because generated statements cast keys and never guess. */
import { PossyncError } from '../core/errors.ts';
import { tablesOf, type Entity } from '../protocol/entities.ts';
import type { Queryable } from './transaction.ts';

/** Type names as casts, by table and column. */
export class ColumnTypes {
  readonly #types: ReadonlyMap<string, ReadonlyMap<string, string>>;

  constructor(types: ReadonlyMap<string, ReadonlyMap<string, string>>) {
    this.#types = types;
  }

  /** The type of a column, ready to stand behind `::`. */
  of(table: string, column: string): string {
    const type = this.#types.get(table)?.get(column);
    if (type === undefined) {
      throw new PossyncError(
        'PS-CFG-INVALID',
        `the entity table names ${table}.${column}, which is not there`,
        {
          hint: `create the column, or correct the description of ${table}`,
        },
      );
    }
    return type;
  }

  has(table: string, column: string): boolean {
    return this.#types.get(table)?.has(column) === true;
  }
}

/** Reads the catalogue and throws unless every column that the entities name is there. */
export async function readColumnTypes(db: Queryable, entities: readonly Entity[]): Promise<ColumnTypes> {
  const specs = entities.flatMap(tablesOf);
  const { rows } = await db.query<{ table_name: string; column_name: string; type: string }>(
    `select c.relname::text as table_name, a.attname::text as column_name,
            format_type(a.atttypid, null) as type
       from pg_class c
       join pg_namespace n on n.oid = c.relnamespace
       join pg_attribute a on a.attrelid = c.oid
      where n.nspname = 'public' and c.relname = any($1::text[]) and c.relkind in ('r', 'p')
        and a.attnum > 0 and not a.attisdropped`,
    [specs.map((spec) => spec.table)],
  );
  const types = new Map<string, Map<string, string>>();
  for (const row of rows) {
    const columns = types.get(row.table_name) ?? new Map<string, string>();
    columns.set(row.column_name, row.type);
    types.set(row.table_name, columns);
  }
  const found = new ColumnTypes(types);
  for (const spec of specs) {
    for (const column of [...spec.columns, ...(spec.stamped ? ['updated_at'] : [])])
      found.of(spec.table, column);
  }
  return found;
}
