/**
 * LISTEN on one connection of its own, which comes back by itself.
 *
 * A notification is a hint: while the connection is down they are lost, so `woken` is also called after every
 * reconnect, and whoever needs the truth polls as well.
 */
import type pg from 'pg';
import { backoffDelay } from '../core/backoff.ts';
import { systemClock, type Clock } from '../core/clock.ts';
import { Loop } from '../core/loop.ts';
import type { Service } from '../core/service.ts';
import { connect, type DatabaseOptions } from './pool.ts';

export interface ListenerOptions {
  readonly database: DatabaseOptions;
  readonly channels: readonly string[];
  /** payload undefined: the connection is (again) there, look at everything. Must not throw. */
  readonly woken: (channel: string | undefined, payload: string | undefined) => void;
  readonly clock?: Clock;
}

const BACKOFF = { baseMs: 250, capMs: 5_000 } as const;

export class Listener implements Service {
  readonly name = 'listener';
  readonly #options: ListenerOptions;
  readonly #clock: Clock;
  readonly #loop = new Loop((signal) => this.#run(signal));

  constructor(options: ListenerOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  start(): void {
    this.#loop.start();
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
  }

  async #run(signal: AbortSignal): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      try {
        const client = await connect(this.#options.database);
        failures = 0;
        await this.#listen(client, signal);
      } catch {
        // The database is away; the pollers say so, a listener has nothing to add.
      }
      failures += 1;
      await this.#clock.sleep(backoffDelay(failures, BACKOFF), signal);
    }
  }

  async #listen(client: pg.Client, signal: AbortSignal): Promise<void> {
    const { channels, woken } = this.#options;
    try {
      const ended = new Promise<void>((resolve) => {
        const end = (): void => {
          resolve();
        };
        client.once('end', end);
        signal.addEventListener('abort', end, { once: true });
        if (signal.aborted) end();
      });
      client.on('notification', ({ channel, payload }) => {
        woken(channel, payload ?? '');
      });
      for (const channel of channels) await client.query(`listen ${client.escapeIdentifier(channel)}`);
      woken(undefined, undefined);
      await ended;
    } finally {
      await client.end().catch(() => undefined); // it may have ended by itself
    }
  }
}
