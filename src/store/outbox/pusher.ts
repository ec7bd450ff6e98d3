/**
 * Sends the outbox to HQ: every 60 seconds, and at once when something of high priority was captured. Either way it
 * sends everything up to the end of the queue, oldest first: nothing overtakes.
 *
 *           ┌──────── tick · LISTEN possync_outbox · 1 s look · wake() ────────┐
 *           ▼                                                                  │
 *   seal ─▶ batch ─▶ send ─▶ 200: chains equal? acknowledge, next batch ─▶ queue empty: wait
 *                     │
 *                     ├─▶ 409: continue where HQ stands, say hello again, or halt
 *                     └─▶ refused or unreachable: wait (full jitter), the same batch again
 *
 * While HQ applies one batch the next ones are read and sent: HQ takes them in the order they come, and answers one whose
 * place is not there yet with a gap, so nothing depends on their order but speed. The notification is a hint; the look
 * every second finds what a lost listener missed.
 */
import type pg from 'pg';
import { backoffDelay } from '../../core/backoff.ts';
import { toPossyncError } from '../../core/classify.ts';
import type { Clock } from '../../core/clock.ts';
import type { PossyncError } from '../../core/errors.ts';
import { Loop } from '../../core/loop.ts';
import type { Service } from '../../core/service.ts';
import { connect } from '../../db/pool.ts';
import type { Push, PushAnswer, PushConflict } from '../../protocol/messages.ts';
import type { Batch, Halt, Outbox } from './outbox.ts';
import type { Position } from './position.ts';

export type SendResult =
  | { readonly result: 'ok'; readonly answer: PushAnswer }
  | { readonly result: 'conflict'; readonly conflict: PushConflict }
  /** HQ asks to come back later (429, 503). */
  | { readonly result: 'later'; readonly afterMs: number; readonly error?: PossyncError };

/** What the link knows of the present session. */
export interface PushSession {
  readonly fence: string;
}

export interface PusherOptions {
  readonly outbox: Outbox;
  readonly clock: Clock;
  /** Sends one batch; throws what it cannot. */
  readonly send: (push: Push, signal: AbortSignal) => Promise<SendResult>;
  /** undefined: no session now; entries wait, sealing goes on. */
  readonly session: () => PushSession | undefined;
  /** The session was replaced: say hello again. */
  readonly onFenced?: () => void;
  readonly onPushed?: (batch: {
    readonly first: number;
    readonly last: number;
    readonly epoch: number;
  }) => void;
  readonly onHalted?: (halt: Halt) => void;
  readonly onError?: (error: PossyncError, delayMs: number) => void;
  /** A round begins: what was committed before this goes with it. */
  readonly onBegin?: () => void;
  /** Each completed round, empty ones too: an idle store's empty round counts as a sync. */
  readonly onRound?: (sent: number) => void;
  /** For LISTEN, on a connection of its own; without it only the look every second. */
  readonly listenUrl?: string;
  readonly listen?: boolean;
  readonly intervalMs?: number;
  readonly lookMs?: number;
  readonly random?: () => number;
}

const INTERVAL_MS = 60_000;
const LOOK_MS = 1_000;
/** Batches on their way at once: one is applied, one waits at HQ, one is read and packed. */
const WINDOW = 3;
/** Smaller batches are the end of the queue: another look would find nothing behind them. */
const WORTH_A_WINDOW = 100;
/** A batch that failed: soon again, in the end once a minute, which is what the tick would do. */
const BACKOFF = { baseMs: 1_000, capMs: 60_000 };

export class Pusher implements Service {
  readonly name = 'pusher';
  readonly #options: PusherOptions;
  readonly #random: () => number;
  readonly #loop = new Loop((signal) => this.#run(signal));
  #listener: pg.Client | undefined;
  #woken: (() => void) | undefined;
  #wanted = false;
  #failures = 0;

