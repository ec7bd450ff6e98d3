/** A small chain with something in every corner, and words with which each command of the program works or fails on it. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { uuidv7 } from '../../src/core/ids.ts';
import { TestHq, TestStore } from './chain.ts';

export type At = 'hq' | 'store' | 'nowhere';

export interface CommandRuns {
  readonly at: At;
  /** Words after the path; `n` is another number for each run, so that each may create something of its own. */
  readonly works: (n: number, world: CliWorld) => readonly string[];
  /** Runs until it is stopped: this much of its output shows that it is at work. */
  readonly until?: RegExp;
  /** Words with which it must fail; without them it fails where nothing is: no database, no files. */
  readonly fails?: readonly string[];
  /** Fails only in this environment, whatever its words. */
  readonly failsIn?: Readonly<Record<string, string>>;
}

/** A control sequence in what a person has typed must not reach the terminal of another. */
const NAME = 'Elm\u001b[31m Street';

export class CliWorld {
  readonly dir: string;
  readonly hq: TestHq;
  readonly store: TestStore;

  private constructor(dir: string, hq: TestHq, store: TestStore) {
    this.dir = dir;
    this.hq = hq;
    this.store = store;
  }

  static async open(label: string): Promise<CliWorld> {
    const dir = await mkdtemp(join(tmpdir(), 'possync-cli-'));
    const hq = await TestHq.open(label);
    const store = await TestStore.enrolled(hq, 'CLI-1');
    await hq.pool.query('update public.stores set name = $1::text where code = $2::text', [NAME, 'CLI-1']);
    // A queue: a store transaction that is not sent, because the daemon does not run.
    await store.pool.query(
      `insert into public.registers (id, store_id, code, name) values ($1::uuid, $2::int, 'R1', $3::text)`,
      [uuidv7(), store.id, NAME],
    );
    // A dead letter: HQ has refused something of this store.
    await hq.pool.query('insert into possync.inbox (store_id) values ($1) on conflict do nothing', [
      store.id,
    ]);
    await hq.pool.query(
      `insert into possync.dead (store_id, epoch, seq, v, body, type, key, aggregates, kind, sqlstate, error)
       values ($1::int, 1, 7, 1, '{"sales":[{"id":"no uuid"}]}', 'sale', '["x"]', '{sale:x}', 'data', '23514', $2::text)`,
      [store.id, `made by this test: ${NAME}`],
    );
    const line = { ts: '2026-11-23T00:00:00.000Z', level: 'warn', msg: NAME, code: 'PS-TCP-REFUSED' };
    await writeFile(join(dir, 'store-server.log'), `${JSON.stringify(line)}\n`);
    return new CliWorld(dir, hq, store);
  }

  env(at: At): Record<string, string> {
    const database = { hq: this.hq.database.url, store: this.store.database.url, nowhere: undefined }[at];
    return {
      ...(database === undefined ? {} : { DATABASE_URL: database }),
      POSSYNC_STATE_DIR: this.store.stateDir,
      POSSYNC_STATUS_LISTEN: 'off',
      POSSYNC_METRICS_LISTEN: 'off',
      SYNC_LISTEN_PORT: '0',
      LOG_DIR: this.dir,
    };
  }

  /** Neither a database nor a credential nor a log. */
  nowhere(): Record<string, string> {
    const none = join(this.dir, 'none');
    return { DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none', POSSYNC_STATE_DIR: none, LOG_DIR: none };
  }

  async close(): Promise<void> {
    await this.store.close();
    await this.hq.close();
    await rm(this.dir, { recursive: true, force: true });
  }
}

const none = (): readonly string[] => [];
const code = (): readonly string[] => ['CLI-1'];

/** One entry for each command of the program; a test holds that none is missing. */
export const COMMAND_RUNS: Readonly<Record<string, CommandRuns>> = {
  status: { at: 'store', works: none },
  'hq init': { at: 'hq', works: none },
  'hq serve': { at: 'hq', works: none, until: /Ready in|"event":"ready"/ },
  'hq reproject': { at: 'hq', works: () => ['product'], fails: ['product'] },
  'stores add': {
    at: 'hq',
    works: (n) => [`CLI-A${n}`, '--name', 'n', '--time-zone', 'UTC'],
    fails: ['CLI-1', '--name', 'n', '--time-zone', 'UTC'],
  },
  'stores ls': { at: 'hq', works: none },
  'stores show': { at: 'hq', works: code, fails: ['CLI-1'] },
  'stores activate': { at: 'hq', works: code, fails: ['CLI-1'] },
  'stores deactivate': { at: 'hq', works: () => ['CLI-A1'], fails: ['CLI-1'] },
  'token issue': {
    at: 'hq',
    works: () => ['CLI-1', '--hq-url', 'https://hq.example.com'],
    fails: ['CLI-1', '--hq-url', 'https://hq.example.com'],
  },
  'token revoke': { at: 'hq', works: () => ['CLI-1', '--dry-run'], fails: ['CLI-1'] },
  'token rotate': { at: 'store', works: () => ['--dry-run'] },
  'token status': { at: 'store', works: none },
  'token ls': { at: 'hq', works: none },
  'store init': { at: 'store', works: none },
  'store daemon': { at: 'store', works: none, until: /connecting to|"event":"ready"/ },
  'store re-enrol': { at: 'store', works: () => ['--dry-run'] },
  'store reexport': {
    at: 'store',
    works: () => ['--from', '2026-01-01', '--dry-run'],
    fails: ['--from', '2026-01-01'],
  },
  ledger: { at: 'hq', works: none },
  'queue ls': { at: 'store', works: none },
  'queue show': { at: 'hq', works: () => ['CLI-1', '7', '--payload'], fails: ['1'] },
  'queue retry': { at: 'hq', works: code, fails: ['CLI-1'] },
  'queue drop': {
    at: 'hq',
    works: () => ['CLI-1', '99', '--reason', 'r'],
    fails: ['CLI-1', '1', '--reason', 'r'],
  },
  verify: { at: 'store', works: none },
  demo: {
    at: 'nowhere',
    works: () => ['--for', '1s', '--stores', '1'],
    fails: ['--for', 'ever'],
  },
  diagnose: {
    at: 'nowhere',
    works: (_n, { hq }) => ['--hq', hq.running.url, '--quick'],
    fails: ['--from-bundle', '/nowhere/bundle'],
  },
  explain: { at: 'nowhere', works: () => ['PS-DB-DOWN'], fails: ['PS-NONE'] },
  logs: { at: 'nowhere', works: () => ['--role', 'store'] },
  completion: { at: 'nowhere', works: () => ['bash'], fails: ['tcsh'] },
  schema: { at: 'nowhere', works: () => ['status'], fails: ['nothing'] },
  'service install': { at: 'nowhere', works: () => ['store', '--dry-run'], fails: ['till'] },
  'service uninstall': { at: 'nowhere', works: () => ['hq', '--dry-run'], fails: ['till'] },
  'config show': { at: 'store', works: none, failsIn: { SYNC_LISTEN_PORT: 'x' } },
};
