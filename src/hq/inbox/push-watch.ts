/** What HQ's metrics and log say of pushes: each is counted; what was refused or parked is a line, summed up per store. */
import { toPossyncError } from '../../core/classify.ts';
import type { Clock } from '../../core/clock.ts';
import type { Log } from '../../core/log.ts';
import { Summed } from '../../core/summed.ts';
import { statusOf } from '../http-answers.ts';
import type { HqMetrics } from '../metrics/hq-metrics.ts';
import type { PushOptions, PushResult } from './push.ts';

/** At most so often the same trouble of the same store is a line: a hundred stores in trouble keep to a megabyte a day. */
const TROUBLE_EVERY_MS = 3_600_000;

interface Refused {
  readonly store: string;
  readonly code: string;
  readonly why: string;
}

export interface PushWatchOptions {
  readonly log: Log;
  readonly clock: Pick<Clock, 'now'>;
  readonly metrics: HqMetrics | undefined;
}

export class PushWatch {
  readonly #metrics: HqMetrics | undefined;
  readonly #refused: Summed<Refused>;
  readonly #parked: Summed<undefined>;

  constructor({ log, clock, metrics }: PushWatchOptions) {
    this.#metrics = metrics;
    const every = { clock, everyMs: TROUBLE_EVERY_MS };
    this.#refused = new Summed({
      ...every,
      say: (_key, times, { store, code, why }) => {
        log.warn('batches of a store were refused', { event: 'push.rejected', store, code, why, times });
      },
    });
    this.#parked = new Summed({
      ...every,
      say: (store, entries) => {
        log.warn('entries of a store could not be applied and are parked', {
          event: 'queue.parked',
          code: 'PS-QUEUE-PARKED',
          store,
          entries,
        });
      },
    });
  }

  /** Runs one push of this store; it tells how many of its entries are parked now, and how many had come before. */
  async watched(
    store: string,
    work: (tell: Required<Pick<PushOptions, 'parked' | 'repeated'>>) => Promise<PushResult>,
  ): Promise<PushResult> {
    const begun = performance.now();
    const tell = (result: PushResult['result'] | 'error'): void =>
      this.#metrics?.pushed(result, performance.now() - begun);
    try {
      const outcome = await work({
        parked: (entries) => {
          this.#parked.add(store, entries, undefined);
        },
        repeated: (entries) => this.#metrics?.repeated(entries),
      });
      tell(outcome.result);
      if (outcome.result === 'not-ready')
        this.#refuse({ store, code: outcome.error.code, why: outcome.error.message });
      else if (outcome.result === 'conflict' && isDispute(outcome.conflict.code))
        this.#refuse({
          store,
          code: outcome.conflict.code === 'epoch' ? 'PS-UP-EPOCH' : 'PS-UP-DIVERGED',
          why: `HQ stands at entry ${outcome.conflict.seq} of epoch ${outcome.conflict.epoch}`,
        });
      return outcome;
    } catch (error) {
      tell('error');
      const named = toPossyncError(error);
      // One that is busy has not looked at the batch; HQ's own faults are lines already.
      if (named.code !== 'PS-HQ-BUSY' && statusOf(named) < 500)
        this.#refuse({ store, code: named.code, why: named.message });
      throw error;
    } finally {
      this.#refused.due();
      this.#parked.due();
    }
  }

  #refuse(refused: Refused): void {
    this.#refused.add(`${refused.store} ${refused.code}`, 1, refused);
  }
}

/** `fenced` and `gap` are how a store finds its place again. */
function isDispute(code: string): boolean {
  return code === 'epoch' || code === 'diverged';
}
