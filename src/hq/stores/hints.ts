/** What there is to pull, told to stores: at once when urgent, else spread over seconds by store, never two for one store at a time. */
import type { Clock } from '../../core/clock.ts';
import { spreadOf } from './link-rules.ts';

interface Pending {
  pos: number;
  readonly sinceMs: number;
  readonly cancel: () => void;
}

export class Hints {
  readonly #clock: Clock;
  readonly #send: (storeId: number, pos: number, waitedMs: number) => void;
  readonly #pending = new Map<number, Pending>();

  /** `send` hears how long the hint has waited for its turn: of several, the first one. */
  constructor(clock: Clock, send: (storeId: number, pos: number, waitedMs: number) => void) {
    this.#clock = clock;
    this.#send = send;
  }

  hint(storeId: number, pos: number, urgent: boolean): void {
    const pending = this.#pending.get(storeId);
    const nowMs = this.#clock.now();
    if (urgent) {
      this.forget(storeId);
      this.#send(storeId, pos, nowMs - (pending?.sinceMs ?? nowMs));
    } else if (pending !== undefined) {
      pending.pos = Math.max(pending.pos, pos);
    } else {
      const cancel = this.#clock.after(spreadOf(storeId), () => {
        this.#pending.delete(storeId);
        this.#send(storeId, entry.pos, this.#clock.now() - nowMs);
      });
      const entry: Pending = { pos, sinceMs: nowMs, cancel };
      this.#pending.set(storeId, entry);
    }
  }

  forget(storeId: number): void {
    this.#pending.get(storeId)?.cancel();
    this.#pending.delete(storeId);
  }

  forgetAll(): void {
    for (const storeId of [...this.#pending.keys()]) this.forget(storeId);
  }
}
