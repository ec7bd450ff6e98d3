/** Migrations on a real server: several migrators, a killed one, a newer schema, the wrong database, up and down. */
import assert from 'node:assert/strict';
import { join, resolve } from 'node:path';
import knex from 'knex';
import { installTriggers } from '../../src/db/capture.ts';
import {
  knexConfig,
  migrate,
  migrationsOf,
  requireCurrentSchema,
  schemaState,
  type Role,
} from '../../src/db/migrations.ts';
import { queryOne } from '../../src/db/transaction.ts';
import { createDatabase, hqDatabase, storeDatabase, type TestDatabase } from '../support/postgres.ts';
import { startNode, startPossync, type TestProcess } from '../support/process.ts';
import { until } from '../support/until.ts';

const PROGRAM = resolve(import.meta.dirname, 'run-migrate.ts');
const ROOT = resolve(import.meta.dirname, '../..');
const KNEX = join(ROOT, 'node_modules', 'knex', 'bin', 'cli.js');

const names = (role: Role): string[] => migrationsOf(role).map(({ name }) => name);

async function startMigrator(role: Role, { url }: TestDatabase): Promise<TestProcess> {
  return startNode(['--import', 'tsx', PROGRAM, role], { env: { DATABASE_URL: url } });
}

async function result(migrator: TestProcess): Promise<string[]> {
  const { code, stdout, stderr } = await migrator.ended();
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout) as string[];
}

async function rollbackAll(role: Role, { url }: TestDatabase): Promise<void> {
  const db = knex(knexConfig(role, url));
  try {
    await db.migrate.rollback(undefined, true);
  } finally {
    await db.destroy();
  }
}

