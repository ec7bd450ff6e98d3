/**
 * Lets a bounded number in and sends everybody else away at once: an overloaded server must not queue in memory.
 *
 * Each is told when to come back, at random within a time that grows with the number of those who were sent away: a
 * whole chain that returns at once spreads over a minute, ten stores over a few seconds. Of one store only a few are
 * inside at a time: whatever it sends, the rest of the room is for the others.
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
  readonly #perStore: number;
  readonly #random: () => number;
  readonly #stores = new Map<number, number>();
  #inside = 0;
  /** About how many wait outside: one more for each sent away, one less for each served. */
  #outside = 0;

  constructor(limit: number, random: () => number = Math.random, perStore = limit) {
    this.#limit = limit;
    this.#perStore = perStore;
    this.#random = random;
  }

  get inside(): number {
    return this.#inside;
  }

  get full(): boolean {
    return this.#inside >= this.#limit;
  }

  /** Throws as `run` would: before a body is read for nothing. */
  check(storeId?: number): void {
    const ofStore = storeId === undefined ? 0 : (this.#stores.get(storeId) ?? 0);
    if (this.#inside >= this.#limit || ofStore >= this.#perStore) throw this.#busy();
  }

  /** Runs `work`, or throws PS-HQ-BUSY with the time after which to come back. */
  async run<T>(work: () => Promise<T>, storeId?: number): Promise<T> {
    this.check(storeId);
    const ofStore = storeId === undefined ? 0 : (this.#stores.get(storeId) ?? 0);
    this.#inside += 1;
    if (storeId !== undefined) this.#stores.set(storeId, ofStore + 1);
    try {
      return await work();
    } finally {
      this.#inside -= 1;
      this.#outside = Math.max(0, this.#outside - 1);
      if (storeId !== undefined) this.#leave(storeId);
    }
  }

  #leave(storeId: number): void {
    const left = (this.#stores.get(storeId) ?? 1) - 1;
    if (left === 0) this.#stores.delete(storeId);
    else this.#stores.set(storeId, left);
  }

  #busy(): PossyncError {
    const drainMs = (this.#outside / this.#limit) * WORK_MS;
    const spreadMs = Math.min(RETRY_SPREAD_MAX_MS, Math.max(RETRY_SPREAD_MS, drainMs));
    this.#outside = Math.min(this.#outside + 1, (RETRY_SPREAD_MAX_MS / WORK_MS) * this.#limit);
    return busy(this.#random(), spreadMs);
  }
}

/** What is said to those who are sent away; `random` is from 0 to 1. */
export function busy(random: number = Math.random(), spreadMs = RETRY_SPREAD_MS): PossyncError {
  return busyFor(RETRY_LEAST_MS + Math.floor(random * spreadMs));
}

export function busyFor(retryMs: number): PossyncError {
  return new PossyncError('PS-HQ-BUSY', 'HQ is busy', { details: { retryMs } });
}
