/**
 * Keeps possync.live_links as the sockets of this process are.
 *
 *   welcomed, ended, answer to an ask ──▶ its row, at once; what changes while a statement runs shares the next one
 *   a routine report                  ──▶ its row, with the next beat
 *   nothing                           ──▶ each beat touches the row: alive, last frame, round trip
 *
 * A beat that wrote every row whole made a fleet that comes back cost the square of its size. A row that a touch does
 * not find (HQ was restored, a statement failed) is written whole with the next one.
 */
import type pg from 'pg';
import type { Clock } from '../../core/clock.ts';
import type { Log } from '../../core/log.ts';
import { Repeated } from '../../core/repeated.ts';
import type { Service } from '../../core/service.ts';
import { LINK_FRESH_MS, touchLinks, writeLinks, type LinkRow } from './live.ts';
import type { StoreSocket } from './socket.ts';

export interface LinkBookOptions {
  readonly pool: pg.Pool;
  readonly clock: Clock;
  readonly log: Log;
  /** The process that writes. */
  readonly server: string;
  /** The sockets that are connected now, one per store. */
  readonly connected: ReadonlyMap<number, StoreSocket>;
}

/** Rows older than LINK_FRESH_MS are red; half of that keeps one lost write harmless. */
const BEAT_MS = LINK_FRESH_MS / 2;
/** Between two writes, while changes come one after the other. */
const GATHER_MS = 50;
/** Of one statement: JSON of a thousand rows is made in a few milliseconds, during which nobody else is served. */
const ROWS = 1_000;

export class LinkBook implements Service {
  readonly name = 'live connections';
  readonly #options: LinkBookOptions;
  readonly #beats: Repeated;
  #changed = new Set<StoreSocket>();
  /** Rows of ended connections, until they are written. */
  #ended: LinkRow[] = [];
  #writing: Promise<void> | undefined;
  #again = false;

  constructor(options: LinkBookOptions) {
    this.#options = options;
    this.#beats = new Repeated({
      name: this.name,
      clock: options.clock,
      everyMs: BEAT_MS,
      work: () => this.#beat(),
    });
  }

  start(): void {
    this.#beats.start();
  }

  /** Call it when the sockets are closed: their ends are written before this resolves. */
  async stop(): Promise<void> {
    this.#beats.stop();
    // The statement that runs now began before the last ends were told.
    while (this.#writing !== undefined) await this.#writing;
    await this.#write();
  }

  /** The row of this socket is written: at once where somebody waits for it, else with the next beat. */
  changed(socket: StoreSocket, when: 'now' | 'beat'): void {
    this.#changed.add(socket);
    if (when === 'now') this.#soon();
  }

  ended(socket: StoreSocket): void {
    const row = socket.row(this.#options.server);
    if (row !== undefined) this.#ended.push(row);
    this.#soon();
  }

  #soon(): void {
    if (this.#writing !== undefined) this.#again = true;
    else void this.#write();
  }

  async #write(): Promise<void> {
    if (this.#writing !== undefined) {
      await this.#writing;
      return;
    }
    this.#writing = this.#writeOnce();
    await this.#writing;
    this.#writing = undefined;
    if (!this.#again) return;
    this.#again = false;
    await this.#options.clock.sleep(GATHER_MS);
    await this.#write();
  }

  async #writeOnce(): Promise<void> {
    const { pool, server, connected, log } = this.#options;
    const changed = [...this.#changed].filter((socket) => connected.get(socket.storeId) === socket);
    // A store that came back has a live row already: one row per store in a statement.
    const gone = new Map(
      this.#ended.filter(({ storeId }) => !connected.has(storeId)).map((row) => [row.storeId, row]),
    );
    this.#changed = new Set();
    this.#ended = [];
    const rows = [...changed.flatMap((socket) => socket.row(server) ?? []), ...gone.values()];
    try {
      for (let at = 0; at < rows.length; at += ROWS) await writeLinks(pool, rows.slice(at, at + ROWS));
    } catch (error) {
      for (const socket of changed) this.#changed.add(socket);
      this.#ended.unshift(...gone.values());
      log.debug('could not write the live connections', { err: error });
    }
  }

  async #beat(): Promise<void> {
    const { pool, server, connected, log } = this.#options;
    const quiet = [...connected.values()].filter((socket) => !this.#changed.has(socket));
    await this.#write();
    try {
      for (let at = 0; at < quiet.length; at += ROWS) {
        const rows = quiet.slice(at, at + ROWS).flatMap((socket) => socket.row(server) ?? []);
        for (const storeId of await touchLinks(pool, rows)) {
          const socket = connected.get(storeId);
          if (socket !== undefined) this.#changed.add(socket);
        }
      }
      if (this.#changed.size > 0) this.#soon();
    } catch (error) {
      log.debug('could not touch the live connections', { err: error });
    }
  }
}
