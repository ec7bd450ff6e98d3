/**
 * Runs knex migrations safely: several processes at once, a migrator killed half way, a schema newer than the program.
 *
 * A session advisory lock on a connection of its own lets exactly one migrator in; the others wait and then find
 * nothing to do. knex's own lock is a committed row that outlives a killed process, so the holder of the advisory
 * lock frees it first: nobody else can be migrating.
 */
import knex, { type Knex } from 'knex';
import { databaseError, sqlstateOf } from '../core/classify.ts';
import { PossyncError } from '../core/errors.ts';
import { hqMigrations } from '../../migrations/hq/index.ts';
import { storeMigrations } from '../../migrations/store/index.ts';
import { connect } from './pool.ts';
import { queryMaybe, type Queryable } from './transaction.ts';

export type Role = 'hq' | 'store';

export interface Migration {
  /** Without extension: the same name under tsx, dist and any bundle. */
  readonly name: string;
  up(db: Knex): Promise<void>;
  down(db: Knex): Promise<void>;
}

/** 'posync' in a few digits: any constant will do, as long as no other program on the server uses it. */
const MIGRATION_LOCK = 7_067_973;

export function migrationsOf(role: Role): readonly Migration[] {
  return role === 'hq' ? hqMigrations : storeMigrations;
}

const LOCK_NOT_AVAILABLE = '55P03';
const LOCK_MS = 500;
const LOCK_PAUSE_S = 1;
const LOCK_TRIES = 20;

/** knex settings for one role; shared with knexfile.ts, so that the knex CLI sees the same list. */
export function knexConfig(role: Role, url: string | undefined): Knex.Config {
  const migrations = migrationsOf(role);
  return {
    client: 'pg',
    connection: {
      ...(url === undefined ? {} : { connectionString: url }),
      // Whoever writes while a migration waits for a table waits behind it: it gives way, and migrate() tries again.
      options: `-c lock_timeout=${LOCK_MS}`,
    },
    pool: { min: 0, max: 1 },
    migrations: {
      schemaName: 'possync',
      tableName: 'migrations',
      migrationSource: {
        getMigrations: () => Promise.resolve([...migrations]),
        getMigrationName: (migration: Migration) => migration.name,
        getMigration: (migration: Migration) => Promise.resolve(migration),
      },
    },
    // knex prints connection errors on the console by itself; they reach the caller as exceptions anyway.
    log: {
      warn: () => undefined,
      error: () => undefined,
      debug: () => undefined,
      deprecate: () => undefined,
    },
  };
}

/**
 * Brings the schema of `role` up to date and returns the names of the migrations that ran (empty: none was needed).
 *
 * `afterwards` runs under the same lock, e.g. to install the triggers made from the entity table.
 */
export async function migrate(
  role: Role,
  url: string | undefined,
  afterwards: (db: Queryable) => Promise<void>,
): Promise<string[]> {
  const guard = await connect({ url, applicationName: 'possync migrate' });
  const db = knex(knexConfig(role, url));
  try {
    await guard.query('select pg_advisory_lock($1::bigint)', [MIGRATION_LOCK]);
    await guard.query('create schema if not exists possync');
    const state = await schemaState(guard, role);
    refuseForeign(state, role);
    await db.migrate.forceFreeMigrationsLock();
    const ran = await runMigrations(db, guard);
    await afterwards(guard);
    return ran;
  } catch (error) {
    throw databaseError(error);
  } finally {
    await db.destroy();
    await guard.end();
  }
}

/** Each migration is a transaction: one that met a lock has left nothing behind, those before it are done. */
async function runMigrations(db: Knex, guard: Queryable): Promise<string[]> {
  const before = await namesRun(guard);
  for (let tries = 1; ; tries += 1) {
    try {
      await db.migrate.latest();
      return (await namesRun(guard)).filter((name) => !before.includes(name));
    } catch (error) {
      if (sqlstateOf(error) !== LOCK_NOT_AVAILABLE || tries === LOCK_TRIES) throw error;
      await db.migrate.forceFreeMigrationsLock();
      await guard.query('select pg_sleep($1::float8)', [LOCK_PAUSE_S]);
    }
  }
}

async function namesRun(db: Queryable): Promise<string[]> {
  const table = await queryMaybe<{ found: boolean }>(
    db,
    `select to_regclass('possync.migrations') is not null as found`,
  );
  if (table?.found !== true) return [];
  const { rows } = await db.query<{ name: string }>('select name from possync.migrations order by id');
  return rows.map((row) => row.name);
}

export type SchemaState =
  | { readonly result: 'missing' }
  | { readonly result: 'current' }
  | { readonly result: 'behind'; readonly missing: readonly string[] }
  | { readonly result: 'newer'; readonly unknown: readonly string[] }
  | { readonly result: 'other-role'; readonly found: Role };

/** Compares the migrations in the database with those of this program. */
export async function schemaState(db: Queryable, role: Role): Promise<SchemaState> {
  const exists = await queryMaybe<{ found: boolean }>(
    db,
    `select to_regclass('possync.migrations') is not null and to_regclass('possync.identity') is not null as found`,
  );
  if (exists?.found !== true) return { result: 'missing' };
  const identity = await queryMaybe<{ role: Role }>(db, 'select role from possync.identity');
  if (identity !== undefined && identity.role !== role) return { result: 'other-role', found: identity.role };
  const { rows } = await db.query<{ name: string }>('select name from possync.migrations order by id');
  const done = new Set(rows.map((row) => row.name));
  const known = migrationsOf(role).map((migration) => migration.name);
  const unknown = [...done].filter((name) => !known.includes(name));
  if (unknown.length > 0) return { result: 'newer', unknown };
  const missing = known.filter((name) => !done.has(name));
  return missing.length > 0 ? { result: 'behind', missing } : { result: 'current' };
}

function refuseForeign(state: SchemaState, role: Role): void {
  if (state.result === 'newer') {
    throw new PossyncError('PS-DB-NEWER', 'the database is newer than this program', {
      why: `it has the migration ${state.unknown.join(', ')}, which this version does not know`,
    });
  }
  if (state.result === 'other-role') {
    throw new PossyncError(
      'PS-DB-ROLE',
      `this database belongs to ${state.found === 'hq' ? 'HQ' : 'a store'}`,
      {
        why: `it cannot become ${role === 'hq' ? 'HQ' : 'a store'} as well`,
      },
    );
  }
}

/** Throws unless the schema is exactly the one this program needs: what the servers check before they start. */
export async function requireCurrentSchema(db: Queryable, role: Role): Promise<void> {
  const state = await schemaState(db, role);
  refuseForeign(state, role);
  if (state.result === 'current') return;
  const why =
    state.result === 'behind'
      ? `${state.missing.length} migration(s) are missing: ${state.missing.join(', ')}`
      : 'it has no possync schema yet';
  throw new PossyncError('PS-DB-MIGRATE', 'the database schema is older than this program', {
    why,
    hint: `run: possync ${role} init (or add --migrate)`,
  });
}
