/**
 * What the log of a store says of its pushes. A batch that HQ took is a line of its own; trouble is summed up, so that
 * weeks in which HQ refuses every batch, or parks something of each, keep to the budget of the log.
 */
import { Summed } from '../core/summed.ts';
import type { Clock } from '../core/clock.ts';
import type { PossyncError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { HqRefusal } from './link/hq-client.ts';
import type { Halt } from './outbox/outbox.ts';

/** At most so often the same trouble is a line: 144 a day of each code. */
export const TROUBLE_EVERY_MS = 600_000;

interface Parked {
  readonly first: number;
  readonly last: number;
}

export class PushLog {
  readonly #log: Log;
  readonly #failures: Summed<{ readonly error: PossyncError; readonly delayMs: number }>;
  readonly #halts: Summed<Halt>;
  readonly #parked: Summed<Parked>;

  constructor(log: Log, clock: Pick<Clock, 'now'>) {
    this.#log = log;
    const every = { clock, everyMs: TROUBLE_EVERY_MS };
    this.#failures = new Summed({
      ...every,
      say: (code, times, { error, delayMs }) => {
        const refused = isRefused(error);
        log.warn(refused ? 'HQ refuses the batch; nothing is lost, it is sent again' : 'could not push', {
          event: refused ? 'push.rejected' : undefined,
          code,
          err: error,
          delayMs,
          times,
        });
      },
    });
    this.#halts = new Summed({
      ...every,
      say: (code, times, { why }) => {
        log.error('sending has halted', { event: 'push.rejected', code, why, times });
      },
    });
    this.#parked = new Summed({
      ...every,
      say: (code, entries, { first, last }) => {
        log.warn('HQ has parked entries of this store', {
          event: 'queue.parked',
          code,
          entries,
          first,
          last,
        });
      },
    });
  }

  acknowledged(batch: { readonly first: number; readonly last: number; readonly epoch: number }): void {
    this.#log.info('batch acknowledged', { event: 'push.batch', ...batch });
  }

  failed(error: PossyncError, delayMs: number): void {
    this.#failures.add(error.code, 1, { error, delayMs });
  }

  halted(halt: Halt): void {
    this.#halts.add(halt.code, 1, halt);
  }

  /** Entries that HQ calls parked and did not before, in their order. */
  parked(seqs: readonly number[]): void {
    const [first] = seqs;
    const last = seqs.at(-1);
    if (first === undefined || last === undefined) return;
    this.#parked.add('PS-QUEUE-PARKED', seqs.length, { first, last });
  }

  /** A round is over: what was kept back may be due. */
  round(): void {
    this.#failures.due();
    this.#halts.due();
    this.#parked.due();
  }
}

/** HQ has looked at the batch and does not take it; one that is busy has not looked. */
function isRefused(error: PossyncError): boolean {
  return error instanceof HqRefusal && error.code !== 'PS-HQ-BUSY';
}
