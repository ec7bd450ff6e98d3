/** The daemon's /metrics: what it counts as it happens, beside what the document of `possync status` says. */
import type { Clock } from '../../core/clock.ts';
import { LocalPort } from '../../core/local-port.ts';
import type { Log } from '../../core/log.ts';
import { Metrics } from '../../core/metrics.ts';
import type { Service } from '../../core/service.ts';
import { oncePer } from '../../core/shared-answer.ts';
import type { StoreStatusView } from '../../protocol/status.ts';
import type { LinkSnapshot } from '../link/link-snapshot.ts';
import type { StateName } from '../link/state.ts';
import { STORE_READINGS } from './readings.ts';

export interface StoreMetricsOptions {
  readonly listen: { readonly host: string; readonly port: number };
  /** The document of `possync status --json`. */
  readonly status: () => Promise<StoreStatusView>;
  readonly clock: Clock;
  readonly log: Log;
}

/** Two scrapers at once read the database once; it belongs to the tills. */
const SHARED_MS = 1_000;

export class StoreMetrics implements Service {
  readonly name = 'metrics';
  readonly #port: LocalPort;
  readonly #changes;
  readonly #disconnects;
  readonly #attempts;
  readonly #rtt;
  readonly #batches;
  readonly #pushSeconds;
  readonly #pulls;
  readonly #pulledRecords;
  readonly #pullSeconds;
  #state: StateName = 'idle';

  constructor({ listen, status, clock, log }: StoreMetricsOptions) {
    const metrics = new Metrics({
      role: 'store',
      readings: STORE_READINGS,
      read: oncePer(SHARED_MS, clock, status),
    });
    this.#changes = metrics.counter('possync_ws_connection_changes_total', 'Changes of the light.', ['to']);
    this.#disconnects = metrics.counter('possync_ws_disconnects_total', 'Ends of a green connection.', [
      'code',
    ]);
    this.#attempts = metrics.counter('possync_ws_connect_attempts_total', 'Attempts to connect.', ['result']);
    this.#rtt = metrics.histogram('possync_ws_heartbeat_rtt_seconds', 'Round trip of a heartbeat.');
    this.#batches = metrics.counter('possync_push_batches_total', 'Batches sent to HQ.', ['result']);
    this.#pushSeconds = metrics.histogram(
      'possync_push_duration_seconds',
      'From sending a batch to the answer of HQ.',
    );
    this.#pulls = metrics.counter('possync_pull_rounds_total', 'Pulls from HQ.', ['result']);
    this.#pulledRecords = metrics.counter('possync_pull_records_total', 'Records of HQ put in place.', [
      'result',
    ]);
    this.#pullSeconds = metrics.histogram(
      'possync_pull_duration_seconds',
      'From asking HQ to everything in place.',
    );
    this.#port = new LocalPort({
      name: 'metrics port',
      listen,
      log,
      routes: new Map([
        [
          'GET /metrics',
          async () => ({
            status: 200,
            body: await metrics.text(({ database }) => database.state === 'ok'),
            type: metrics.contentType,
          }),
        ],
      ]),
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

  linkChanged({ state, reason }: LinkSnapshot): void {
    const before = this.#state;
    this.#state = state;
    if (state === before) return;
    const trying = before === 'connecting' || before === 'greeting';
    if (state === 'online') {
      this.#changes.inc({ to: 'green' });
      this.#attempts.inc({ result: 'ok' });
    } else if (before === 'online') {
      this.#changes.inc({ to: 'red' });
      this.#disconnects.inc({ code: reason?.code ?? 'none' });
    } else if (trying && state === 'waiting') this.#attempts.inc({ result: 'failed' });
  }

  heartbeat(rttMs: number): void {
    this.#rtt.observe(rttMs / 1_000);
  }

  /** One batch and what came of it; the time of one that got no answer says nothing of HQ. */
  pushed(result: 'ok' | 'conflict' | 'later' | 'error', ms: number): void {
    this.#batches.inc({ result });
    if (result !== 'error') this.#pushSeconds.observe(ms / 1_000);
  }

  pulled(result: string, records: number, ms: number): void {
    this.#pulls.inc({ result });
    if (records > 0) this.#pulledRecords.inc({ result }, records);
    if (result === 'applied') this.#pullSeconds.observe(ms / 1_000);
  }
}
