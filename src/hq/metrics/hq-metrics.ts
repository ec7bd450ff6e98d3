/** HQ's /metrics: what this server counts as it happens, beside what the document of `possync status` says. */
import type { Handler } from '../../core/local-http.ts';
import { Metrics } from '../../core/metrics.ts';
import { ROUTES } from '../../protocol/http.ts';
import type { HqStatusView } from '../../protocol/status.ts';
import { HQ_READINGS } from './readings.ts';

/** Routes whose addresses end in something of their own. */
const PREFIXES: readonly string[] = [ROUTES.rotations, ROUTES.verify];
const KNOWN: ReadonlySet<string> = new Set(Object.values(ROUTES));

/** The label of an address: one of ours or `other`, whatever is asked for. */
export function routeLabel(path: string): string {
  if (KNOWN.has(path)) return path;
  return PREFIXES.find((prefix) => path.startsWith(`${prefix}/`)) ?? 'other';
}

export interface HqMetricsOptions {
  readonly status: () => Promise<HqStatusView>;
  /** Stores connected to this server. */
  readonly sockets: () => number;
}

export class HqMetrics {
  readonly #metrics: Metrics<HqStatusView>;
  readonly #requests;
  readonly #refused;
  readonly #pushes;
  readonly #pushSeconds;
  readonly #repeated;
  readonly #hints;
  readonly #fanOut;

  constructor({ status, sockets }: HqMetricsOptions) {
    this.#metrics = new Metrics({
      role: 'hq',
      readings: [
        ...HQ_READINGS,
        {
          name: 'possync_hq_ws_sockets',
          help: 'Stores connected to this server.',
          of: () => [{ value: sockets() }],
        },
      ],
      read: status,
    });
    this.#requests = this.#metrics.histogram(
      'possync_hq_http_request_duration_seconds',
      'Requests of stores and probes.',
      ['route', 'code'],
    );
    this.#refused = this.#metrics.counter('possync_hq_auth_failures_total', 'Credentials refused.', [
      'reason',
    ]);
    this.#pushes = this.#metrics.counter('possync_hq_ingest_batches_total', 'Batches of stores.', ['result']);
    this.#pushSeconds = this.#metrics.histogram(
      'possync_hq_ingest_duration_seconds',
      'Applying a batch, from its body to its commit.',
    );
    this.#repeated = this.#metrics.counter(
      'possync_hq_ingest_duplicates_total',
      'Entries that came again, because an acknowledgement was lost; nothing is applied twice.',
    );
    this.#hints = this.#metrics.counter(
      'possync_hq_notifications_total',
      'Hints to stores that there is something to pull.',
      ['type'],
    );
    this.#fanOut = this.#metrics.histogram(
      'possync_hq_notify_fanout_seconds',
      'From this server knowing of a change to a hint on the line; ordinary ones are spread over seconds on purpose.',
    );
  }

  request(path: string, status: number, ms: number): void {
    this.#requests.observe({ route: routeLabel(path), code: String(status) }, ms / 1_000);
  }

  refused(code: string): void {
    this.#refused.inc({ reason: code });
  }

  repeated(entries: number): void {
    this.#repeated.inc(entries);
  }

  /** A hint that has waited so long since this server knew of the change. */
  hinted(waitedMs: number): void {
    this.#hints.inc({ type: 'head' });
    this.#fanOut.observe(waitedMs / 1_000);
  }

  /** A batch that reached the inbox. */
  pushed(result: 'ok' | 'conflict' | 'not-ready' | 'error', ms: number): void {
    this.#pushes.inc({ result });
    this.#pushSeconds.observe(ms / 1_000);
  }

  readonly handler: Handler = async () => ({
    status: 200,
    body: await this.#metrics.text(({ database }) => database.state === 'ok'),
    type: this.#metrics.contentType,
  });
}
