/** Time in the hand of a test: weeks pass in milliseconds. */
import type { Clock } from '../../src/core/clock.ts';

/** Timers fire when the test says so, in order of their time. */
export class HandClock implements Clock {
  #nowMs = 0;
  #timers: { at: number; fn: () => void }[] = [];

  now(): number {
    return this.#nowMs;
  }
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.after(ms, resolve);
    });
  }
  after(ms: number, fn: () => void): () => void {
    const timer = { at: this.#nowMs + ms, fn };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }
  advance(ms: number): void {
    const end = this.#nowMs + ms;
    for (;;) {
      const next = this.#timers.filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.#nowMs = next.at;
      next.fn();
    }
    this.#nowMs = end;
  }
}
