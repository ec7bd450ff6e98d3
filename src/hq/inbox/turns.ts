/**
 * Batches of one store are applied in the order in which they arrived: a store sends the next ones while the first is
 * being applied, and a later one that overtook it here would only be answered with a gap. Reading, unpacking and checking
 * need no turn. Correct without it, across several servers as well: the inbox row decides, not this.
 */
import type { Clock } from '../../core/clock.ts';

export interface Turn {
  /** Resolves when every earlier batch of the store has left, or after a while: one that never ends must not stop all others. */
  come(): Promise<void>;
  leave(): void;
}

const PATIENCE_MS = 2_000;

export class Turns {
  readonly #clock: Clock;
  readonly #last = new Map<number, Promise<void>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  enter(storeId: number): Turn {
    const before = this.#last.get(storeId);
    let leave: () => void = () => undefined;
    const mine = new Promise<void>((resolve) => {
      leave = resolve;
    });
    const gone = before === undefined ? mine : Promise.all([before, mine]).then(() => undefined);
    this.#last.set(storeId, gone);
    return {
      come: async () => {
        if (before === undefined) return;
        const waiting = new AbortController();
        await Promise.race([before, this.#clock.sleep(PATIENCE_MS, waiting.signal)]);
        waiting.abort();
      },
      leave: () => {
        leave();
        void gone.then(() => {
          if (this.#last.get(storeId) === gone) this.#last.delete(storeId);
        });
      },
    };
  }
}
