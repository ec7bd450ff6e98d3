/** The loop of a service: begun once, told to end by its signal, and waited for. `repeated.ts` is for work that nobody waits for. */
export class Loop {
  readonly #body: (signal: AbortSignal) => Promise<void>;
  #stopping: AbortController | undefined;
  #running: Promise<void> | undefined;

  /** `body` goes on until its signal aborts, and says itself what it does about errors: one that escapes it is a bug. */
  constructor(body: (signal: AbortSignal) => Promise<void>) {
    this.#body = body;
  }

  /** Does nothing while it runs; one that was stopped and has not ended yet is waited for first. */
  start(): void {
    if (this.#stopping !== undefined) return;
    const { signal } = (this.#stopping = new AbortController());
    const before = this.#running;
    const running = (
      before === undefined ? this.#body(signal) : before.then(() => this.#body(signal))
    ).finally(() => {
      if (this.#running === running) this.#running = undefined;
    });
    this.#running = running;
  }

  async stop(): Promise<void> {
    this.#stopping?.abort();
    this.#stopping = undefined;
    await this.#running;
  }
}
