/**
 * The comparisons that a daemon makes: for the command on its machine, and for HQ over the live link. One after the
 * other, because each reads every table: a second one would only make both slower.
 */
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import type { Clock } from '../../core/clock.ts';
import { PossyncError } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import type { Service } from '../../core/service.ts';
import type { Entity } from '../../protocol/entities.ts';
import type { VerifyFrame } from '../../protocol/messages.ts';
import type { StoreReport } from '../../protocol/verify.ts';
import type { HqClient } from '../link/hq-client.ts';
import { readStoreIdentity } from '../outbox/identity.ts';
import { VerifyHq } from './hq.ts';
import { reasonOf, Verifier, type Progress, type VerifyRequest } from './verifier.ts';

export interface VerifyJobsOptions {
  readonly pool: pg.Pool;
  readonly entities: readonly Entity[];
  readonly clock: Clock;
  readonly log: Log;
  readonly hq: () => HqClient | undefined;
  readonly pull: () => Promise<unknown>;
  readonly push: () => Promise<unknown>;
}

export interface JobView extends Progress {
  readonly id: string;
  readonly report: StoreReport | null;
  readonly error: { readonly code: string; readonly message: string; readonly hint: string } | null;
}

interface Job {
  view: JobView;
  lookedAtMs: number;
  readonly cancel: AbortController;
}

/** A command that has not looked for so long is gone; a repair that it began is finished by the next one. */
const FORGOTTEN_MS = 60_000;

export class VerifyJobs implements Service {
  readonly name = 'comparisons';
  readonly #options: VerifyJobsOptions;
  readonly #jobs = new Map<string, Job>();
  readonly #stopping = new AbortController();
  #line: Promise<unknown> = Promise.resolve();

  constructor(options: VerifyJobsOptions) {
    this.#options = options;
  }

  start(): void {
    // Nothing runs until somebody asks.
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    for (const { cancel } of this.#jobs.values()) cancel.abort();
    await this.#line;
  }

  /** For a command: begins one, and is asked about it by look(). */
  begin(repair: boolean, actor: string): JobView {
    const id = randomUUID();
    const { clock } = this.#options;
    const view: JobView = { id, done: 0, total: 0, what: 'waiting for its turn', report: null, error: null };
    const job: Job = { view, lookedAtMs: clock.now(), cancel: new AbortController() };
    this.#jobs.set(id, job);
    void this.#queue(job.cancel.signal, {
      id,
      repair,
      actor,
      onProgress: (progress) => {
        job.view = { ...job.view, ...progress };
        if (clock.now() - job.lookedAtMs > FORGOTTEN_MS) job.cancel.abort();
      },
    })
      .then(
        (report) => (job.view = { ...job.view, report }),
        (error: unknown) => (job.view = { ...job.view, error: reasonOf(error) }),
      )
      .finally(() => {
        clock.after(FORGOTTEN_MS, () => this.#jobs.delete(id));
      });
    return view;
  }

  look(id: string): JobView {
    const job = this.#jobs.get(id);
    if (job === undefined) throw new PossyncError('PS-USAGE', 'the daemon knows no such comparison');
    job.lookedAtMs = this.#options.clock.now();
    return job.view;
  }

  /** HQ asks: the report goes there; HQ hears of progress by the questions themselves. */
  asked({ id, repair, actor }: VerifyFrame): void {
    const { log, clock } = this.#options;
    const signal = this.#stopping.signal;
    void this.#queue(signal, { id, repair, actor: `HQ: ${actor}` })
      .catch(async (error: unknown) => this.#failed(error))
      .then(async (report) => {
        const hq = this.#options.hq();
        if (report === undefined || hq === undefined) return;
        const client = new VerifyHq((step, body, aborted) => hq.verify(step, body, aborted), clock, signal);
        await client.report({ run: { id, done: 0, total: 0 }, store: report });
      })
      .catch((error: unknown) => {
        log.warn('the comparison that HQ asked for has no report', { err: error });
      });
  }

  async #failed(error: unknown): Promise<StoreReport | undefined> {
    const store = await readStoreIdentity(this.#options.pool);
    if (store === undefined) return undefined;
    const { id, code } = store;
    return {
      id,
      code,
      state: 'unknown',
      reason: reasonOf(error),
      tables: [],
      repaired: [],
      findings: [],
      bytes: 0,
      duration_ms: 0,
    };
  }

  #queue(signal: AbortSignal, request: VerifyRequest): Promise<StoreReport> {
    const turn = this.#line.then(() => this.#run(signal, request));
    this.#line = turn.catch(() => undefined); // whoever asked has the error
    return turn;
  }

  async #run(signal: AbortSignal, request: VerifyRequest): Promise<StoreReport> {
    signal.throwIfAborted();
    const { pool, entities, clock, log, pull, push } = this.#options;
    const client = this.#options.hq();
    const store = await readStoreIdentity(pool);
    if (store === undefined) throw new PossyncError('PS-NOT-ENROLLED', 'the store is not enrolled');
    if (client === undefined)
      throw new PossyncError('PS-HQ-UNREACHABLE', 'there is no HQ to compare with now');
    const hq = new VerifyHq((step, body, aborted) => client.verify(step, body, aborted), clock, signal);
    const verifier = new Verifier({ pool, store, entities, hq, clock, signal, pull, push });
    const report = await verifier.run(request);
    const { state, repaired, bytes, duration_ms: durationMs } = report;
    log[state === 'different' || repaired.length > 0 ? 'warn' : 'info']('compared with HQ', {
      event: 'verify',
      state,
      repaired: repaired.length,
      bytes,
      durationMs,
      actor: request.actor,
    });
    return report;
  }
}
