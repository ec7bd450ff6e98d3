/** HQ and stores of a bench as people run them: `hq serve` and `store daemon` as processes, each database where it belongs. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type pg from 'pg';
import { uuidv7 } from '../../src/core/ids.ts';
import { installTriggers } from '../../src/db/capture.ts';
import { migrate } from '../../src/db/migrations.ts';
import { connect, createPool } from '../../src/db/pool.ts';
import { addStore } from '../../src/hq/stores/stores.ts';
import { issueEnrolmentToken } from '../../src/hq/stores/tokens.ts';
import { initStore } from '../../src/store/init.ts';
import { runPossync, startPossync, type TestProcess } from '../../test/support/process.ts';
import { profileEnv } from './profile.ts';
import type { Server } from './servers.ts';

export class BenchHq {
  readonly url: string;
  readonly server: Server;
  readonly db: pg.Client;
  readonly pool: pg.Pool;
  readonly dir: string;
  process: TestProcess | undefined;
  port = 0;

  private constructor(server: Server, url: string, db: pg.Client, pool: pg.Pool, dir: string) {
    this.server = server;
    this.url = url;
    this.db = db;
    this.pool = pool;
    this.dir = dir;
  }

  static async open(server: Server, database = 'possync_hq'): Promise<BenchHq> {
    const url = await server.create(database);
    await migrate('hq', url, (db) => installTriggers(db, 'hq'));
    return new BenchHq(
      server,
      url,
      await connect({ url, applicationName: 'bench' }),
      createPool({ url, applicationName: 'bench', max: 4 }),
      await mkdtemp(join(tmpdir(), 'possync-bench-')),
    );
  }

  get address(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  async start(env: Readonly<Record<string, string>> = {}): Promise<TestProcess> {
    this.process = await startPossync(['hq', 'serve', '--port', String(this.port)], {
      cwd: this.dir,
      env: { DATABASE_URL: this.url, LOG_DIR: join(this.dir, 'hq'), ...profileEnv(), ...env },
    });
    const line = await this.process.line(/http:\/\/127\.0\.0\.1:\d+/, 30_000);
    this.port = Number(/127\.0\.0\.1:(\d+)/.exec(line)?.[1]);
    return this.process;
  }

  async stop(): Promise<void> {
    await this.process?.stop();
    this.process = undefined;
  }

  async close(): Promise<void> {
    await this.stop();
    await this.db.end();
    await this.pool.end();
    await rm(this.dir, { recursive: true, force: true });
  }
}

/** An enrolled store with one register; its daemon starts when asked. */
export class BenchStore {
  readonly storeId: number;
  readonly code: string;
  readonly url: string;
  readonly db: pg.Client;
  readonly pool: pg.Pool;
  readonly registerId = uuidv7();
  readonly #dir: string;
  process: TestProcess | undefined;

  private constructor(storeId: number, code: string, url: string, db: pg.Client, pool: pg.Pool, dir: string) {
    this.storeId = storeId;
    this.code = code;
    this.url = url;
    this.db = db;
    this.pool = pool;
    this.#dir = dir;
  }

  static async open(hq: BenchHq, server: Server, code: string, hqUrl = hq.address): Promise<BenchStore> {
    const { id } = await addStore(hq.pool, { code, name: code, timeZone: 'UTC' }, 'bench');
    const { token } = await issueEnrolmentToken(hq.pool, { code, hqUrl, actor: 'bench' });
    const url = await server.create(`possync_${code.toLowerCase()}`);
    const dir = await mkdtemp(join(tmpdir(), 'possync-bench-store-'));
    await initStore({ databaseUrl: url, stateDir: dir, tokenText: token.reveal() });
    const db = await connect({ url, applicationName: 'bench till' });
    const pool = createPool({ url, applicationName: 'bench', max: 2 });
    const store = new BenchStore(id, code, url, db, pool, dir);
    await db.query(
      `insert into public.registers (id, store_id, code, name) values ($1::uuid, $2::int, 'R1', 'Register 1')`,
      [store.registerId, id],
    );
    return store;
  }

  /** What a command about this store needs to know. */
  get env(): Readonly<Record<string, string>> {
    return { DATABASE_URL: this.url, POSSYNC_STATE_DIR: this.#dir };
  }

  async start(env: Readonly<Record<string, string>> = {}): Promise<TestProcess> {
    this.process = await startPossync(['store', 'daemon'], {
      cwd: this.#dir,
      env: {
        ...this.env,
        POSSYNC_STATUS_LISTEN: 'off',
        SYNC_PUSH_INTERVAL: '1s',
        ...profileEnv(),
        ...env,
      },
    });
    return this.process;
  }

  /** A command of this store, to its end. */
  async command(args: readonly string[]): Promise<void> {
    const { code, stderr } = await runPossync(args, { cwd: this.#dir, env: this.env });
    if (code !== 0) throw new Error(`possync ${args.join(' ')} ended with ${code}: ${stderr}`);
  }

  async stop(): Promise<void> {
    await this.process?.stop();
    this.process = undefined;
  }

  async close(): Promise<void> {
    await this.stop();
    await this.db.end();
    await this.pool.end();
    await rm(this.#dir, { recursive: true, force: true });
  }
}
