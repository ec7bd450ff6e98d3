/**
 * A whole chain in one process, on a given PostgreSQL server: HQ, its stores, a cable to each of them. The demo lets
 * tills sell on it; the end-to-end tests replay real data through it.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type pg from 'pg';
import type { Clock } from '../core/clock.ts';
import { systemClock } from '../core/clock.ts';
import { PossyncError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { installTriggers } from '../db/capture.ts';
import { compareStore, type TableComparison } from '../db/compare.ts';
import { migrate } from '../db/migrations.ts';
import { connect, createPool } from '../db/pool.ts';
import { queryOne } from '../db/transaction.ts';
import type { RunningHq } from '../hq/options.ts';
import { startHq } from '../hq/serve.ts';
import { addStore } from '../hq/stores/stores.ts';
import { issueEnrolmentToken } from '../hq/stores/tokens.ts';
import { startDaemon } from '../store/daemon.ts';
import { initStore } from '../store/init.ts';
import type { RunningDaemon } from '../store/options.ts';
import { Cable } from './cable.ts';

export interface ChainOptions {
  /** URL of a database on the server; it need not exist yet. */
  readonly databaseUrl: (database: string) => string;
  /** Databases are named `<prefix>_hq`, `<prefix>_1`, … and are made here. */
  readonly prefix: string;
  readonly stores: readonly { readonly code: string; readonly name: string; readonly timeZone: string }[];
  readonly log: Log;
  /** SYNC_PUSH_INTERVAL of every daemon. */
  readonly pushIntervalMs: number;
  /** HQ's port; 0 or nothing picks a free one. */
  readonly port?: number;
  readonly clock?: Clock;
}

export interface ChainStore {
  readonly id: number;
  readonly code: string;
  readonly databaseUrl: string;
  readonly pool: pg.Pool;
  readonly cable: Cable;
  daemon: RunningDaemon;
}

/** Who the audit trail says it was. */
const ACTOR = 'possync demo';

export class Chain {
  readonly hqUrl: string;
  readonly hq: pg.Pool;
  readonly stores: readonly ChainStore[];
  readonly #server: RunningHq;
  readonly #stateDir: string;
  readonly #clock: Clock;

  private constructor(
    server: RunningHq,
    hq: pg.Pool,
    stores: readonly ChainStore[],
    stateDir: string,
    clock: Clock,
  ) {
    this.#server = server;
    this.hqUrl = server.url;
    this.hq = hq;
    this.stores = stores;
    this.#stateDir = stateDir;
    this.#clock = clock;
  }

  /** Makes the databases, starts HQ, enrols every store over its own cable and starts its daemon. */
  static async start(options: ChainOptions): Promise<Chain> {
    const clock = options.clock ?? systemClock;
    const hqDatabase = options.databaseUrl(`${options.prefix}_hq`);
    await createDatabase(options.databaseUrl('postgres'), `${options.prefix}_hq`);
    await migrate('hq', hqDatabase, (db) => installTriggers(db, 'hq'));
    const hq = createPool({ url: hqDatabase, applicationName: 'possync demo', max: 4 });
    const server = await startHq({
      databaseUrl: hqDatabase,
      port: options.port ?? 0,
      log: options.log,
      clock,
    });
    const stateDir = await mkdtemp(join(tmpdir(), 'possync-chain-'));
    const stores: ChainStore[] = [];
    for (const [index, store] of options.stores.entries()) {
      const database = `${options.prefix}_${index + 1}`;
      await createDatabase(options.databaseUrl('postgres'), database);
      stores.push(
        await openStore(hq, { ...options, clock }, server.port, store, {
          databaseUrl: options.databaseUrl(database),
          stateDir: join(stateDir, String(index + 1)),
        }),
      );
    }
    return new Chain(server, hq, stores, stateDir, clock);
  }

  /**
   * Waits until nothing is on its way any more: every store has handed over all it captured, and stands at a head
   * that HQ sealed after everything committed so far. The tills and HQ's users must have stopped.
   */
  async settle(timeoutMs: number): Promise<void> {
    const deadline = this.#clock.now() + timeoutMs;
    for (;;) {
      const waiting = await this.#onItsWay();
      if (waiting.length === 0) return;
      if (this.#clock.now() > deadline) {
        throw new PossyncError('PS-TIMEOUT', 'the chain did not settle', { why: waiting.join('; ') });
      }
      await this.#clock.sleep(100);
    }
  }

  /** Compares every store with HQ, row by row. */
  async compare(): Promise<{ readonly store: string; readonly tables: readonly TableComparison[] }[]> {
    const result = [];
    for (const store of this.stores) {
      result.push({ store: store.code, tables: await compareStore(this.hq, store.pool, store.id) });
    }
    return result;
  }

  async stop(): Promise<void> {
    await Promise.all(this.stores.map((store) => store.daemon.stop()));
    await this.#server.stop();
    await Promise.all(this.stores.map((store) => store.cable.close()));
    await Promise.all([this.hq, ...this.stores.map((store) => store.pool)].map((pool) => pool.end()));
    await rm(this.#stateDir, { recursive: true, force: true });
  }

  /**
   * Looked at in the order of the way: what a store has handed over by then is captured or sealed when HQ is looked at,
   * and what HQ has sealed by then counts when the stores are asked where they stand. Another order overlooks what
   * moves on between two looks.
   */
  async #onItsWay(): Promise<string[]> {
    const waiting: string[] = [];
    for (const store of this.stores) {
      const { queued } = await queryOne<{ queued: number }>(
        store.pool,
        `select (select count(*) from possync.raw)
                + (select count(*) from possync.outbox o join possync.sending d on (o.epoch, o.seq) > (d.epoch, d.seq)) as queued`,
      );
      if (queued > 0) waiting.push(`${store.code} has ${queued} to send`);
    }
    const hq = await queryOne<{ captured: number; head: number }>(
      this.hq,
      `select (select count(*) from possync.capture) as captured, (select pos from possync.head) as head`,
    );
    if (hq.captured > 0) waiting.push(`HQ has ${hq.captured} changes to seal`);
    for (const store of this.stores) {
      const { pos } = await queryOne<{ pos: number }>(
        store.pool,
        'select c.pos as pos from possync.cursor c',
      );
      if (pos < hq.head) waiting.push(`${store.code} stands at ${pos} of ${hq.head}`);
    }
    return waiting;
  }
}

async function openStore(
  hq: pg.Pool,
  options: ChainOptions & { readonly clock: Clock },
  hqPort: number,
  store: ChainOptions['stores'][number],
  place: { readonly databaseUrl: string; readonly stateDir: string },
): Promise<ChainStore> {
  const { id } = await addStore(hq, store, ACTOR);
  const cable = new Cable({ host: '127.0.0.1', port: hqPort });
  const hqUrl = `http://127.0.0.1:${await cable.open()}`;
  const { token } = await issueEnrolmentToken(hq, { code: store.code, hqUrl, actor: ACTOR });
  await initStore({ ...place, tokenText: token.reveal() });
  const daemon = await startDaemon({
    ...place,
    pushIntervalMs: options.pushIntervalMs,
    statusListen: null,
    log: options.log.child({ store: store.code }),
    clock: options.clock,
  });
  const pool = createPool({ url: place.databaseUrl, applicationName: 'possync demo', max: 4 });
  return { id, code: store.code, databaseUrl: place.databaseUrl, pool, cable, daemon };
}

async function createDatabase(adminUrl: string, name: string): Promise<void> {
  const client = await connect({ url: adminUrl, applicationName: 'possync demo' });
  try {
    await client.query(`create database "${name}"`);
  } finally {
    await client.end();
  }
}
