/**
 * Lets a bounded number in and sends everybody else away at once: an overloaded server must not queue in memory.
 *
 * Each is told when to come back, at random within a time that grows with the number of those who were sent away: a
 * whole chain that returns at once spreads over a minute, ten stores over a few seconds.
 */
import { PossyncError } from '../core/errors.ts';

export const RETRY_LEAST_MS = 1_000;
/** Those sent away return spread over at least this, so that they do not knock together again. */
export const RETRY_SPREAD_MS = 4_000;
/** Stores stay away for a minute at most, whatever they are told. */
const RETRY_SPREAD_MAX_MS = 55_000;
/** A batch takes about a second of its place while HQ is under load. */
const WORK_MS = 1_000;

export class Gate {
  readonly #limit: number;
  readonly #random: () => number;
  #inside = 0;
  /** About how many wait outside: one more for each sent away, one less for each served. */
  #outside = 0;

  constructor(limit: number, random: () => number = Math.random) {
    this.#limit = limit;
    this.#random = random;
  }

  get inside(): number {
    return this.#inside;
  }

  /** Runs `work`, or throws PS-HQ-BUSY with the time after which to come back. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#inside >= this.#limit) throw this.#busy();
    this.#inside += 1;
    try {
      return await work();
    } finally {
      this.#inside -= 1;
      this.#outside = Math.max(0, this.#outside - 1);
    }
  }

  #busy(): PossyncError {
    const drainMs = (this.#outside / this.#limit) * WORK_MS;
    const spreadMs = Math.min(RETRY_SPREAD_MAX_MS, Math.max(RETRY_SPREAD_MS, drainMs));
    this.#outside = Math.min(this.#outside + 1, (RETRY_SPREAD_MAX_MS / WORK_MS) * this.#limit);
    const retryMs = RETRY_LEAST_MS + Math.floor(this.#random() * spreadMs);
    return new PossyncError('PS-HQ-BUSY', 'HQ is busy', { details: { retryMs } });
  }
}