describe('migrations', () => {
  const databases: TestDatabase[] = [];

  async function keep(made: Promise<TestDatabase>): Promise<TestDatabase> {
    const database = await made;
    databases.push(database);
    return database;
  }

  afterEach(async () => {
    for (const database of databases.splice(0)) await database.drop();
  });

  for (const role of ['hq', 'store'] as const) {
    it(`bring an empty database to the schema of ${role}, once`, async () => {
      const database = await keep(createDatabase('migrate'));
      assert.deepEqual(await migrate(role, database.url, (db) => installTriggers(db, role)), names(role));
      assert.deepEqual(await migrate(role, database.url, (db) => installTriggers(db, role)), []);
      const client = await database.connect();
      await requireCurrentSchema(client, role);
    });

    it(`go down to nothing and up again at ${role}`, async () => {
      const database = await keep(createDatabase('down'));
      const client = await database.connect();
      const nothing = (): Promise<void> => Promise.resolve();
      await migrate(role, database.url, nothing);
      await rollbackAll(role, database);
      const { rows } = await client.query<{ name: string }>(
        `select n.nspname || '.' || c.relname as name
           from pg_class c join pg_namespace n on n.oid = c.relnamespace
          where n.nspname in ('public', 'possync') and c.relkind in ('r', 'p', 'v', 'm', 'S')
            and c.relname not like 'migrations%' order by 1`,
      );
      assert.deepEqual(rows, []);
      assert.deepEqual(await migrate(role, database.url, nothing), names(role));
    });
  }

  it('free the lock of knex that a killed program has left behind', async () => {
    const database = await keep(createDatabase('left_locked'));
    const client = await database.connect();
    const nothing = (): Promise<void> => Promise.resolve();
    await migrate('hq', database.url, nothing);
    await rollbackAll('hq', database);
    await client.query('update possync.migrations_lock set is_locked = 1');
    assert.deepEqual(await migrate('hq', database.url, nothing), names('hq'));
  });

  it('run once when three programs start at the same time', async () => {
    const database = await keep(createDatabase('three'));
    const migrators = await Promise.all([1, 2, 3].map(() => startMigrator('store', database)));
    const results = await Promise.all(migrators.map(result));
    assert.deepEqual(
      results.sort((a, b) => b.length - a.length),
      [names('store'), [], []],
    );
  });

  it('are finished by those who wait when the first is killed half way', async () => {
    const database = await keep(createDatabase('killed'));
    const client = await database.connect();
    // A table of the same name, not committed, stops the migration in its middle.
    const obstacle = await database.connect();
    await obstacle.query('begin; create table public.sales ()');
    const waiting = (condition: string): Promise<number> =>
      queryOne<{ count: number }>(
        client,
        `select count(*) from pg_stat_activity a join pg_locks l using (pid)
          where a.datname = current_database() and not l.granted and ${condition}`,
      ).then(({ count }) => count);

    const first = await startMigrator('store', database);
    await until(async () => (await waiting(`l.locktype = 'transactionid'`)) === 1, {
      what: 'half a migration',
    });
    const others = await Promise.all([1, 2].map(() => startMigrator('store', database)));
    await until(async () => (await waiting(`l.locktype = 'advisory'`)) === 2, {
      what: 'two waiting migrators',
    });

    await first.kill();
    await obstacle.query('rollback');
    const results = await Promise.all(others.map(result));
    assert.deepEqual(
      results.sort((a, b) => b.length - a.length),
      [names('store'), []],
    );
    await requireCurrentSchema(client, 'store');
  });

  it('refuse a database that a newer program has migrated', async () => {
    const database = await keep(storeDatabase('newer'));
    const client = await database.connect();
    await client.query(
      `insert into possync.migrations (name, batch, migration_time) values ('9999_from_the_future', 9, now())`,
    );
    const refused = { code: 'PS-DB-NEWER', exit: 78, why: /9999_from_the_future/ };
    await assert.rejects(
      migrate('store', database.url, (db) => installTriggers(db, 'store')),
      refused,
    );
    await assert.rejects(requireCurrentSchema(client, 'store'), refused);
  });

  it('refuse the database of the other side, and change nothing in it', async () => {
    const hq = await keep(hqDatabase('other_side'));
    const store = await keep(storeDatabase('other_side'));
    for (const [database, role, own] of [
      [hq, 'store', 'hq'],
      [store, 'hq', 'store'],
    ] as const) {
      const client = await database.connect();
      const refused = { code: 'PS-DB-ROLE', exit: 64 };
      await assert.rejects(
        migrate(role, database.url, (db) => installTriggers(db, role)),
        refused,
      );
      await assert.rejects(requireCurrentSchema(client, role), refused);
      assert.deepEqual(await schemaState(client, own), { result: 'current' });
    }
  });

  it('are asked for by a server that finds none, or too few', async () => {
    const database = await keep(createDatabase('none'));
    const client = await database.connect();
    await assert.rejects(requireCurrentSchema(client, 'hq'), {
      code: 'PS-DB-MIGRATE',
      exit: 78,
      hint: /possync hq init/,
    });
    const old = await keep(storeDatabase('too_few'));
    const inOld = await old.connect();
    const last = names('store').at(-1) ?? '';
    await inOld.query('delete from possync.migrations where name = $1', [last]);
    await assert.rejects(requireCurrentSchema(inOld, 'store'), {
      code: 'PS-DB-MIGRATE',
      why: new RegExp(last),
      hint: /possync store init/,
    });
  });

  it('have the same names for the knex command line, from the sources and from dist', async () => {
    const database = await keep(hqDatabase('knex'));
    const { code } = await (await startPossync(['--help'])).ended(); // builds dist if it must
    assert.equal(code, 0);
    for (const [loader, file] of [
      [['--import', 'tsx'], 'knexfile.ts'],
      [[], 'dist/knexfile.js'],
    ] as const) {
      const args = [...loader, KNEX, '--knexfile', file, '--env', 'hq', 'migrate:list'];
      const child = await startNode(args, { cwd: ROOT, env: { DATABASE_URL: database.url } });
      const { stdout, stderr } = await child.ended();
      assert.match(stdout, new RegExp(`Found ${names('hq').length} Completed`), stderr);
      assert.match(stdout, /No Pending Migration/i);
    }
  });
});
