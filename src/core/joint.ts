/**
 * Work that many ask for at the same moment is done once for all of them.
 *
 *   join ─┐
 *   join ─┼─▶ next ── the one before is done ──▶ running ──▶ one answer to all who joined
 *   join ─┘             joins only now? the next one
 *
 * Whoever joins gets an answer that was begun after it joined: nothing old is handed out, nothing is kept. With a rest
 * the next work begins no sooner than that after the one before began: who comes alone does not wait, a crowd gathers.
 */
import { systemClock, type Clock } from './clock.ts';

/** What hangs (a line to the database that is dead on one side) must not hold up those who come after it. */
const PATIENCE_MS = 2_000;

export class Joint<K, A> {
  readonly #clock: Clock;
  readonly #restMs: number;
  readonly #work: (keys: readonly K[]) => Promise<A>;
  #begunMs = -Infinity;
  #running: Promise<void> | undefined;
  #next: { readonly keys: K[]; readonly answer: Promise<A> } | undefined;

  constructor(work: (keys: readonly K[]) => Promise<A>, clock: Clock = systemClock, restMs = 0) {
    this.#work = work;
    this.#clock = clock;
    this.#restMs = restMs;
  }

  /** Nobody waits. */
  get idle(): boolean {
    return this.#running === undefined;
  }

  join(key: K): Promise<A> {
    this.#next ??= this.#begin();
    this.#next.keys.push(key);
    return this.#next.answer;
  }

  #begin(): { readonly keys: K[]; readonly answer: Promise<A> } {
    const keys: K[] = [];
    const answer = this.#turn().then(() => {
      this.#next = undefined;
      this.#begunMs = this.#clock.now();
      return this.#work(keys);
    });
    const over = (): void => {
      if (this.#running === running) this.#running = undefined;
    };
    const running: Promise<void> = answer.then(over, over);
    this.#running = running;
    return { keys, answer };
  }

  async #turn(): Promise<void> {
    if (this.#running === undefined) {
      // What arrived with the first request is read in the same turn of the event loop.
      await new Promise<void>((resolve) => setImmediate(resolve));
    } else {
      const waiting = new AbortController();
      await Promise.race([this.#running, this.#clock.sleep(PATIENCE_MS, waiting.signal)]);
      waiting.abort();
    }
    const passedMs = this.#clock.now() - this.#begunMs;
    // The clock of the machine may have been set back.
    if (passedMs >= 0 && passedMs < this.#restMs) await this.#clock.sleep(this.#restMs - passedMs);
  }
}
