/**
 * Stores on their way in, from the upgrade to the answer to hello: no more at a time than get theirs in time.
 *
 *   upgrade ─┬ room ─▶ authenticate ─ socket ─ hello ─ welcome ─▶ leaves: that is how fast stores come in here
 *            └ none ─▶ 429 with a time of its own, one store after the other at that pace
 *
 * A store gives an attempt up after five seconds. Of a chain that comes back within a second HQ would begin thousands and
 * finish few in time; the others had cost the same and would try again. Told a time of their own, they find room then.
 */
import type { Clock } from '../core/clock.ts';
import { busyFor, RETRY_LEAST_MS } from './gate.ts';

/** Whoever comes at the time that it was given finds room, up to so many times as much: it is not sent away twice. */
const PROMISED_ROOM = 4;
/** Stores that were given a time: whoever invents credentials is soon forgotten again. */
const PROMISES = 20_000;
/** Two clocks and two timers are not the same to the millisecond. */
const EARLY_MS = 250;
/** It may need more than one attempt. */
const PROMISED_MS = 120_000;
/** A fifth of a second of a quick machine's work, a second or two of a busy one's. */
const ROOM = 256;
/** The store has given up by then, or says no hello at all: it must not keep others out. */
const STAY_MS = 5_000;
/** Stores a second, until it is known; and what a pause of the machine must not bring it below. */
const PACE_AT_FIRST = 250;
const PACE_LEAST = 50;
/** How much the newest second counts. */
const NEWEST = 0.5;
const SECOND_MS = 1_000;
/** Stores stay away for a minute at most, whatever they are told. */
const AWAY_MAX_MS = 55_000;

export class Arrivals {
  readonly #clock: Clock;
  readonly #room: number;
  #inside = 0;
  #pace = PACE_AT_FIRST;
  /** Of the second that is being counted. */
  #since = -Infinity;
  #left = 0;
  #wasFull = false;
  /** The last time that was given away. */
  #givenMs = 0;
  /** By credential, which nobody has checked yet: from when on. */
  readonly #promised = new Map<string, number>();

  constructor(clock: Clock, room = ROOM) {
    this.#clock = clock;
    this.#room = room;
  }

  get inside(): number {
    return this.#inside;
  }

  /** Returns what is to be called when the store has its answer or is gone; throws PS-HQ-BUSY. */
  enter(credential: string): () => void {
    const nowMs = this.#clock.now();
    this.#measure(nowMs);
    const room = this.#keeps(credential, nowMs) ? this.#room * PROMISED_ROOM : this.#room;
    if (this.#inside >= room) {
      this.#wasFull = true;
      throw busyFor(this.#promise(credential, nowMs));
    }
    this.#inside += 1;
    let gone = false;
    const leave = (): void => {
      if (gone) return;
      gone = true;
      cancel();
      this.#inside -= 1;
      this.#left += 1;
    };
    const cancel = this.#clock.after(STAY_MS, leave);
    return leave;
  }

  /** Only while more came than could be let in is it the pace of this machine, and not that of the stores. */
  #measure(nowMs: number): void {
    const passedMs = nowMs - this.#since;
    if (passedMs >= 0 && passedMs < SECOND_MS) return;
    if (this.#wasFull && passedMs < 2 * SECOND_MS && passedMs > 0) {
      const measured = (this.#left / passedMs) * SECOND_MS;
      this.#pace = Math.max(PACE_LEAST, this.#pace * (1 - NEWEST) + measured * NEWEST);
    }
    this.#since = nowMs;
    this.#left = 0;
    this.#wasFull = this.#inside >= this.#room;
  }

  #keeps(credential: string, nowMs: number): boolean {
    const fromMs = this.#promised.get(credential);
    return fromMs !== undefined && nowMs >= fromMs - EARLY_MS && nowMs <= fromMs + PROMISED_MS;
  }

  #promise(credential: string, nowMs: number): number {
    const earliest = nowMs + RETRY_LEAST_MS;
    // The clock of the machine may have been set back.
    const last = this.#givenMs > nowMs + 2 * AWAY_MAX_MS ? earliest : this.#givenMs;
    this.#givenMs = Math.max(earliest, last + SECOND_MS / this.#pace);
    const awayMs = Math.round(Math.min(AWAY_MAX_MS, this.#givenMs - nowMs));
    this.#promised.delete(credential);
    this.#promised.set(credential, nowMs + awayMs);
    const [oldest] = this.#promised.keys();
    if (this.#promised.size > PROMISES && oldest !== undefined) this.#promised.delete(oldest);
    return awayMs;
  }
}
