/** What HQ's inbox does by itself every minute: retries what misses a parent, makes partitions. Any number of processes may. */
import type pg from 'pg';
import type { Clock } from '../../core/clock.ts';
import { Loop } from '../../core/loop.ts';
import type { Service } from '../../core/service.ts';
import { retryWaiting } from './dead.ts';
import { ensurePartitions, type PartitionReport } from './partitions.ts';

export interface MaintenanceOptions {
  readonly pool: pg.Pool;
  readonly clock: Clock;
  readonly intervalMs?: number;
  /** What a round did; `unplaceable` rows are worth an alert. */
  readonly onRound?: (report: PartitionReport & { readonly retried: number }) => void;
  readonly onError?: (error: unknown) => void;
}

const INTERVAL_MS = 60_000;

export class InboxMaintenance implements Service {
  readonly name = 'inbox maintenance';
  readonly #options: MaintenanceOptions;
  readonly #loop = new Loop((signal) => this.#run(signal));

  constructor(options: MaintenanceOptions) {
    this.#options = options;
  }

  start(): void {
    this.#loop.start();
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { clock, intervalMs = INTERVAL_MS, onRound, onError } = this.#options;
    while (!signal.aborted) {
      try {
        const report = await this.round();
        onRound?.(report);
      } catch (error) {
        // The next round is a minute away and looks at everything again.
        onError?.(error);
      }
      await clock.sleep(intervalMs, signal);
    }
  }

  /** One round, for whoever does not want to wait a minute. */
  async round(): Promise<PartitionReport & { readonly retried: number }> {
    const { pool } = this.#options;
    const report = await ensurePartitions(pool);
    return { ...report, retried: await retryWaiting(pool, { due: true }) };
  }
}
