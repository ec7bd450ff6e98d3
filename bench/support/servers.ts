/** The PostgreSQL servers of a bench: durable, one configuration, one for the store and one for HQ. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type pg from 'pg';
import { connect } from '../../src/db/pool.ts';
import { startPostgres, type PostgresServer } from '../../src/demo/postgres.ts';
import { cpuMs } from './machine.ts';

/** Both servers, possync's databases and the peer's: nothing is tuned for one of them. */
export const SETTINGS = {
  wal_level: 'logical',
  shared_buffers: '256MB',
  max_wal_size: '4GB',
  checkpoint_timeout: '15min',
} as const;

export class Server {
  readonly name: string;
  readonly postgres: PostgresServer;
  readonly admin: pg.Client;
  readonly #pid: number;

  private constructor(name: string, postgres: PostgresServer, admin: pg.Client) {
    this.name = name;
    this.postgres = postgres;
    this.admin = admin;
    this.#pid = Number(readFileSync(join(postgres.dataDir, 'postmaster.pid'), 'utf8').split('\n', 1)[0]);
  }

  static async start(name: string, settings: Readonly<Record<string, string>> = {}): Promise<Server> {
    const postgres = await startPostgres({
      durable: true,
      prefer: 'npm',
      maxConnections: 120,
      settings: { ...SETTINGS, ...settings },
    });
    const admin = await connect({ url: postgres.url('postgres'), applicationName: 'bench admin' });
    return new Server(name, postgres, admin);
  }

  /** An empty database; its URL. */
  async create(database: string): Promise<string> {
    await this.admin.query(`create database ${database}`);
    return this.postgres.url(database);
  }

  /** So that no run pays for what the one before has left to write. */
  async checkpoint(): Promise<void> {
    await this.admin.query('checkpoint');
  }

  cpuMs(): number {
    return cpuMs(this.#pid);
  }

  async stop(): Promise<void> {
    await this.admin.end();
    await this.postgres.stop();
  }
}

export async function conditions(server: Server): Promise<string> {
  const { rows } = await server.admin.query<{ name: string; setting: string }>(
    `select name, current_setting(name) as setting from pg_settings
      where name in ('server_version', 'fsync', 'synchronous_commit', 'full_page_writes', 'wal_level', 'shared_buffers')
      order by name`,
  );
  return rows.map(({ name, setting }) => `${name} ${setting}`).join(', ');
}
