/** Databases for tests: one PostgreSQL per run, one database per test file, both sides cloned from a template. */
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { installTriggers } from '../../src/db/capture.ts';
import { migrate, type Role } from '../../src/db/migrations.ts';
import { connect } from '../../src/db/pool.ts';
import { queryOne } from '../../src/db/transaction.ts';
import { startPostgres } from '../../src/demo/postgres.ts';
import { until } from './until.ts';

export interface TestDatabase {
  readonly name: string;
  /** As superuser. */
  readonly url: string;
  /** A connection as superuser, with the value types of the product. `drop` ends it. */
  connect(): Promise<pg.Client>;
  /** The same, but with the rights of another role (it needs neither a password nor the right to log in). */
  psqlAs(role: string): Promise<pg.Client>;
  /** Removes the database. Fails if anything but the connections above is still connected: somebody leaks. */
  drop(): Promise<void>;
}

interface RunningCluster {
  readonly url: (database: string) => string;
  readonly admin: pg.Client;
  stop(): Promise<void>;
}

/** Several runs may share a server that was given by POSSYNC_TEST_PG_URL. */
const RUN = randomBytes(3).toString('hex');
const APPLICATION = 'possync test';

let cluster: Promise<RunningCluster> | undefined;
const databases = new Map<string, TestDatabase>();
const templates = new Map<Role, Promise<string>>();
let counter = 0;

/** Started on first use: a run of pure tests needs no PostgreSQL. */
async function getCluster(): Promise<RunningCluster> {
  cluster ??= startCluster();
  return cluster;
}

async function startCluster(): Promise<RunningCluster> {
  const given = process.env.POSSYNC_TEST_PG_URL;
  const running = given === undefined || given === '' ? await startOwn() : useGiven(given);
  const admin = await connect({ url: running.url('postgres'), applicationName: APPLICATION });
  const { version } = await queryOne<{ version: string }>(admin, 'select version()');
  console.log(`  [${version.split(' on ', 1)[0] ?? version}, ${running.from}]`);
  return {
    url: running.url,
    admin,
    async stop() {
      await admin.end();
      await running.stop();
    },
  };
}

interface Source {
  readonly from: string;
  readonly url: (database: string) => string;
  stop(): Promise<void>;
}

async function startOwn(): Promise<Source> {
  const server = await startPostgres({ durable: false, prefer: 'npm', maxConnections: 300 });
  return { from: `${server.origin}: ${server.binDir}`, url: server.url, stop: () => server.stop() };
}

function useGiven(text: string): Source {
  return {
    from: 'POSSYNC_TEST_PG_URL',
    url(database) {
      const url = new URL(text);
      url.pathname = `/${database}`;
      return url.href;
    },
    stop: () => Promise.resolve(),
  };
}

/** The URL of any database on the server of this run, as superuser. */
export async function clusterUrl(database: string): Promise<string> {
  return (await getCluster()).url(database);
}

/** An empty database. `label` is seen in its name: say which test file it is for. */
export async function createDatabase(label: string): Promise<TestDatabase> {
  return makeDatabase(label, 'template0');
}

/** A database migrated as HQ's, with its triggers; nothing in it. */
export async function hqDatabase(label: string): Promise<TestDatabase> {
  return makeDatabase(label, await template('hq'));
}

/** A database migrated as a store's, with its triggers; nothing in it. */
export async function storeDatabase(label: string): Promise<TestDatabase> {
  return makeDatabase(label, await template('store'));
}

/** What a backup of this moment holds; nobody may be connected to the database meanwhile. */
export async function copyOf(database: TestDatabase, label: string): Promise<TestDatabase> {
  return makeDatabase(label, database.name);
}

async function template(role: Role): Promise<string> {
  let made = templates.get(role);
  if (made === undefined) {
    made = makeTemplate(role);
    templates.set(role, made);
  }
  return made;
}

async function makeTemplate(role: Role): Promise<string> {
  const database = await createDatabase(`template_${role}`);
  await migrate(role, database.url, (db) => installTriggers(db, role));
  await strayBackends(database.name); // nobody may be connected while it is cloned
  return database.name;
}

async function makeDatabase(label: string, from: string): Promise<TestDatabase> {
  const { admin, url } = await getCluster();
  counter += 1;
  const words = label
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '_')
    .slice(0, 40);
  const name = `possync_${RUN}_${counter}_${words}`;
  // Copying files is the faster way while the server has little else to write.
  await admin.query(`create database ${name} template ${from} encoding 'UTF8' strategy file_copy`);
  const database = new Database(name, url(name));
  databases.set(name, database);
  return database;
}

class Database implements TestDatabase {
  readonly name: string;
  readonly url: string;
  readonly #clients: pg.Client[] = [];

  constructor(name: string, url: string) {
    this.name = name;
    this.url = url;
  }

  async connect(): Promise<pg.Client> {
    const client = await connect({ url: this.url, applicationName: APPLICATION });
    this.#clients.push(client);
    return client;
  }

  async psqlAs(role: string): Promise<pg.Client> {
    const client = await this.connect();
    await client.query(`set session authorization ${client.escapeIdentifier(role)}`);
    return client;
  }

  async drop(): Promise<void> {
    if (!databases.delete(this.name)) return;
    await Promise.all(this.#clients.map((client) => client.end()));
    const strays = await strayBackends(this.name);
    const { admin } = await getCluster();
    await admin.query(`drop database ${this.name} with (force)`);
    if (strays.length > 0) {
      throw new Error(`connections to ${this.name} were left open by: ${strays.join(', ')}`);
    }
  }
}

/** Who is connected to a database, after the moment that a closing connection takes on the server's side. */
async function strayBackends(database: string): Promise<string[]> {
  const { admin } = await getCluster();
  const ask = async (): Promise<string[]> => {
    const { rows } = await admin.query<{ who: string }>(
      `select coalesce(nullif(application_name, ''), 'a connection without a name')
              || ' (' || coalesce(nullif(left(regexp_replace(query, '\\s+', ' ', 'g'), 80), ''), 'no query yet') || ')' as who
         from pg_stat_activity where datname = $1 and backend_type = 'client backend' order by backend_start`,
      [database],
    );
    return rows.map((row) => row.who);
  };
  try {
    await until(async () => (await ask()).length === 0, { what: 'all connections closed', timeoutMs: 2_000 });
    return [];
  } catch {
    return ask();
  }
}

/** Called at the end of the run: databases that a test file forgot are looked at as well. */
export async function stopCluster(): Promise<void> {
  if (cluster === undefined) return;
  const running = await cluster.catch(() => undefined); // the tests that needed it have said why
  if (running === undefined) return;
  const faults: string[] = [];
  for (const database of [...databases.values()]) {
    await database.drop().catch((error: unknown) => {
      faults.push(error instanceof Error ? error.message : String(error));
    });
  }
  await running.stop();
  if (faults.length > 0) throw new Error(faults.join('\n'));
}
