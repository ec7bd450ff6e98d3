/** HQ's local port for whoever watches it: /metrics, and on this machine alone the status with the day's revenue. */
import type { Clock } from '../core/clock.ts';
import { LocalPort } from '../core/local-port.ts';
import type { Log } from '../core/log.ts';
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

export class WatchPort extends LocalPort {
  /** What happens in this server, to be counted. */
  readonly metrics: HqMetrics;

  constructor({ listen, status, sockets, clock, log }: WatchPortOptions) {
    const shared = oncePer(SHARED_MS, clock, status);
    const metrics = new HqMetrics({ status: shared, sockets });
    super({
      name: 'metrics port',
      listen,
      log,
      routes: new Map([['GET /metrics', metrics.handler], ...statusRoutes(shared, clock)]),
    });
    this.metrics = metrics;
  }
}
