/** The only source of time and timers, so that tests hold time in their hand. */
import { setTimeout as sleepTimer } from 'node:timers/promises';

export interface Clock {
  /** Milliseconds since 1970, wall clock: for display and stamps, never for order. */
  now(): number;
  /** Resolves after `ms`, or at once when the signal aborts (it does not throw). */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Runs `fn` once after `ms`; the returned function cancels it. */
  after(ms: number, fn: () => void): () => void;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  async sleep(ms, signal) {
    try {
      await sleepTimer(ms, undefined, signal === undefined ? {} : { signal });
    } catch (error) {
      // An aborted sleep is simply over: the caller looks at its signal anyway.
      if (signal?.aborted !== true) throw error;
    }
  },
  after(ms, fn) {
    const timer = setTimeout(fn, ms);
    return () => {
      clearTimeout(timer);
    };
  },
};
