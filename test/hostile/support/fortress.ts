/**
 * An HQ under attack: `possync hq serve` as its own process, so that what an attack costs can be read from the kernel;
 * a healthy store that sells and pulls all the while; and a hostile one with a good credential.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type pg from 'pg';
import { uuidv7 } from '../../../src/core/ids.ts';
import { createPool } from '../../../src/db/pool.ts';
import { addStore } from '../../../src/hq/stores/stores.ts';
import { issueEnrolmentToken } from '../../../src/hq/stores/tokens.ts';
import { readCredential } from '../../../src/store/credential.ts';
import { startDaemon } from '../../../src/store/daemon.ts';
import { initStore } from '../../../src/store/init.ts';
import type { RunningDaemon } from '../../../src/store/options.ts';
import { memoryLog } from '../../support/memory-log.ts';
import { addRegister, openSession, sell } from '../../support/pos.ts';
import { hqDatabase, storeDatabase, type TestDatabase } from '../../support/postgres.ts';
import { startPossync, type TestProcess } from '../../support/process.ts';
import { until } from '../../support/until.ts';

export interface Shop {
  readonly id: number;
  readonly code: string;
  readonly bearer: string;
}

export interface Usage {
  readonly cpuMs: number;
  /** Largest resident size since `resetPeak`. */
  readonly peakMb: number;
  readonly files: number;
}

/** Small requests, however many: what is not yet collected, and nothing that adds up. */
export const FUZZ_MB = 300;

export class Fortress {
  readonly database: TestDatabase;
  readonly pool: pg.Pool;
  readonly dir: string;
  readonly healthyLog = memoryLog();
  hqId = '';
  #server: TestProcess | undefined;
  #url = '';
  #healthy: { id: number; database: TestDatabase; till: pg.Client; daemon: RunningDaemon } | undefined;
  #session: Awaited<ReturnType<typeof openSession>> | undefined;

  private constructor(database: TestDatabase, dir: string) {
    this.database = database;
    this.dir = dir;
    this.pool = createPool({ url: database.url, applicationName: 'possync test fortress', max: 4 });
  }

  /** `env` is HQ's: with a fault planted, for the controls. */
  static async open(label: string, env: Record<string, string> = {}): Promise<Fortress> {
    const fortress = new Fortress(
      await hqDatabase(`${label} hq`),
      await mkdtemp(join(tmpdir(), 'possync-hostile-')),
    );
    const { rows } = await fortress.pool.query<{ id: string }>('select id::text from possync.identity');
    fortress.hqId = rows[0]?.id ?? '';
    await fortress.#serve(env);
    await fortress.#openHealthy();
    return fortress;
  }

  get url(): string {
    return this.#url;
  }

  get port(): number {
    return Number(new URL(this.#url).port);
  }

  get server(): TestProcess {
    if (this.#server === undefined) throw new Error('HQ was not started');
    return this.#server;
  }

  async #serve(env: Record<string, string>): Promise<void> {
    this.#server = await startPossync(['hq', 'serve', '--port', '0'], {
      cwd: this.dir,
      env: { DATABASE_URL: this.database.url, LOG_DIR: join(this.dir, 'hq'), LOG_LEVEL: 'debug', ...env },
    });
    const ready = await this.#server.line(/"event":"ready"/, 30_000);
    this.#url = (JSON.parse(ready) as { url: string }).url;
  }

  /** Enrolled, with a credential in hand and no daemon. */
  async enrol(code: string): Promise<Shop & { stateDir: string; database: TestDatabase }> {
    const { id } = await addStore(this.pool, { code, name: code, timeZone: 'UTC' }, 'test');
    const { token } = await issueEnrolmentToken(this.pool, { code, hqUrl: this.#url, actor: 'test' });
    const database = await storeDatabase(`hostile ${code}`);
    const stateDir = join(this.dir, code);
    await initStore({ databaseUrl: database.url, stateDir, tokenText: token.reveal() });
    const bearer = (await readCredential(stateDir))?.token.reveal() ?? '';
    return { id, code, bearer, stateDir, database };
  }

  async #openHealthy(): Promise<void> {
    const { id, database, stateDir } = await this.enrol('GOOD-1');
    const daemon = await startDaemon({
      databaseUrl: database.url,
      stateDir,
      statusListen: null,
      pushIntervalMs: 300,
      pullIntervalMs: 300, // a hint that is not urgent may take ten seconds
      log: this.healthyLog,
    });
    const till = await database.connect();
    this.#healthy = { id, database, till, daemon };
    this.#session = await openSession(till, await addRegister(till, id), id);
    await this.healthyWorks();
  }

  get healthyId(): number {
    return this.#healthy?.id ?? 0;
  }

  /** A sale of the healthy store arrives at HQ, a change of HQ in the store, and its light was never red. */
  async healthyWorks(): Promise<void> {
    const healthy = this.#healthy;
    if (healthy === undefined || this.#session === undefined) throw new Error('there is no healthy store');
    const sale = await sell(healthy.till, this.#session, { storeId: healthy.id });
    const department = uuidv7();
    await this.pool.query(
      'insert into public.departments (id, code, name) values ($1::uuid, $1::text, $1::text)',
      [department],
    );
    await until(
      async () =>
        (await this.pool.query('select from public.sales where id = $1::uuid', [sale])).rowCount === 1 &&
        (await healthy.till.query('select from public.departments where id = $1::uuid', [department]))
          .rowCount === 1,
      { what: 'the healthy store sells and pulls', timeoutMs: 30_000 },
    );
    assert.deepEqual(
      this.healthyLog.lines.filter(({ event }) => event === 'link.down'),
      [],
      'the healthy store never lost its link',
    );
  }

  /** Runs the attack while the healthy store goes on, again and again. */
  async during<T>(attack: () => Promise<T>): Promise<T> {
    const over = new AbortController();
    const work = (async () => {
      do await this.healthyWorks();
      while (!over.signal.aborted);
    })();
    try {
      return await attack();
    } finally {
      over.abort();
      await work;
    }
  }

  resetPeak(): void {
    writeFileSync(`/proc/${this.server.pid}/clear_refs`, '5');
  }

  usage(): Usage {
    const proc = `/proc/${this.server.pid}`;
    const stat = readFileSync(`${proc}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const peak = /VmHWM:\s+(\d+)/.exec(readFileSync(`${proc}/status`, 'utf8'))?.[1];
    return {
      cpuMs: (Number(fields[11]) + Number(fields[12])) * 10,
      peakMb: Number(peak) / 1024,
      files: readdirSync(`${proc}/fd`).length,
    };
  }

  /** What the attack has cost HQ; the healthy store works meanwhile and afterwards. */
  async cost(attack: () => Promise<unknown>): Promise<{ cpuMs: number; grownMb: number }> {
    this.resetPeak();
    const before = this.usage();
    await this.during(attack);
    const after = this.usage();
    await this.healthyWorks();
    return { cpuMs: after.cpuMs - before.cpuMs, grownMb: after.peakMb - before.peakMb };
  }

  /** The lines of HQ's own log that tell of a fault of its own. */
  async faults(): Promise<string[]> {
    const text = await readFile(join(this.dir, 'hq', 'hq-server.log'), 'utf8');
    return text.split('\n').filter((line) => line.includes('"level":"error"'));
  }

  async close(): Promise<void> {
    await this.#healthy?.daemon.stop();
    const { code, stderr } = await this.server.stop();
    assert.deepEqual([code, stderr], [0, ''], 'HQ ends in order after everything that was done to it');
    await this.pool.end();
    await this.database.drop();
    await rm(this.dir, { recursive: true, force: true });
  }
}
