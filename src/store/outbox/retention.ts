/**
 * Forgets acknowledged entries after 35 days, or after 7 when the disk is nearly full. Until then they are what an HQ
 * that was restored from a backup gets again. What is not acknowledged is never touched.
 */
import { statfs } from 'node:fs/promises';
import type pg from 'pg';
import type { Clock } from '../../core/clock.ts';
import { Loop } from '../../core/loop.ts';
import type { Service } from '../../core/service.ts';
import { queryOne } from '../../db/transaction.ts';

export interface RetentionOptions {
  readonly pool: pg.Pool;
  readonly clock: Clock;
  readonly days?: number;
  /** Share of the disk that is free, 0 to 1; undefined: cannot be told. */
  readonly freeShare?: () => Promise<number | undefined>;
  readonly onError?: (error: unknown) => void;
}

export const RETENTION_DAYS_DEFAULT = 35;
const DAYS_WHEN_FULL = 7;
const FULL_BELOW = 0.1;
const HOUR_MS = 3_600_000;
/** Rows per statement: a purge of a month must not hold one long transaction. */
const CHUNK = 10_000;

export class OutboxRetention implements Service {
  readonly name = 'outbox retention';
  readonly #options: RetentionOptions;
  readonly #loop = new Loop((signal) => this.#run(signal));

  constructor(options: RetentionOptions) {
    this.#options = options;
  }

  start(): void {
    this.#loop.start();
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.round();
      } catch (error) {
        this.#options.onError?.(error); // an hour later is early enough
      }
      await this.#options.clock.sleep(HOUR_MS, signal);
    }
  }

  /** Deletes what is old enough and returns how many entries that were. */
  async round(): Promise<number> {
    const { pool, days = RETENTION_DAYS_DEFAULT, freeShare = () => diskFree(pool) } = this.#options;
    const free = await freeShare();
    const kept = free !== undefined && free < FULL_BELOW ? Math.min(days, DAYS_WHEN_FULL) : days;
    let deleted = 0;
    for (;;) {
      const count = await deleteAcked(pool, kept);
      deleted += count;
      if (count < CHUNK) return deleted;
    }
  }
}

/** Oldest first and without gaps: a way back is possible as far as the entries reach. */
async function deleteAcked(pool: pg.Pool, days: number): Promise<number> {
  const { rowCount } = await pool.query(
    `delete from possync.outbox o using (
       select x.epoch, x.seq from possync.outbox x
        where (x.epoch, x.seq) <= (select a.epoch, a.seq from possync.acks a
                                    where a.acked_at < now() - make_interval(days => $1::int)
                                    order by a.epoch desc, a.seq desc limit 1)
          and (x.epoch, x.seq) <= (select s.epoch, s.seq from possync.sending s)
        order by x.epoch, x.seq limit $2::int) old
      where o.epoch = old.epoch and o.seq = old.seq`,
    [days, CHUNK],
  );
  await pool.query(
    `delete from possync.acks a
      where (a.epoch, a.seq) < (select o.epoch, o.seq from possync.outbox o order by o.epoch, o.seq limit 1)`,
  );
  return rowCount ?? 0;
}

/**
 * Of the disk that holds this database, if it is on this machine and may be known: the data directory, where the log
 * of transactions is, or the database's own tablespace, whichever has less.
 */
export async function diskFree(pool: pg.Pool): Promise<number | undefined> {
  try {
    const { directory, tablespace } = await queryOne<{ directory: string; tablespace: string }>(
      pool,
      `select current_setting('data_directory') as directory, pg_tablespace_location(d.dattablespace) as tablespace
         from pg_database d where d.datname = current_database()`,
    );
    const shares = await Promise.all(
      [directory, tablespace].filter((path) => path !== '').map((path) => freeOf(path)),
    );
    return Math.min(...shares);
  } catch {
    return undefined; // no right to ask, or a database elsewhere: the full retention holds
  }
}

async function freeOf(path: string): Promise<number> {
  const { bavail, blocks } = await statfs(path);
  return blocks > 0 ? bavail / blocks : 1;
}
