/** Start and stop, done once: a daemon is a group of services, stopped in reverse order, all of them. */

export interface Service {
  readonly name: string;
  start(): Promise<void> | void;
  /** Must tolerate being called before start and twice. */
  stop(): Promise<void> | void;
}

/** A composed server or daemon that is up: `stop` is graceful and may be called twice. */
export interface Running {
  stop(): Promise<void>;
  /** Resolves when it cannot go on by itself, with the reason; the caller stops it and exits with its code. */
  readonly failed?: Promise<Error>;
}

/**
 * Starts services in order; if one fails, stops those already started. `stop` ends them in reverse order, runs
 * every one even if an earlier one throws, and then throws the first error.
 */
export class ServiceGroup implements Service {
  readonly name: string;
  readonly #services: readonly Service[];
  #started: Service[] = [];

  constructor(name: string, services: readonly Service[]) {
    this.name = name;
    this.#services = services;
  }

  async start(): Promise<void> {
    for (const service of this.#services) {
      try {
        await service.start();
        this.#started.push(service);
      } catch (error) {
        await this.stop().catch(() => undefined); // the cause of the failed start is the error that matters
        throw error;
      }
    }
  }

  async stop(): Promise<void> {
    const started = this.#started;
    this.#started = [];
    const errors: unknown[] = [];
    for (const service of started.reverse()) {
      try {
        await service.stop();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }
}
