/** An HQ and its stores in this process, on real databases: what the tests of the whole link are played on. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type pg from 'pg';
import { createPool } from '../../src/db/pool.ts';
import { queryMaybe } from '../../src/db/transaction.ts';
import type { HqOptions, RunningHq } from '../../src/hq/options.ts';
import { startHq } from '../../src/hq/serve.ts';
import { addStore } from '../../src/hq/stores/stores.ts';
import { issueEnrolmentToken } from '../../src/hq/stores/tokens.ts';
import { startDaemon } from '../../src/store/daemon.ts';
import { initStore } from '../../src/store/init.ts';
import type { DaemonOptions, RunningDaemon } from '../../src/store/options.ts';
import { memoryLog } from './memory-log.ts';
import { hqDatabase, storeDatabase, type TestDatabase } from './postgres.ts';
import { until } from './until.ts';

export class TestHq {
  readonly database: TestDatabase;
  readonly pool: pg.Pool;
  readonly log = memoryLog({ side: 'hq' });
  readonly #options: Partial<HqOptions>;
  #running: RunningHq | undefined;
  #port = 0;

  private constructor(database: TestDatabase, options: Partial<HqOptions>) {
    this.database = database;
    this.#options = options;
    this.pool = createPool({ url: database.url, applicationName: 'possync test hq', max: 4 });
  }

  static async open(
    label: string,
    { database, ...options }: Partial<HqOptions> & { database?: TestDatabase } = {},
  ): Promise<TestHq> {
    const hq = new TestHq(database ?? (await hqDatabase(`${label}_hq`)), options);
    await hq.start();
    return hq;
  }

  get running(): RunningHq {
    if (this.#running === undefined) throw new Error('HQ is not running');
    return this.#running;
  }

  get port(): number {
    return this.#port;
  }

  /** Starts again on the port it had. */
  async start(): Promise<void> {
    this.#running = await startHq({
      databaseUrl: this.database.url,
      port: this.#port,
      log: this.log,
      ...this.#options,
    });
    this.#port = this.#running.port;
  }

  async stop(): Promise<void> {
    await this.#running?.stop();
    this.#running = undefined;
  }

  async close(): Promise<void> {
    await this.stop();
    await this.pool.end();
    await this.database.drop();
  }

  /** Whether HQ itself calls this store's link green: connected, and written lately. */
  async light(storeId: number): Promise<'green' | 'red'> {
    const row = await queryMaybe<{ green: boolean }>(
      this.pool,
      `select l.connected and l.written_at > clock_timestamp() - interval '10 seconds' as green
         from possync.live_links l where l.store_id = $1::integer`,
      [storeId],
    );
    return row?.green === true ? 'green' : 'red';
  }
}

export class TestStore {
  readonly id: number;
  readonly code: string;
  readonly database: TestDatabase;
  readonly pool: pg.Pool;
  readonly stateDir: string;
  readonly log = memoryLog({ side: 'store' });
  readonly #options: Partial<DaemonOptions>;
  #running: RunningDaemon | undefined;

  private constructor(
    store: { id: number; code: string },
    database: TestDatabase,
    stateDir: string,
    options: Partial<DaemonOptions>,
  ) {
    this.id = store.id;
    this.code = store.code;
    this.database = database;
    this.stateDir = stateDir;
    this.#options = options;
    this.pool = createPool({ url: database.url, applicationName: 'possync test store', max: 4 });
  }

  /** Added at HQ, enrolled by token over HTTP, and its daemon running; `hqUrl` may lead through a proxy. */
  static async open(
    hq: TestHq,
    code: string,
    {
      hqUrl = hq.running.url,
      ...options
    }: Partial<DaemonOptions> & { hqUrl?: string; database?: TestDatabase } = {},
  ): Promise<TestStore> {
    const store = await TestStore.enrolled(hq, code, { hqUrl, ...options });
    await store.start();
    return store;
  }

  /** The same without its daemon. */
  static async enrolled(
    hq: TestHq,
    code: string,
    {
      hqUrl = hq.running.url,
      caFile,
      database: given,
      ...options
    }: Partial<DaemonOptions> & { hqUrl?: string; database?: TestDatabase } = {},
  ): Promise<TestStore> {
    const added = await addStore(hq.pool, { code, name: `Store ${code}`, timeZone: 'UTC' }, 'test');
    const database = given ?? (await storeDatabase(`store_${code}`));
    const stateDir = await mkdtemp(join(tmpdir(), 'possync-store-'));
    const store = new TestStore(added, database, stateDir, options);
    await store.enrol(hq, { hqUrl, caFile });
    return store;
  }

  /** An empty server that takes over the store of another one, its daemon running. */
  static async replacing(
    hq: TestHq,
    store: { id: number; code: string },
    { hqUrl = hq.running.url }: { hqUrl?: string } = {},
  ): Promise<TestStore> {
    const database = await storeDatabase(`store_${store.code}_again`);
    const taking = new TestStore(store, database, await mkdtemp(join(tmpdir(), 'possync-store-')), {});
    await taking.enrol(hq, { hqUrl, replace: true });
    await taking.start();
    return taking;
  }

  async enrol(
    hq: TestHq,
    {
      hqUrl = hq.running.url,
      caFile,
      replace = false,
    }: { hqUrl?: string; caFile?: string | undefined; replace?: boolean } = {},
  ): Promise<void> {
    const { token } = await issueEnrolmentToken(hq.pool, { code: this.code, hqUrl, actor: 'test' });
    await initStore({
      databaseUrl: this.database.url,
      stateDir: this.stateDir,
      tokenText: token.reveal(),
      replace,
      ...(caFile === undefined ? {} : { caFile }),
    });
  }

  get running(): RunningDaemon {
    if (this.#running === undefined) throw new Error('the daemon is not running');
    return this.#running;
  }

  async start(): Promise<void> {
    this.#running = await startDaemon({
      databaseUrl: this.database.url,
      stateDir: this.stateDir,
      statusListen: null,
      pushIntervalMs: 500,
      log: this.log,
      ...this.#options,
    });
  }

  async stop(): Promise<void> {
    await this.#running?.stop();
    this.#running = undefined;
  }

  async close(): Promise<void> {
    await this.stop();
    await this.pool.end();
    await this.database.drop();
    await rm(this.stateDir, { recursive: true, force: true });
  }

  /** The link as the daemon wrote it into its database. */
  async link(): Promise<{ indicator: string; state: string; session: string; code: string | null }> {
    const row = await queryMaybe<{ indicator: string; state: string; session: string; code: string | null }>(
      this.pool,
      `select l.indicator, l.state, l.session, l.reason_code as code from possync.link l
        where l.written_at > clock_timestamp() - interval '10 seconds'`,
    );
    return row ?? { indicator: 'red', state: 'gone', session: 'none', code: null };
  }

  async untilLight(wanted: 'green' | 'red', timeoutMs = 20_000): Promise<void> {
    await until(async () => (await this.link()).indicator === wanted, {
      what: `store ${this.code} turned ${wanted}`,
      timeoutMs,
    });
  }

  async count(table: string): Promise<number> {
    const { rows } = await this.pool.query<{ n: number }>(`select count(*) as n from public.${table}`);
    return rows[0]?.n ?? 0;
  }
}
