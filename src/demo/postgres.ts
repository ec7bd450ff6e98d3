/** A private PostgreSQL for the demo and the tests: started without an installation, gone with the program. */
import { rm } from 'node:fs/promises';
import { connect } from '../db/pool.ts';
import { queryOne } from '../db/transaction.ts';
import {
  defaultPlaces,
  findBinaries,
  type Binaries,
  type Places,
  type Preference,
} from './postgres/binaries.ts';
import { Cluster, SUPERUSER } from './postgres/cluster.ts';
import { startGuard } from './postgres/guard.ts';
import { postgresIdentity } from './postgres/identity.ts';
import { makeWorkspace } from './postgres/workspace.ts';

export interface PostgresOptions {
  /** True: what is committed survives a power cut, and a password is asked for. False: faster, for tests. */
  readonly durable: boolean;
  /** Which binaries come first; POSSYNC_PG_BINDIR always wins. */
  readonly prefer: Preference;
  readonly maxConnections?: number;
  /** Further settings, e.g. `{ wal_level: 'logical' }`. */
  readonly settings?: Readonly<Record<string, string>>;
  readonly environment?: NodeJS.ProcessEnv;
  /** Added to what the server itself gets, e.g. another clock. */
  readonly serverEnvironment?: Readonly<Record<string, string>>;
  readonly places?: Places;
}

export interface PostgresServer {
  readonly port: number;
  /** Like `18.4`. */
  readonly version: string;
  readonly origin: Binaries['origin'];
  readonly binDir: string;
  readonly dataDir: string;
  /** As superuser; the database need not exist yet. */
  readonly url: (database: string) => string;
  /** What the server has logged so far. */
  log(): Promise<string>;
  /** Crashes it: SIGKILL is a power cut, SIGQUIT an immediate shutdown. `restart` brings it back with its data. */
  kill(signal?: 'SIGKILL' | 'SIGQUIT'): Promise<void>;
  /** Fast shutdown; the data stays where it is, for a copy of it or for `restart`. */
  shutdown(): Promise<void>;
  /** Starts it again on the same port; one that still runs is shut down first. */
  restart(): Promise<void>;
  /** Ends it for good and removes its data. */
  stop(): Promise<void>;
}

export async function startPostgres(options: PostgresOptions): Promise<PostgresServer> {
  const { environment = process.env, places = defaultPlaces, prefer } = options;
  const identity = postgresIdentity();
  const workspace = await makeWorkspace(identity);
  const guard = await startGuard(workspace, identity.spawnAs);
  try {
    const binaries = await findBinaries({ prefer, identity, workspace, environment, places });
    const cluster = await Cluster.create({
      binaries: { ...binaries, env: { ...binaries.env, ...options.serverEnvironment } },
      identity,
      workspace,
      guard,
      durable: options.durable,
      maxConnections: options.maxConnections ?? 100,
      settings: options.settings ?? {},
    });
    await cluster.start();
    const url = (database: string): string => urlOf(cluster, database);
    const version = await versionOf(url('postgres'));
    return {
      port: cluster.port,
      version,
      origin: binaries.origin,
      binDir: binaries.binDir,
      dataDir: cluster.dataDir,
      url,
      log: () => cluster.log(),
      kill: (signal = 'SIGKILL') => cluster.kill(signal),
      shutdown: () => cluster.stop(),
      async restart() {
        await cluster.stop();
        await cluster.start();
      },
      async stop() {
        await cluster.stop();
        await rm(workspace, { recursive: true, force: true });
        await guard.close();
      },
    };
  } catch (error) {
    await guard.close(); // ends what was started and removes the folder
    throw error;
  }
}

function urlOf({ port, password }: Cluster, database: string): string {
  const user = password === '' ? SUPERUSER : `${SUPERUSER}:${password}`;
  return `postgres://${user}@127.0.0.1:${port}/${encodeURIComponent(database)}`;
}

async function versionOf(url: string): Promise<string> {
  const client = await connect({ url, applicationName: 'possync start' });
  try {
    const { version } = await queryOne<{ version: string }>(
      client,
      `select current_setting('server_version') as version`,
    );
    return version.split(' ', 1)[0] ?? version; // Debian adds its package version
  } finally {
    await client.end();
  }
}
