/**
 * The ledger as a service of `hq serve`: looks every second whether something is marked, and judges it.
 *
 * Looking costs one look into an (almost) empty table. After work it rests for several times as long as the work took:
 * while a store drains a backlog into one session, every round counts that session again, and what the ledger takes from
 * the apply beside it stays a small part. A store whose data cannot be judged holds up nobody: when a round
 * fails, the stores are judged one by one, and only the one at fault is left.
 */
import type pg from 'pg';
import { systemClock, type Clock } from '../../core/clock.ts';
import { isRetryableSql } from '../../core/classify.ts';
import { silentLog, type Log } from '../../core/log.ts';
import { Loop } from '../../core/loop.ts';
import type { Service } from '../../core/service.ts';
import { hasMarks, markedStores, newestMark } from './marks.ts';
import { ledgerRound } from './round.ts';

export interface LedgerOptions {
  readonly pool: pg.Pool;
  readonly clock?: Clock;
  readonly log?: Log;
  readonly intervalMs?: number;
}

const INTERVAL_MS = 1_000;
/** Rest = this × the time that the work before took. */
const REST = 4;
/** After a failure: the cause is not gone in a second, and the log should not say so every second. */
const RETRY_MS = 30_000;

export class Ledger implements Service {
  readonly name = 'ledger';
  readonly #pool: pg.Pool;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #intervalMs: number;
  readonly #loop = new Loop((signal) => this.#run(signal));

  constructor({ pool, clock = systemClock, log = silentLog, intervalMs = INTERVAL_MS }: LedgerOptions) {
    this.#pool = pool;
    this.#clock = clock;
    this.#log = log;
    this.#intervalMs = intervalMs;
  }

  start(): void {
    this.#loop.start();
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const startedMs = performance.now();
      let pause = this.#intervalMs;
      try {
        await settleLedger(this.#pool, signal);
        pause = Math.max(pause, REST * (performance.now() - startedMs));
      } catch (error) {
        pause = RETRY_MS;
        this.#log.warn('the ledger could not judge all that stores have sent; trying again', { err: error });
      }
      await this.#clock.sleep(pause, signal);
    }
  }
}

/**
 * Judges what was marked before the call, unless another process is at it, or the signal says stop: with marks that
 * arrive meanwhile it would never end. Throws what a store's data has caused, after all other stores were judged.
 */
export async function settleLedger(pool: pg.Pool, signal?: AbortSignal): Promise<void> {
  let newest = await newestMark(pool);
  while (newest !== undefined && signal?.aborted !== true && (await hasMarks(pool, newest))) {
    try {
      const { result, marked } = await ledgerRound(pool);
      if (result !== 'judged') return;
      if (marked) newest = await newestMark(pool);
    } catch (error) {
      if (isRetryableSql(error)) throw error;
      await settleEach(pool, signal);
      return;
    }
  }
}

/**
 * Judges what was marked before the call, whoever else is at it, but no longer than the signal allows: for a command that
 * shows findings. false: not all of it was.
 */
export async function settleLedgerInTurn(pool: pg.Pool, signal: AbortSignal): Promise<boolean> {
  try {
    let newest = await newestMark(pool);
    while (!signal.aborted) {
      if (newest === undefined || !(await hasMarks(pool, newest))) return true;
      const { result, marked } = await ledgerRound(pool, { inTurn: true });
      if (result === 'idle') return true;
      if (marked) newest = await newestMark(pool);
    }
  } catch {
    // A store that cannot be judged: the service says so in its log, and what is judged can be shown.
  }
  return false;
}

async function settleEach(pool: pg.Pool, signal: AbortSignal | undefined): Promise<void> {
  const failures: unknown[] = [];
  for (const storeId of await markedStores(pool)) {
    try {
      while (signal?.aborted !== true && (await ledgerRound(pool, { storeId })).result === 'judged');
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
}
