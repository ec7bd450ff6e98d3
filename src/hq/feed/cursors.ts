/**
 * Remembers where each store stands, so that its round outlives the retention of rounds.
 *
 * Noted in memory at every pull and written once a minute in one statement: 5,000 stores that follow a busy HQ would
 * otherwise write a row each at every round. A note lost in a crash costs a full download, and only to a store that
 * then stays away for five weeks.
 */
import type pg from 'pg';
import { systemClock, type Clock } from '../../core/clock.ts';
import { silentLog, type Log } from '../../core/log.ts';
import type { Service } from '../../core/service.ts';

const FLUSH_MS = 60_000;

export interface CursorBookOptions {
  readonly pool: pg.Pool;
  readonly clock?: Clock;
  readonly log?: Log;
}

export class CursorBook implements Service {
  readonly name = 'cursor book';
  readonly #pool: pg.Pool;
  readonly #clock: Clock;
  readonly #log: Log;
  #moved = new Map<number, number>();
  #stopping = new AbortController();
  #running: Promise<void> | undefined;

  constructor({ pool, clock = systemClock, log = silentLog }: CursorBookOptions) {
    this.#pool = pool;
    this.#clock = clock;
    this.#log = log;
  }

  /** The cursor that a store named in a pull and HQ knew. */
  note(storeId: number, pos: number): void {
    this.#moved.set(storeId, pos);
  }

  /** Writes what was noted since the last time. */
  async flush(): Promise<void> {
    const moved = this.#moved;
    if (moved.size === 0) return;
    this.#moved = new Map();
    await this.#pool.query(
      `insert into possync.store_cursor as c (store_id, pos)
       select n.store_id, n.pos from unnest($1::integer[], $2::bigint[]) n (store_id, pos) order by n.store_id
       on conflict (store_id) do update set pos = excluded.pos, at = now() where c.pos <> excluded.pos`,
      [[...moved.keys()], [...moved.values()]],
    );
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
      await this.#clock.sleep(FLUSH_MS, signal);
      try {
        await this.flush();
      } catch (error) {
        // Noted again with the next pull of each store.
        this.#log.debug('could not note where the stores stand', { err: error });
      }
    }
  }
}