  constructor(options: PusherOptions) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
  }

  start(): void {
    this.#loop.start();
  }

  /** Ends after the batch in hand: its answer is worth having. */
  async stop(): Promise<void> {
    const ended = this.#loop.stop();
    this.#woken?.();
    await ended;
    await this.#dropListener();
  }

  /** Push now: a session began, or somebody asked. Forgets the backoff. */
  wake(): void {
    this.#failures = 0;
    this.#wanted = true;
    this.#woken?.();
  }

  /** Seals and sends until the queue is empty, the session ends or sending halts; how many entries were acknowledged. */
  async flush(signal: AbortSignal = new AbortController().signal): Promise<number> {
    const { outbox, session } = this.#options;
    let sent = 0;
    let window: OnItsWay[] = [];
    let width = WINDOW;
    await outbox.seal();
    try {
      while (!signal.aborted) {
        window = await this.#fill(window, width, signal);
        const [head, ...rest] = window;
        if (head === undefined) {
          // What was committed while the last batch was on its way goes with this round as well.
          if (session() === undefined || (await outbox.seal()) === 0) break;
          continue;
        }
        await outbox.noteSending(head.batch, (rest.at(-1) ?? head).batch);
        const delivered = await this.#deliver(head, await head.result());
        if (delivered === 'stop') break;
        if (delivered === 'elsewhere') {
          // HQ stands elsewhere: what is on its way behind it has no place, and one at a time needs no order.
          await answered(rest);
          window = [];
          width = 1;
          continue;
        }
        window = rest;
        sent += head.batch.txs.length;
      }
      return sent;
    } finally {
      // A round that begins while batches of this one arrive would send them twice.
      await answered(window);
    }
  }

  /** Sends batches, each behind the one before, until the window is full or the queue is empty. */
  async #fill(window: readonly OnItsWay[], width: number, signal: AbortSignal): Promise<OnItsWay[]> {
    const { outbox, session, send } = this.#options;
    const filled = [...window];
    while (filled.length < width && !signal.aborted) {
      const held = session();
      const before = filled.at(-1);
      if (held === undefined || (before !== undefined && before.fence !== held.fence)) break;
      // One that was not full was the end of the queue.
      if (before !== undefined && before.batch.txs.length < WORTH_A_WINDOW) break;
      const batch = await outbox.nextBatch({}, before === undefined ? undefined : endOf(before.batch));
      if (batch === undefined) break;
      const sending = send({ ...batch, fence: held.fence }, signal).then(
        (result) => () => result,
        (error: unknown) => () => {
          throw error;
        },
      );
      filled.push({
        batch,
        fence: held.fence,
        behind: before !== undefined,
        result: async () => (await sending)(),
      });
    }
    return filled;
  }

  async #deliver({ batch, behind }: OnItsWay, result: SendResult): Promise<'next' | 'elsewhere' | 'stop'> {
    const { outbox, onFenced, onHalted, onPushed } = this.#options;
    switch (result.result) {
      case 'later':
        throw new Later(result.afterMs, result.error);
      case 'ok': {
        const settled = await outbox.acknowledge(batch, result.answer);
        if (settled.result === 'halted') {
          onHalted?.(settled);
          return 'stop';
        }
        this.#failures = 0;
        onPushed?.({ epoch: batch.epoch, first: batch.first, last: result.answer.seq });
        return 'next';
      }
      case 'conflict': {
        // It came before the one it follows. Where HQ stood then is older than what it has acknowledged since.
        if (behind && result.conflict.code !== 'fenced') return 'elsewhere';
        const settled = await outbox.conflicted(result.conflict);
        if (settled.result === 'hello') onFenced?.();
        if (settled.result === 'halted') onHalted?.(settled);
        return settled.result === 'agreed' ? 'elsewhere' : 'stop';
      }
    }
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { clock, intervalMs = INTERVAL_MS } = this.#options;
    // Random within its period: a chain that gets its power back does not push in step.
    let dueAt = clock.now() + Math.floor(this.#random() * intervalMs);
    while (!signal.aborted) {
      await this.#listen();
      // A clock that was set back by a day must not put the tick off by a day.
      dueAt = Math.min(dueAt, clock.now() + intervalMs);
      const wanted = this.#wanted || clock.now() >= dueAt || (await this.#urgent());
      if (!wanted) {
        await this.#pause(signal, Math.max(0, dueAt - clock.now()));
        continue;
      }
      this.#wanted = false;
      dueAt = clock.now() + intervalMs;
      const delayMs = await this.#round(signal);
      // After a failure the urgent look must not turn into a loop without pause.
      if (delayMs > 0) await this.#pause(signal, delayMs, delayMs);
    }
  }

  /** One round; how long to wait before the next one may be tried. */
  async #round(signal: AbortSignal): Promise<number> {
    const { outbox, onBegin, onError, onRound } = this.#options;
    onBegin?.();
    try {
      const sent = await this.flush(signal);
      onRound?.(sent);
      // Without a session, or halted, nothing moves: look again at leisure.
      return (await outbox.nextBatch({ transactions: 1 })) === undefined
        ? 0
        : (this.#options.lookMs ?? LOOK_MS);
    } catch (error) {
      this.#failures += 1;
      const floor = error instanceof Later ? error.afterMs : 0;
      const cause = toPossyncError(error instanceof Later ? (error.error ?? error) : error);
      const delayMs = backoffDelay(this.#failures, { ...BACKOFF, random: this.#random }, floor);
      // The database itself may be what fails: then there is nowhere to write it down.
      await outbox.noteFailure(cause.code, cause.message, delayMs).catch(() => undefined);
      onError?.(cause, delayMs);
      return delayMs;
    }
  }

  async #urgent(): Promise<boolean> {
    try {
      return (
        this.#options.session() !== undefined &&
        (await this.#options.outbox.hasUrgent()) &&
        (await this.#options.outbox.halted()) === undefined
      );
    } catch {
      return false; // the tick's round reports what is wrong with the database
    }
  }

  /** Until something happens, but no longer than `ms`; in steps of the look unless `step` is given. */
  async #pause(signal: AbortSignal, ms: number, step = this.#options.lookMs ?? LOOK_MS): Promise<void> {
    if (signal.aborted || this.#wanted) return;
    const waking = new AbortController();
    this.#woken = () => {
      waking.abort();
    };
    await this.#options.clock.sleep(Math.min(ms, step), waking.signal);
    this.#woken = undefined;
  }

  async #listen(): Promise<void> {
    const { listenUrl, listen = listenUrl !== undefined } = this.#options;
    if (!listen || this.#listener !== undefined) return;
    try {
      const client = await connect({ url: listenUrl, applicationName: 'possync store (listen)', max: 1 });
      client.on('notification', () => {
        this.#wanted = true;
        this.#woken?.();
      });
      client.on('end', () => {
        if (this.#listener === client) this.#listener = undefined;
      });
      await client.query('listen possync_outbox');
      this.#listener = client;
    } catch {
      // The look every second does without; the next turn tries again.
    }
  }

  async #dropListener(): Promise<void> {
    const client = this.#listener;
    this.#listener = undefined;
    await client?.end().catch(() => undefined);
  }
}

interface OnItsWay {
  readonly batch: Batch;
  readonly fence: string;
  /** It was sent while the one before was not answered yet. */
  readonly behind: boolean;
  /** Its answer; throws what sending threw. Never an unhandled rejection, however late it is asked. */
  readonly result: () => Promise<SendResult>;
}

function endOf({ epoch, first, txs, lastChain }: Batch): Position {
  return { epoch, seq: first + txs.length - 1, chain: lastChain };
}

/** Waits for the answers of batches that nobody needs any more. */
async function answered(batches: readonly OnItsWay[]): Promise<void> {
  await Promise.allSettled(batches.map(({ result }) => result()));
}

class Later extends Error {
  readonly afterMs: number;
  readonly error: PossyncError | undefined;
  constructor(afterMs: number, error: PossyncError | undefined) {
    super('HQ asks to come back later');
    this.afterMs = afterMs;
    this.error = error;
  }
}
