/**
 * A service that repeats one piece of work for as long as it runs.
 *
 *   start ── everyMs ──▶ work ── ends ── everyMs ──▶ work …        rounds never overlap, a slow one delays the next
 *
 * The work says itself what it does about its errors: one that escapes it is a bug and ends the process.
 */
import type { Clock } from './clock.ts';
import type { Service } from './service.ts';

export interface RepeatedOptions {
  readonly name: string;
  readonly clock: Clock;
  readonly everyMs: number;
  readonly work: () => Promise<void>;
}

export class Repeated implements Service {
  readonly name: string;
  readonly #options: RepeatedOptions;
  #cancel: () => void = () => undefined;
  /** Of this start: a round that is still at work when the service stops and starts again must not go on beside the new one. */
  #run: object | undefined;

  constructor(options: RepeatedOptions) {
    this.name = options.name;
    this.#options = options;
  }

  start(): void {
    this.stop();
    this.#run = {};
    this.#wait(this.#run);
  }

  /** A round at work is not waited for: it may be waiting for a lock. */
  stop(): void {
    this.#run = undefined;
    this.#cancel();
  }

  #wait(run: object): void {
    this.#cancel = this.#options.clock.after(this.#options.everyMs, () => {
      void this.#options.work().finally(() => {
        if (this.#run === run) this.#wait(run);
      });
    });
  }
}
