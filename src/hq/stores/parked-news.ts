/**
 * Tells connected stores which of their entries HQ holds as parked, where what a store says differs from it.
 *
 *   stat {out.parked} ◀── store        every few seconds: HQ's count ≠ the store's? ── parked {epoch, dead} ──▶ store
 *
 * A retry or a drop at HQ changes what a store cannot see until it pushes again. The comparison is repeated until the
 * store's next stat agrees, so that a frame that is lost, or overtaken by the answer to a push, changes nothing.
 */
import type pg from 'pg';
import type { Clock } from '../../core/clock.ts';
import type { Log } from '../../core/log.ts';
import { Repeated } from '../../core/repeated.ts';
import type { HqFrame } from '../../protocol/messages.ts';
import { deadSeqs } from '../inbox/inbox.ts';

/** What a store says of itself: how many entries it calls parked. */
export interface ParkedAsTold {
  readonly storeId: number;
  readonly parked: number;
}

export interface ParkedNewsOptions {
  readonly pool: pg.Pool;
  readonly clock: Clock;
  readonly log: Log;
  /** Of the stores connected here; one whose possync is older does not say it and is not told. */
  readonly told: () => readonly ParkedAsTold[];
  readonly send: (storeId: number, frame: HqFrame) => void;
}

/** One statement for all stores of this process: two index probes for each. */
const LOOK_MS = 5_000;

export function parkedNews(options: ParkedNewsOptions): Repeated {
  return new Repeated({
    name: 'news of parked entries',
    clock: options.clock,
    everyMs: LOOK_MS,
    work: () => tell(options),
  });
}

async function tell({ pool, log, told, send }: ParkedNewsOptions): Promise<void> {
  try {
    const stores = told();
    if (stores.length === 0) return;
    for (const { storeId, epoch, parked } of await readDiffering(pool, stores)) {
      const dead = await deadSeqs(pool, storeId, epoch);
      // Of a great many only the first are told, here as in every answer.
      if (dead.length !== parked) send(storeId, { type: 'parked', epoch, dead });
    }
  } catch (error) {
    log.debug('could not compare what is parked', { err: error });
  }
}

async function readDiffering(
  pool: pg.Pool,
  stores: readonly ParkedAsTold[],
): Promise<(ParkedAsTold & { readonly epoch: number })[]> {
  const { rows } = await pool.query<ParkedAsTold & { epoch: number }>(
    `select s.store_id as "storeId", s.parked, i.epoch
       from unnest($1::integer[], $2::bigint[]) s (store_id, parked)
       join possync.inbox i on i.store_id = s.store_id
      where s.parked <> (select count(*) from possync.dead d where d.store_id = i.store_id and d.epoch = i.epoch)`,
    [stores.map(({ storeId }) => storeId), stores.map(({ parked }) => parked)],
  );
  return rows;
}
