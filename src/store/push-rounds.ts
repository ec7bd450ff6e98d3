/** Lets somebody wait for the push round that begins after the request. */
interface Waiter {
  readonly resolve: (sent: number) => void;
  readonly reject: (error: Error) => void;
}

export class PushRounds {
  #waiters: Waiter[] = [];

  next(): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
    });
  }

  done(sent: number): void {
    for (const { resolve } of this.#take()) resolve(sent);
  }

  failed(error: Error): void {
    for (const { reject } of this.#take()) reject(error);
  }

  #take(): Waiter[] {
    const waiters = this.#waiters;
    this.#waiters = [];
    return waiters;
  }
}
