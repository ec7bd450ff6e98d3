/**
 * Lets somebody wait for a push round that begins after the request: one that runs already has sealed without what was
 * committed just before.
 */
interface Waiter {
  readonly resolve: (sent: number) => void;
  readonly reject: (error: Error) => void;
}

export class PushRounds {
  #waiters: Waiter[] = [];
  #served: Waiter[] = [];

  next(): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
    });
  }

  /** A round begins: whoever waits now is served by it. */
  begin(): void {
    this.#served.push(...this.#waiters);
    this.#waiters = [];
  }

  done(sent: number): void {
    for (const { resolve } of this.#take()) resolve(sent);
  }

  failed(error: Error): void {
    for (const { reject } of this.#take()) reject(error);
  }

  #take(): Waiter[] {
    const served = this.#served;
    this.#served = [];
    return served;
  }
}
