/**
 * One daemon per store database: a session advisory lock on a connection of its own.
 *
 * The lock ends with its connection, so a killed daemon leaves nothing behind. When PostgreSQL restarts under a
 * running daemon the lock is taken again; if another daemon got it meanwhile, this one has to end.
 */
import type pg from 'pg';
import { backoffDelay } from '../core/backoff.ts';
import { toPossyncError } from '../core/classify.ts';
import type { Clock } from '../core/clock.ts';
import { PossyncError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Service } from '../core/service.ts';
import { connect, type DatabaseOptions } from '../db/pool.ts';
import { queryOne } from '../db/transaction.ts';

export interface DaemonLockOptions {
  readonly database: DatabaseOptions;
  readonly clock: Clock;
  readonly log: Log;
  /** Another daemon holds the lock for good: this one must end. */
  readonly lost: (error: PossyncError) => void;
}

/** 'posync' and one: beside the migration lock of the same database. */
const DAEMON_LOCK = 7_067_974;
/** PostgreSQL notices the end of a killed daemon's connection within this, usually at once. */
const TAKEOVER_MS = 3_000;
const TAKEOVER_TRY_MS = 100;
const BACKOFF = { baseMs: 500, capMs: 5_000 } as const;

export class DaemonLock implements Service {
  readonly name = 'daemon lock';
  readonly #options: DaemonLockOptions;
  readonly #stopping = new AbortController();
  #client: pg.Client | undefined;
  #watching: Promise<void> | undefined;

  constructor(options: DaemonLockOptions) {
    this.#options = options;
  }

  /** Throws PS-DAEMON-TWICE. */
  async start(): Promise<void> {
    this.#client = await this.#take();
    this.#watching = this.#watch(this.#client);
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#client?.end().catch(() => undefined); // it may have ended by itself
    await this.#watching;
  }

  async #take(): Promise<pg.Client> {
    const { database, clock } = this.#options;
    const client = await connect(database);
    for (let waitedMs = 0; ; waitedMs += TAKEOVER_TRY_MS) {
      const { taken } = await queryOne<{ taken: boolean }>(
        client,
        'select pg_try_advisory_lock($1::bigint) as taken',
        [DAEMON_LOCK],
      );
      if (taken) return client;
      if (waitedMs >= TAKEOVER_MS || this.#stopping.signal.aborted) {
        await client.end();
        throw new PossyncError('PS-DAEMON-TWICE', 'another daemon already serves this database');
      }
      await clock.sleep(TAKEOVER_TRY_MS, this.#stopping.signal);
    }
  }

  async #watch(first: pg.Client): Promise<void> {
    const { log, lost } = this.#options;
    const { signal } = this.#stopping;
    let client: pg.Client | undefined = first;
    while (client !== undefined) {
      await ended(client);
      if (signal.aborted) return;
      log.warn('the connection to PostgreSQL was lost', { event: 'db.lost' });
      try {
        client = await this.#takeAgain();
        if (client !== undefined) log.info('PostgreSQL is back', { event: 'db.back' });
      } catch (error) {
        lost(toPossyncError(error));
        return;
      }
    }
  }

  /** However long PostgreSQL stays away; undefined when the daemon stops meanwhile. */
  async #takeAgain(): Promise<pg.Client | undefined> {
    const { clock } = this.#options;
    const { signal } = this.#stopping;
    for (let attempt = 1; ; attempt += 1) {
      await clock.sleep(backoffDelay(attempt, BACKOFF), signal);
      if (signal.aborted) return undefined;
      try {
        this.#client = await this.#take();
        return this.#client;
      } catch (error) {
        if (error instanceof PossyncError && error.code === 'PS-DAEMON-TWICE') throw error;
      }
    }
  }
}

function ended(client: pg.Client): Promise<void> {
  return new Promise((resolve) => {
    client.once('end', () => {
      resolve();
    });
  });
}
