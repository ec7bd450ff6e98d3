/** Clients of replaced credentials: requests in hand are finished under them, then their connections go. */
import type { Clock } from '../../core/clock.ts';
import type { HqClient } from './hq-client.ts';

/** Longer than any request may take. */
const RETIRE_MS = 180_000;

export class RetiredClients {
  readonly #clock: Clock;
  readonly #waiting = new Map<HqClient, () => void>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  add(client: HqClient): void {
    const cancel = this.#clock.after(RETIRE_MS, () => {
      this.#waiting.delete(client);
      client.close();
    });
    this.#waiting.set(client, cancel);
  }

  /** Ends all of them now. */
  close(): void {
    for (const [client, cancel] of this.#waiting) {
      cancel();
      client.close();
    }
    this.#waiting.clear();
  }
}
