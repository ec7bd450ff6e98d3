/** A PostgreSQL of its own for tests that restart it or fill its disk, with databases in the shape of the shared one's. */
import type pg from 'pg';
import { installTriggers } from '../../src/db/capture.ts';
import { migrate, type Role } from '../../src/db/migrations.ts';
import { connect } from '../../src/db/pool.ts';
import { startPostgres, type PostgresServer } from '../../src/demo/postgres.ts';
import type { TestDatabase } from './postgres.ts';

export class OwnPostgres {
  readonly server: PostgresServer;

  private constructor(server: PostgresServer) {
    this.server = server;
  }

  static async start(): Promise<OwnPostgres> {
    return new OwnPostgres(await startPostgres({ durable: false, prefer: 'npm' }));
  }

  /** Migrated as that side's; `directory`: its tables lie there, on a file system of their own. */
  async database(role: Role, name: string, directory?: string): Promise<TestDatabase> {
    const admin = await connect({ url: this.server.url('postgres'), applicationName: 'possync test' });
    try {
      if (directory !== undefined) await admin.query(`create tablespace ${name} location '${directory}'`);
      await admin.query(
        `create database ${name} template template0 encoding 'UTF8' strategy file_copy
         ${directory === undefined ? '' : `tablespace ${name}`}`,
      );
    } finally {
      await admin.end();
    }
    const url = this.server.url(name);
    await migrate(role, url, (db) => installTriggers(db, role));
    return new OwnDatabase(name, url);
  }

  async stop(): Promise<void> {
    await this.server.stop();
  }
}

/** Goes with its server. */
class OwnDatabase implements TestDatabase {
  readonly name: string;
  readonly url: string;
  readonly #clients: pg.Client[] = [];

  constructor(name: string, url: string) {
    this.name = name;
    this.url = url;
  }

  async connect(): Promise<pg.Client> {
    const client = await connect({ url: this.url, applicationName: 'possync test' });
    this.#clients.push(client);
    return client;
  }

  async psqlAs(role: string): Promise<pg.Client> {
    const client = await this.connect();
    await client.query(`set session authorization ${client.escapeIdentifier(role)}`);
    return client;
  }

  async drop(): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.end().catch(() => undefined)));
  }
}
