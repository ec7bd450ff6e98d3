/** A block of text that is redrawn in place on a real terminal; elsewhere it is written now and then, whole. */
import type { Clock } from '../../core/clock.ts';
import { CURSOR } from './clean.ts';
import type { OutputStream, Term } from './term.ts';

/** In a pipe or a log, a block every few seconds is enough to see that things move. */
const PLAIN_EVERY_MS = 5_000;

export class Live {
  readonly #term: Term;
  readonly #stderr: OutputStream;
  readonly #clock: Clock;
  #lines = 0;
  #lastPlainAt = -Infinity;

  constructor(term: Term, stderr: OutputStream, clock: Clock) {
    this.#term = term;
    this.#stderr = stderr;
    this.#clock = clock;
  }

  /** `block` ends with a newline and has no line wider than the terminal; the last one is always written. */
  draw(block: string, last = false): void {
    if (this.#term.json) return;
    if (this.#term.animated) {
      // Up to the first line of the last block, then clear to the end of the screen.
      const up = this.#lines > 0 ? CURSOR.up(this.#lines) : '';
      this.#stderr.write(up + block);
      this.#lines = block.split('\n').length - 1;
      return;
    }
    const now = this.#clock.now();
    if (!last && now - this.#lastPlainAt < PLAIN_EVERY_MS) return;
    this.#lastPlainAt = now;
    this.#stderr.write(block);
  }

  /** A line that stays, above the next block. */
  say(text: string): void {
    if (this.#term.json) return;
    this.#lines = 0;
    this.#stderr.write(`${text}\n`);
  }
}
