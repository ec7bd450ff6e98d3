/** How long this process keeps its own events waiting: the 99th percentile of the last half minute. */
import { monitorEventLoopDelay, type IntervalHistogram } from 'node:perf_hooks';
import type { Clock } from './clock.ts';
import type { Service } from './service.ts';

const WINDOW_MS = 30_000;
/** The histogram counts its own period of sampling as delay. */
const RESOLUTION_MS = 20;

export class LoopDelay implements Service {
  readonly name = 'event loop watch';
  readonly #clock: Clock;
  #histogram: IntervalHistogram | undefined;
  #lastWindowMs: number | null = null;
  #cancel: () => void = () => undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  start(): void {
    this.#histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
    this.#histogram.enable();
    this.#turn();
  }

  stop(): void {
    this.#cancel();
    this.#histogram?.disable();
    this.#histogram = undefined;
  }

  /** Of the last whole window or the one that runs, whichever is worse; null before anything was measured. */
  get p99Ms(): number | null {
    const running = this.#measured();
    if (running === null || this.#lastWindowMs === null) return running ?? this.#lastWindowMs;
    return Math.max(running, this.#lastWindowMs);
  }

  #measured(): number | null {
    const histogram = this.#histogram;
    if (histogram === undefined || histogram.count === 0) return null;
    return Math.max(0, Math.round(histogram.percentile(99) / 1e6) - RESOLUTION_MS);
  }

  #turn(): void {
    this.#cancel = this.#clock.after(WINDOW_MS, () => {
      this.#lastWindowMs = this.#measured();
      this.#histogram?.reset();
      this.#turn();
    });
  }
}
