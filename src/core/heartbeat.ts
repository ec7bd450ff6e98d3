/**
 * Life of a connection, the same at both ends: a ping every beat, any inbound frame counts as life, silence ends it.
 *
 *   frame ──────────── silenceMs ───────────▶ look once more ─▶ silent()
 *     └ each further frame starts the wait again
 *
 * Waiting for pongs alone would cut busy links: a pong queues behind everything else. And after a stall of this very
 * process its timers fire before the frames that have arrived meanwhile are read, so silence gets a short second look.
 */
import type { Clock } from './clock.ts';
import { HEARTBEAT_MS, SILENCE_MS } from '../protocol/http.ts';

export interface HeartbeatOptions {
  readonly clock: Clock;
  /** Sends an application ping with this number. */
  readonly ping: (n: number) => void;
  /** Called once; the connection is dead. */
  readonly silent: () => void;
  readonly beatMs?: number;
  readonly silenceMs?: number;
}

/** Long enough for one turn of the event loop on a loaded machine. */
const SECOND_LOOK_MS = 250;

interface Waiter {
  readonly n: number;
  readonly resolve: (alive: boolean) => void;
}

export class Heartbeat {
  readonly #options: Required<HeartbeatOptions>;
  #n = 0;
  #sentAt = 0;
  #rttMs: number | null = null;
  #waiters: Waiter[] = [];
  #cancelBeat: () => void = () => undefined;
  #cancelSilence: () => void = () => undefined;
  #running = false;

  constructor(options: HeartbeatOptions) {
    this.#options = { beatMs: HEARTBEAT_MS, silenceMs: SILENCE_MS, ...options };
  }

  /** Round trip of the last ping that was answered. */
  get rttMs(): number | null {
    return this.#rttMs;
  }

  start(): void {
    this.#running = true;
    this.#beat();
    this.frame();
  }

  stop(): void {
    this.#running = false;
    this.#cancelBeat();
    this.#cancelSilence();
    for (const { resolve } of this.#waiters) resolve(false);
    this.#waiters = [];
  }

  /** Any frame came in. */
  frame(): void {
    this.#cancelSilence();
    if (!this.#running) return;
    const { clock, silenceMs } = this.#options;
    this.#cancelSilence = clock.after(silenceMs, () => {
      this.#cancelSilence = clock.after(SECOND_LOOK_MS, () => {
        this.stop();
        this.#options.silent();
      });
    });
  }

  /** Its round trip, unrounded, where it answers the last ping; undefined for an older one. */
  pong(n: number): number | undefined {
    const rttMs = n === this.#n ? performance.now() - this.#sentAt : undefined;
    if (rttMs !== undefined) this.#rttMs = Math.round(rttMs);
    const answered = this.#waiters.filter((waiter) => waiter.n <= n);
    this.#waiters = this.#waiters.filter((waiter) => waiter.n > n);
    for (const { resolve } of answered) resolve(true);
    return rttMs;
  }

  /** Asks the other end now: true when it answers a ping within the time, whatever it sent before. */
  async answers(withinMs: number): Promise<boolean> {
    if (!this.#running) return false;
    this.#send();
    const n = this.#n;
    return await new Promise<boolean>((resolve) => {
      const cancel = this.#options.clock.after(withinMs, () => {
        this.#waiters = this.#waiters.filter((waiter) => waiter !== entry);
        resolve(false);
      });
      const entry: Waiter = {
        n,
        resolve: (alive) => {
          cancel();
          resolve(alive);
        },
      };
      this.#waiters.push(entry);
    });
  }

  #beat(): void {
    if (!this.#running) return;
    this.#send();
    this.#cancelBeat = this.#options.clock.after(this.#options.beatMs, () => {
      this.#beat();
    });
  }

  #send(): void {
    this.#n += 1;
    this.#sentAt = performance.now();
    this.#options.ping(this.#n);
  }
}
