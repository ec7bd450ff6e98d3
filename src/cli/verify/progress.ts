/** How far a long comparison is, on stderr: a line that changes on a terminal, one plain line elsewhere. */
import type { Context } from '../context.ts';
import { formatCount, formatDuration } from '../../core/quantities.ts';
import { startProgress, type Progress } from '../render/spinner.ts';

/** Before that much is done an estimate would be a guess. */
const ESTIMATE_FROM = 0.02;
const ESTIMATE_AFTER_MS = 2_000;

export class VerifyProgress {
  readonly #context: Context;
  readonly #label: string;
  readonly #startedMs: number;
  #shown: Promise<Progress> | undefined;

  constructor(context: Context, label: string) {
    this.#context = context;
    this.#label = label;
    this.#startedMs = context.clock.now();
  }

  async show(done: number | null, total: number | null, what: string): Promise<void> {
    const { term, stderr, clock } = this.#context;
    const text = `${this.#label}: ${this.#words(done, total, what)}`;
    this.#shown ??= startProgress(term, stderr, clock, text);
    (await this.#shown).update(text);
  }

  async stop(): Promise<void> {
    (await this.#shown)?.stop();
  }

  #words(done: number | null, total: number | null, what: string): string {
    if (done === null || total === null || total === 0) return what;
    const share = Math.min(1, done / total);
    const spentMs = this.#context.clock.now() - this.#startedMs;
    const known = share >= ESTIMATE_FROM && spentMs >= ESTIMATE_AFTER_MS;
    const left = known ? `, about ${formatDuration((spentMs * (1 - share)) / share)} left` : '';
    return `${what}, ${formatCount(done)} of about ${formatCount(total)} rows (${Math.floor(share * 100)} %)${left}`;
  }
}
