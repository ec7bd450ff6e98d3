/**
 * The data types of one database: those of possync, and the chain's own, described in a file that `init --types` was
 * given and that is kept in possync.own_types.
 *
 * In the database and not beside it: triggers, the seal, the apply and every process of this side must agree on them,
 * and a file that one of them reads a minute later than the others would take them apart.
 */
import { PossyncError } from '../core/errors.ts';
import { ENTITIES, type Entity } from '../protocol/entities.ts';
import { parseEntities } from '../protocol/entity-file.ts';
import { readColumnTypes } from './column-types.ts';
import { publicTable } from './sql.ts';
import { queryMaybe, queryOne, type Queryable } from './transaction.ts';

/** Everything that syncs here, in the order of dependency. Throws PS-CFG-TYPES if what is kept no longer makes sense. */
export async function readEntities(db: Queryable): Promise<readonly Entity[]> {
  const kept = await readDocument(db);
  return kept === undefined ? ENTITIES : [...ENTITIES, ...parseOwnTypes(kept)];
}

/**
 * Checks and keeps a file; the caller installs the triggers afterwards, in the same migrate().
 *
 * A type may change, and be left out only once its root table is gone: its triggers would go on capturing what nobody
 * sends any more.
 */
export async function saveOwnTypes(db: Queryable, text: string): Promise<void> {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (error) {
    throw faulty([`it is not JSON: ${error instanceof Error ? error.message : String(error)}`]);
  }
  const own = parseOwnTypes(document);
  const wanted = new Set(own.map((entity) => entity.root.table));
  const kept = await readDocument(db);
  if (kept !== undefined) {
    const faults: string[] = [];
    for (const { type, root } of parseOwnTypes(kept)) {
      if (!wanted.has(root.table) && (await exists(db, root.table)))
        faults.push(`${type}: it is left out, but its table ${root.table} is still there and captured`);
    }
    if (faults.length > 0) throw faulty(faults);
  }
  // Before anything is kept: a description that names what is not there would leave this side without triggers.
  await readColumnTypes(db, own);
  await db.query(
    `insert into possync.own_types as o (document) values ($1::json)
     on conflict (one) do update set document = excluded.document, changed_at = clock_timestamp()`,
    [JSON.stringify(document)],
  );
}

/** undefined: none were ever given, or the schema is older than the table; json, so that nothing of it is reordered. */
async function readDocument(db: Queryable): Promise<unknown> {
  const { found } = await queryOne<{ found: boolean }>(
    db,
    `select to_regclass('possync.own_types') is not null as found`,
  );
  if (!found) return undefined;
  const row = await queryMaybe<{ document: string }>(
    db,
    'select o.document::text as document from possync.own_types o',
  );
  return row === undefined ? undefined : (JSON.parse(row.document) as unknown);
}

function parseOwnTypes(document: unknown): readonly Entity[] {
  const parsed = parseEntities(document, ENTITIES);
  if (parsed.result === 'faults') throw faulty(parsed.faults);
  return parsed.entities;
}

async function exists(db: Queryable, table: string): Promise<boolean> {
  const { found } = await queryOne<{ found: boolean }>(
    db,
    'select to_regclass($1::text) is not null as found',
    [publicTable(table)],
  );
  return found;
}

function faulty(faults: readonly string[]): PossyncError {
  return new PossyncError('PS-CFG-TYPES', 'the description of the own data types cannot be used', {
    why: faults.join('; '),
  });
}
