/**
 * The ledger as a service of `hq serve`: looks every second whether something is marked, and judges it.
 *
 * Looking costs one look into an (almost) empty table. A store whose data cannot be judged holds up nobody: when a round
 * fails, the stores are judged one by one, and only the one at fault is left.
 */
import type pg from 'pg';
import { systemClock, type Clock } from '../../core/clock.ts';
import { isRetryableSql } from '../../core/classify.ts';
import { silentLog, type Log } from '../../core/log.ts';
import type { Service } from '../../core/service.ts';
import { hasMarks, markedStores } from './marks.ts';
import { ledgerRound } from './round.ts';

export interface LedgerOptions {
  readonly pool: pg.Pool;
  readonly clock?: Clock;
  readonly log?: Log;
  readonly intervalMs?: number;
}

const INTERVAL_MS = 1_000;
/** After a failure: the cause is not gone in a second, and the log should not say so every second. */
const RETRY_MS = 30_000;

export class Ledger implements Service {
  readonly name = 'ledger';
  readonly #pool: pg.Pool;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #intervalMs: number;
  #stopping = new AbortController();
  #running: Promise<void> | undefined;

  constructor({ pool, clock = systemClock, log = silentLog, intervalMs = INTERVAL_MS }: LedgerOptions) {
    this.#pool = pool;
    this.#clock = clock;
    this.#log = log;
    this.#intervalMs = intervalMs;
  }

  start(): void {
    this.#stopping = new AbortController();
    this.#running ??= this.#run(this.#stopping.signal);
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    this.#running = undefined;
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      let pause = this.#intervalMs;
      try {
        await settleLedger(this.#pool, signal);
      } catch (error) {
        pause = RETRY_MS;
        this.#log.warn('the ledger could not judge all that stores have sent; trying again', { err: error });
      }
      await this.#clock.sleep(pause, signal);
    }
  }
}

/**
 * Judges until nothing is marked, another process is at it, or the signal says stop. Throws what a store's data has
 * caused, after all other stores were judged.
 */
export async function settleLedger(pool: pg.Pool, signal?: AbortSignal): Promise<void> {
  while (signal?.aborted !== true && (await hasMarks(pool))) {
    try {
      const { result } = await ledgerRound(pool);
      if (result !== 'judged') return;
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
    while (!signal.aborted) {
      if (!(await hasMarks(pool))) return true;
      if ((await ledgerRound(pool, { inTurn: true })).result === 'idle') return true;
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
