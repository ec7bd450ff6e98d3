/** What the feed does by itself: notes where the stores stand every minute, prunes and retires once a day. */
import type pg from 'pg';
import { systemClock, type Clock } from '../../core/clock.ts';
import { silentLog, type Log } from '../../core/log.ts';
import { Loop } from '../../core/loop.ts';
import type { Service } from '../../core/service.ts';
import type { Entity } from '../../protocol/entities.ts';
import { CursorBook } from './cursors.ts';
import { maintainFeed } from './maintenance.ts';
import {
  hasOwnRecords,
  readPage,
  readSharedPage,
  type PageRequest,
  type PageResult,
  type SharedPage,
} from './pull.ts';

export interface FeedUpkeepOptions {
  readonly pool: pg.Pool;
  /** For what runs once a day and may take its time. */
  readonly upkeep?: pg.Pool;
  readonly entities?: readonly Entity[];
  readonly clock?: Clock;
  readonly log?: Log;
}

const FLUSH_MS = 60_000;
/** Retention counts in weeks: a day more or less is nothing. A restarted process begins with one. */
const MAINTENANCE_MS = 24 * 60 * 60_000;

export class FeedUpkeep implements Service {
  readonly name = 'feed upkeep';
  readonly #options: FeedUpkeepOptions;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #cursors = new CursorBook();
  readonly #loop = new Loop((signal) => this.#run(signal));

  constructor(options: FeedUpkeepOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#log = options.log ?? silentLog;
  }

  /** One page for a store, its cursor noted. */
  async readPage(request: PageRequest): Promise<PageResult> {
    const answer = await readPage(this.#options.pool, request);
    if (answer.result === 'page' && request.cursor !== undefined) {
      this.#cursors.note(request.storeId, request.cursor.pos);
    }
    return answer;
  }

  /** One page for all stores that stand at the same cursor. */
  async readSharedPage(request: PageRequest, storeIds: readonly number[]): Promise<SharedPage> {
    const answer = await readSharedPage(this.#options.pool, request, storeIds);
    if (answer.page.result === 'page' && request.cursor !== undefined) {
      for (const storeId of storeIds) this.#cursors.note(storeId, request.cursor.pos);
    }
    return answer;
  }

  /** Of a store that is served with a page that was read before it asked. */
  async hasOwn(request: PageRequest): Promise<boolean> {
    if (request.cursor !== undefined) this.#cursors.note(request.storeId, request.cursor.pos);
    return await hasOwnRecords(this.#options.pool, request);
  }

  start(): void {
    this.#loop.start();
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { pool, upkeep = pool, entities } = this.#options;
    let dueAt = this.#clock.now();
    while (!signal.aborted) {
      await this.#clock.sleep(FLUSH_MS, signal);
      try {
        await this.#cursors.flush(upkeep);
        dueAt = Math.min(dueAt, this.#clock.now() + MAINTENANCE_MS); // the clock may have been set back
        if (this.#clock.now() < dueAt) continue;
        dueAt = this.#clock.now() + MAINTENANCE_MS;
        const { prunedRounds, retiredTransfers } = await maintainFeed(upkeep, entities);
        if (prunedRounds + retiredTransfers > 0)
          this.#log.info('the feed was tidied up', { prunedRounds, retiredTransfers });
      } catch (error) {
        // Nothing depends on it today; the next minute tries again.
        dueAt = Math.min(dueAt, this.#clock.now() + FLUSH_MS);
        this.#log.warn('upkeep of the feed failed; trying again in a minute', { err: error });
      }
    }
  }
}
