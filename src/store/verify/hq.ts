/** HQ as a comparison sees it: questions and parsed answers, the bytes they cost, and patience while HQ is busy. */
import * as z from 'zod';
import type { Clock } from '../../core/clock.ts';
import { PossyncError } from '../../core/errors.ts';
import {
  digestsAnswerSchema,
  repairAnswerSchema,
  rowsAnswerSchema,
  verifyBeginAnswerSchema,
  type DigestsAnswer,
  type DigestsQuestion,
  type Finding,
  type Repair,
  type RepairAnswer,
  type Report,
  type RowsAnswer,
  type RowsQuestion,
  type VerifyRun,
} from '../../protocol/verify.ts';
import { retryMsOf } from '../link/hq-client.ts';

/** The one call this needs of HqClient. */
export type AskHq = (
  step: string,
  body: object,
  signal: AbortSignal,
) => Promise<{ readonly text: string; readonly bytes: number }>;

/** HQ lets two compare at once; a fleet that is compared in turn waits a minute for its turn at most. */
const BUSY_TRIES = 20;
const BUSY_MS = 2_000;

export class VerifyHq {
  readonly #ask: AskHq;
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  #bytes = 0;

  constructor(ask: AskHq, clock: Clock, signal: AbortSignal) {
    this.#ask = ask;
    this.#clock = clock;
    this.#signal = signal;
  }

  /** Bodies in both directions, as they went over the wire. */
  get bytes(): number {
    return this.#bytes;
  }

  async begin(run: VerifyRun): Promise<readonly Finding[]> {
    return parsed(verifyBeginAnswerSchema, await this.#post('begin', { run })).findings;
  }

  async digests(question: DigestsQuestion): Promise<DigestsAnswer> {
    return parsed(digestsAnswerSchema, await this.#post('digests', question));
  }

  async rows(question: RowsQuestion): Promise<RowsAnswer> {
    return parsed(rowsAnswerSchema, await this.#post('rows', question));
  }

  /** With the text as it came: documents go to PostgreSQL unparsed, numbers would lose digits. */
  async repair(repair: Repair): Promise<RepairAnswer & { readonly text: string }> {
    const text = await this.#post('repair', repair);
    return { ...parsed(repairAnswerSchema, text), text };
  }

  async report(report: Report): Promise<void> {
    await this.#post('report', report);
  }

  async #post(step: string, body: object): Promise<string> {
    for (let tries = 1; ; tries += 1) {
      try {
        const { text, bytes } = await this.#ask(step, body, this.#signal);
        this.#bytes += bytes;
        return text;
      } catch (error) {
        const busy = error instanceof PossyncError && error.code === 'PS-HQ-BUSY';
        if (!busy || tries === BUSY_TRIES || this.#signal.aborted) throw error;
        await this.#clock.sleep(retryMsOf(error) ?? BUSY_MS, this.#signal);
      }
    }
  }
}

function parsed<T>(schema: z.ZodType<T>, text: string): T {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = undefined; // the schema refuses it with a better message
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new PossyncError('PS-PROTOCOL', 'the answer of HQ breaks the protocol', {
    why: z.prettifyError(result.error).slice(0, 500),
  });
}
