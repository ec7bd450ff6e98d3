/**
 * When the mirror pulls: on a hint, on a new session, when somebody asks, and every half minute whatever happens.
 *
 *   hint, flow ──▶ wanted ──▶ one pull at a time ──▶ wanted meanwhile? pull again
 *   pullNow(fresh) ──▶ waits its turn, then a pull that began after the request
 *
 * A hint may be lost; the poll finds what it announced. Failures wait for the next reason to try: the poll, a hint,
 * or a new connection, whichever comes first. Only an apply that gave way to a program of the store is tried again
 * soon, from what is staged, with HQ or without.
 */
import { backoffDelay } from '../../core/backoff.ts';
import { toPossyncError } from '../../core/classify.ts';
import type { Clock } from '../../core/clock.ts';
import { PossyncError } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import type { Service } from '../../core/service.ts';
import type { FetchPage, Mirror, PullResult } from '../mirror/mirror.ts';
import { retryMsOf, type HqClient } from './hq-client.ts';

export interface PullerOptions {
  readonly mirror: Mirror;
  /** undefined: there is no credential, or HQ refuses it. */
  readonly hq: () => HqClient | undefined;
  readonly clock: Clock;
  readonly log: Log;
  /** A round of HQ is in place. */
  readonly onApplied?: () => void;
  /** A pull ended after so many milliseconds, with an exception = undefined. */
  readonly onPull?: (pulled: PullResult | undefined, ms: number) => void;
  readonly intervalMs?: number;
  /** In [0, 1), for the spread of tries. */
  readonly random?: () => number;
}

export const PULL_INTERVAL_MS = 30_000;
/** A standby that lags catches up in a second or two; each try is one cheap request. */
const BEHIND_MS = 1_000;
const BEHIND_TRIES = 5;
/** Each try may hold rows for two seconds that a till wants: the longer somebody holds his, the rarer it becomes. */
const WAITS_BACKOFF = { baseMs: 1_000, capMs: 15_000 } as const;
const WAITS_LEAST_MS = 200;

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
  /** HQ had no place and said when to return: sooner than the poll. */
  #laterMs: number | undefined;
  /** Applies in a row that gave way; 0 = the last one did not. */
  #gaveWay = 0;

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
    return await this.#inTurn(() => this.#pull(fresh));
  }

  async #inTurn(work: () => Promise<PullResult>): Promise<PullResult> {
    const turn = this.#line.then(work, work).then((result) => {
      this.#noted(result);
      return result;
    });
    this.#line = turn.catch(() => undefined); // the caller has the error
    return await turn;
  }

  #noted(result: PullResult): void {
    if (result.result === 'applied') this.#options.onApplied?.();
    if (result.result === 'failed' && result.error.code === 'PS-APPLY-WAITS') {
      this.#gaveWay += 1;
      this.#wake(); // somebody's pullNow may have met it, while the loop sleeps until its poll
    } else if (result.result !== 'behind' && result.result !== 'stopped') {
      this.#gaveWay = 0;
    }
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { intervalMs = PULL_INTERVAL_MS, random = Math.random } = this.#options;
    while (!signal.aborted) {
      if (this.#gaveWay > 0) {
        await this.#applyLater(signal, random);
        continue;
      }
      this.#wanted = false;
      this.#laterMs = undefined;
      if (this.#options.hq() !== undefined) await this.#routine(this.pullNow());
      // The first tick anywhere in the interval: stores that start together must not poll together.
      if (this.#gaveWay === 0) await this.#nap(this.#pauseMs(intervalMs * (0.5 + random() / 2)), signal);
    }
  }

  /** Hints do not shorten the wait: what they announce cannot be applied either. */
  async #applyLater(signal: AbortSignal, random: () => number): Promise<void> {
    const { clock, mirror } = this.#options;
    await clock.sleep(backoffDelay(this.#gaveWay, { ...WAITS_BACKOFF, random }, WAITS_LEAST_MS), signal);
    if (!signal.aborted) await this.#routine(this.#inTurn(() => this.#timed(() => mirror.applyStaged())));
  }

  #pauseMs(usualMs: number): number {
    return this.#laterMs ?? usualMs;
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

  async #routine(outcome: Promise<PullResult>): Promise<void> {
    const { log } = this.#options;
    try {
      const result = await outcome;
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
    this.#laterMs = retryMsOf(error);
    const level =
      this.#failing === error.code ? 'debug' : error.code === 'PS-APPLY-FAILED' ? 'error' : 'warn';
    this.#failing = error.code;
    this.#options.log[level]('could not pull', { code: error.code, err: error });
  }

  async #pull(fresh: boolean): Promise<PullResult> {
    const hq = this.#options.hq();
    if (hq === undefined) throw new PossyncError('PS-HQ-UNREACHABLE', 'there is no HQ to pull from now');
    const fetch: FetchPage = async (query, signal) => {
      const answer = await hq.pull(query, signal);
      // At every look, with or without news: a line of the day's log only where somebody asked for all of them.
      this.#options.log.debug('page read', { event: 'pull.batch', from: query.from, result: answer.result });
      return answer;
    };
    for (let tries = 1; ; tries += 1) {
      const result = await this.#timed(() =>
        this.#options.mirror.pull(fetch, this.#stopping.signal, { fresh }),
      );
      if (result.result !== 'behind' || tries === BEHIND_TRIES) return result;
      await this.#options.clock.sleep(BEHIND_MS, this.#stopping.signal);
    }
  }

  async #timed(pull: () => Promise<PullResult>): Promise<PullResult> {
    const begun = performance.now();
    let pulled: PullResult | undefined;
    try {
      pulled = await pull();
      return pulled;
    } finally {
      this.#options.onPull?.(pulled, performance.now() - begun);
    }
  }
}
