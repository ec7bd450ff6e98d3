/** Lets a bounded number in and sends everybody else away at once: an overloaded server must not queue in memory. */
import { PossyncError } from '../core/errors.ts';

/** Those sent away return spread over this, so that they do not knock together again. */
const RETRY_SPREAD_MS = 4_000;
const RETRY_LEAST_MS = 1_000;

export class Gate {
  readonly #limit: number;
  readonly #random: () => number;
  #inside = 0;

  constructor(limit: number, random: () => number = Math.random) {
    this.#limit = limit;
    this.#random = random;
  }

  get inside(): number {
    return this.#inside;
  }

  /** Runs `work`, or throws PS-HQ-BUSY with the time after which to come back. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#inside >= this.#limit) {
      const retryMs = RETRY_LEAST_MS + Math.floor(this.#random() * RETRY_SPREAD_MS);
      throw new PossyncError('PS-HQ-BUSY', 'HQ is busy', { details: { retryMs } });
    }
    this.#inside += 1;
    try {
      return await work();
    } finally {
      this.#inside -= 1;
    }
  }
}
