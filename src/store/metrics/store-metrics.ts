/** The daemon's /metrics: what it counts as it happens, beside what the document of `possync status` says. */
import { statfs } from 'node:fs/promises';
import { systemClock, type Clock } from '../../core/clock.ts';
import { LocalPort } from '../../core/local-port.ts';
import type { Log } from '../../core/log.ts';
import { Metrics, type Sample } from '../../core/metrics.ts';
import { oncePer } from '../../core/shared-answer.ts';
import type { StoreStatusView } from '../../protocol/status.ts';
import type { PullResult } from '../mirror/mirror.ts';
import type { LinkSnapshot } from '../link/link-snapshot.ts';
import type { DaemonOptions } from '../options.ts';
import type { StateName } from '../link/state.ts';
import { STORE_READINGS } from './readings.ts';

export interface StoreMetricsOptions {
  readonly listen: { readonly host: string; readonly port: number };
  /** The document of `possync status --json`. */
  readonly status: () => Promise<StoreStatusView>;
  /** Folders whose disk the daemon needs. */
  readonly folders: readonly string[];
  /** Lines of the log that were lost; undefined: nobody counts them. */
  readonly logLost: (() => number) | undefined;
  readonly clock: Clock;
  readonly log: Log;
}

/** Two scrapers at once read the database once; it belongs to the tills. */
const SHARED_MS = 1_000;

/** undefined: nobody wants them. */
export function metricsOf(
  { metricsListen: listen, stateDir, logDir, logLost, clock = systemClock }: DaemonOptions,
  log: Log,
  status: () => Promise<StoreStatusView>,
): StoreMetrics | undefined {
  if (listen == null) return undefined;
  const folders = logDir === undefined ? [stateDir] : [stateDir, logDir];
  return new StoreMetrics({ listen, status, folders, logLost, clock, log });
}

export class StoreMetrics extends LocalPort {
  readonly #changes;
  readonly #disconnects;
  readonly #attempts;
  readonly #rtt;
  readonly #batches;
  readonly #pushSeconds;
  readonly #pulls;
  readonly #pulledRecords;
  readonly #pullSeconds;
  readonly #applyLag;
  readonly #rotations;
  readonly #commitSeconds;
  #state: StateName = 'idle';

  constructor({ listen, status, folders, logLost, clock, log }: StoreMetricsOptions) {
    const metrics = new Metrics({
      role: 'store',
      readings: STORE_READINGS,
      read: oncePer(SHARED_MS, clock, status),
    });
    super({
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
      'type',
      'result',
    ]);
    this.#applyLag = metrics.histogram(
      'possync_apply_lag_seconds',
      'From the moment HQ sealed its newest change, corrected by the difference of the clocks, to all in place here.',
    );
    this.#pullSeconds = metrics.histogram(
      'possync_pull_duration_seconds',
      'From asking HQ to everything in place.',
    );
    this.#rotations = metrics.counter(
      'possync_token_rotations_total',
      'Rotations of the credential by the daemon itself.',
      ['result'],
    );
    this.#commitSeconds = metrics.histogram(
      'possync_db_commit_duration_seconds',
      "One small statement and its commit in the store's database: the daemon's own state, at least every five seconds.",
    );
    metrics.live({
      name: 'possync_disk_free_bytes',
      help: 'Room that the daemon may use where it keeps its credential and its log.',
      labels: ['path'],
      of: () => Promise.all(folders.map(freeBytes)),
    });
    if (logLost !== undefined)
      metrics.live({
        name: 'possync_log_dropped_total',
        help: 'Lines of the log that could not be written.',
        kind: 'counter',
        of: () => [{ value: logLost() }],
      });
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

  /** undefined: it threw. `hqNowMs`: what HQ's clock says now; unknown without a connection. */
  pulled(pulled: PullResult | undefined, ms: number, hqNowMs: number | undefined): void {
    const result = pulled?.result ?? 'error';
    this.#pulls.inc({ result });
    if (pulled?.result !== 'applied') return;
    for (const [type, records] of pulled.types) this.#pulledRecords.inc({ type, result }, records);
    this.#pullSeconds.observe(ms / 1_000);
    if (pulled.sealedAt !== undefined && hqNowMs !== undefined)
      this.#applyLag.observe(Math.max(0, hqNowMs - pulled.sealedAt) / 1_000);
  }

  rotated(result: 'rotated' | 'failed'): void {
    this.#rotations.inc({ result });
  }

  committed(ms: number): void {
    this.#commitSeconds.observe(ms / 1_000);
  }
}

async function freeBytes(path: string): Promise<Sample> {
  const { bavail, bsize } = await statfs(path);
  return { value: bavail * bsize, labels: { path } };
}
