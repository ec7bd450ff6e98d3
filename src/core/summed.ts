/**
 * Of what happens often a log gets the first at once, and then one line in a while that says how many there were: trouble
 * of a second time a day for weeks must not fill a disk, and must not be silent either.
 */
import type { Clock } from './clock.ts';

export interface SummedOptions<T> {
  readonly clock: Pick<Clock, 'now'>;
  readonly everyMs: number;
  /** `latest` is of the last one of `count`. */
  readonly say: (key: string, count: number, latest: T) => void;
}

interface Kept<T> {
  readonly saidMs: number;
  readonly count: number;
  readonly latest: T;
}

/** No timers: what was kept back is said by the next `add` of its key, or by whoever comes by with `due`. */
export class Summed<T> {
  readonly #options: SummedOptions<T>;
  readonly #kept = new Map<string, Kept<T>>();
  #lookedMs: number;

  constructor(options: SummedOptions<T>) {
    this.#options = options;
    this.#lookedMs = options.clock.now();
  }

  add(key: string, count: number, latest: T): void {
    const { clock, everyMs } = this.#options;
    const kept = this.#kept.get(key);
    const all = (kept?.count ?? 0) + count;
    // A clock that was set back must not keep a line for the length of that.
    if (kept !== undefined && Math.abs(clock.now() - kept.saidMs) < everyMs)
      this.#kept.set(key, { saidMs: kept.saidMs, count: all, latest });
    else this.#say(key, all, latest);
  }

  /** Says what was kept back for long enough; cheap to call at any time. */
  due(): void {
    const { clock, everyMs } = this.#options;
    const now = clock.now();
    if (Math.abs(now - this.#lookedMs) < everyMs) return;
    this.#lookedMs = now;
    for (const [key, { saidMs, count, latest }] of this.#kept) {
      if (Math.abs(now - saidMs) < everyMs) continue;
      if (count > 0) this.#say(key, count, latest);
      else this.#kept.delete(key);
    }
  }

  #say(key: string, count: number, latest: T): void {
    const { clock, say } = this.#options;
    this.#kept.set(key, { saidMs: clock.now(), count: 0, latest });
    say(key, count, latest);
  }
}
