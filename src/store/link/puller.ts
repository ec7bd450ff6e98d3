/**
 * When the mirror pulls: on a hint, on a new session, when somebody asks, and every half minute whatever happens.
 *
 *   hint, flow ──▶ wanted ──▶ one pull at a time ──▶ wanted meanwhile? pull again
 *   pullNow(fresh) ──▶ waits its turn, then a pull that began after the request
 *
 * A hint may be lost; the poll finds what it announced. Failures wait for the next reason to try: the poll, a hint,
 * or a new connection, whichever comes first.
 */
import { toPossyncError } from '../../core/classify.ts';
import type { Clock } from '../../core/clock.ts';
import { PossyncError } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import type { Service } from '../../core/service.ts';
import type { FetchPage, Mirror, PullResult } from '../mirror/mirror.ts';
import type { HqClient } from './hq-client.ts';

export interface PullerOptions {
  readonly mirror: Mirror;
  /** undefined: there is no credential, or HQ refuses it. */
  readonly hq: () => HqClient | undefined;
  readonly clock: Clock;
  readonly log: Log;
  /** A round of HQ is in place. */
  readonly onApplied?: () => void;
  readonly intervalMs?: number;
}

export const PULL_INTERVAL_MS = 30_000;
/** A standby that lags catches up in a second or two; each try is one cheap request. */
const BEHIND_MS = 1_000;
const BEHIND_TRIES = 5;

export class Puller implements Service {
  readonly name = 'puller';
  readonly #options: PullerOptions;
  #stopping = new AbortController();
  #wake: () => void = () => undefined;
  #wanted = false;
  #running: Promise<void> | undefined;
  /** Pulls wait for each other in this line. */
  #line: Promise<unknown> = Promise.resolve();
  #failing: string | undefined;

  constructor(options: PullerOptions) {
    this.#options = options;
  }

  start(): void {
    this.#stopping = new AbortController();
    this.#running ??= this.#run(this.#stopping.signal);
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#wake();
    await this.#running;
    await this.#line.catch(() => undefined); // whoever asked for it hears of its failure
    this.#running = undefined;
  }

  /** There may be something: pull soon. */
  hint(): void {
    this.#wanted = true;
    this.#wake();
  }

  /** Pulls now; `fresh` makes HQ seal first, so that what was committed there before this call is here afterwards. */
  async pullNow({ fresh = false } = {}): Promise<PullResult> {
    const turn = this.#line.then(
      () => this.#pull(fresh),
      () => this.#pull(fresh),
    );
    this.#line = turn.catch(() => undefined); // the caller has the error
    return await turn;
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { intervalMs = PULL_INTERVAL_MS } = this.#options;
    while (!signal.aborted) {
      this.#wanted = false;
      if (this.#options.hq() !== undefined) await this.#routine();
      // The first tick anywhere in the interval: stores that start together must not poll together.
      await this.#nap(intervalMs * (0.5 + Math.random() / 2), signal);
    }
  }

  /** Until a hint or the end; not at all if a hint came meanwhile. */
  async #nap(ms: number, signal: AbortSignal): Promise<void> {
    if (this.#wanted || signal.aborted) return;
    const waking = new AbortController();
    this.#wake = () => {
      waking.abort();
    };
    await this.#options.clock.sleep(ms, waking.signal);
  }

  async #routine(): Promise<void> {
    const { log } = this.#options;
    try {
      const result = await this.pullNow();
      if (result.result === 'failed') this.#failed(result.error);
      else this.#failing = undefined;
      if (result.result === 'applied')
        log.info('changes of HQ applied', {
          event: 'pull.applied',
          pos: result.pos,
          records: result.records,
        });
    } catch (error) {
      this.#failed(toPossyncError(error));
    }
  }

  /** The same trouble is one line, not one every half minute. */
  #failed(error: PossyncError): void {
    const level =
      this.#failing === error.code ? 'debug' : error.code === 'PS-APPLY-FAILED' ? 'error' : 'warn';
    this.#failing = error.code;
    this.#options.log[level]('could not pull', { code: error.code, err: error });
  }

  async #pull(fresh: boolean): Promise<PullResult> {
    const hq = this.#options.hq();
    if (hq === undefined) throw new PossyncError('PS-HQ-UNREACHABLE', 'there is no HQ to pull from now');
    const fetch: FetchPage = (query, signal) => hq.pull(query, signal);
    for (let tries = 1; ; tries += 1) {
      const result = await this.#options.mirror.pull(fetch, this.#stopping.signal, { fresh });
      if (result.result === 'applied') this.#options.onApplied?.();
      if (result.result !== 'behind' || tries === BEHIND_TRIES) return result;
      await this.#options.clock.sleep(BEHIND_MS, this.#stopping.signal);
    }
  }
}
