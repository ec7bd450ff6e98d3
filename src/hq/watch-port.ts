/** HQ's local port for whoever watches it: /metrics, and on this machine alone the status with the day's revenue. */
import type { Clock } from '../core/clock.ts';
import { LocalPort } from '../core/local-port.ts';
import type { Log } from '../core/log.ts';
import type { Service } from '../core/service.ts';
import { oncePer } from '../core/shared-answer.ts';
import type { HqStatusView } from '../protocol/status.ts';
import { statusRoutes } from './dashboard/routes.ts';
import { HqMetrics } from './metrics/hq-metrics.ts';

export interface WatchPortOptions {
  readonly listen: { readonly host: string; readonly port: number };
  /** The document of `possync status --json`. */
  readonly status: () => Promise<HqStatusView>;
  readonly sockets: () => number;
  readonly clock: Clock;
  readonly log: Log;
}

/** Scrapers, pages and scripts that ask at the same time read the database once. */
const SHARED_MS = 1_000;

export class WatchPort implements Service {
  readonly name = 'metrics port';
  /** What happens in this server, to be counted. */
  readonly metrics: HqMetrics;
  readonly #port: LocalPort;

  constructor({ listen, status, sockets, clock, log }: WatchPortOptions) {
    const shared = oncePer(SHARED_MS, clock, status);
    this.metrics = new HqMetrics({ status: shared, sockets });
    this.#port = new LocalPort({
      name: this.name,
      listen,
      log,
      routes: new Map([['GET /metrics', this.metrics.handler], ...statusRoutes(shared, clock)]),
    });
  }

  get url(): string | undefined {
    return this.#port.url;
  }

  async start(): Promise<void> {
    await this.#port.start();
  }

  async stop(): Promise<void> {
    await this.#port.stop();
  }
}
