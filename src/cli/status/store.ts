/**
 * `possync status` in a store: the daemon's word, else what it left in the database.
 *
 * The database and everything that reads it are loaded only where they are needed: a daemon that answers for the same
 * database is enough, and a technician waits for a quarter of the time.
 */
import type pg from 'pg';
import { ERRORS, isErrorCode, PossyncError } from '../../core/errors.ts';
import { databaseFingerprint } from '../../db/address.ts';
import { readPage } from '../../protocol/page.ts';
import type { StoreStatusView } from '../../protocol/status.ts';
import type { HqClient } from '../../store/link/hq-client.ts';
import type { Context } from '../context.ts';
import { renderStoreShort, renderStoreStatus } from '../render/status-store.ts';
import type { Paint } from '../render/term.ts';
import { askDaemon, askStatus, lightOfDaemon, socketPath } from '../daemon-socket.ts';
import { storeView } from '../schemas/status.ts';
import type { Side, WaitFor } from './side.ts';

/** What the daemon told, and whether it read the database that this command is about. */
interface Told {
  readonly view: StoreStatusView;
  readonly ours: boolean;
}

export class StoreSide implements Side<StoreStatusView> {
  readonly #context: Context;
  /** Resolves with undefined where the database is away: then only the daemon can tell. */
  readonly #database: () => Promise<pg.Pool | undefined>;
  readonly #socket: string;
  readonly #fingerprint: string | undefined;
  /** What it was asked before anything was shown: the next read has it. */
  #first: Promise<Told | undefined> | undefined;
  #client: HqClient | undefined;

  constructor(context: Context, database: () => Promise<pg.Pool | undefined>) {
    this.#context = context;
    this.#database = database;
    this.#socket = socketPath(context.config.stateDir, context.env);
    this.#fingerprint = databaseFingerprint(context.config.databaseUrl);
  }

  /** Whether the daemon answers, and for the database of this command: then nobody need look what that database is. */
  async isTold(): Promise<boolean> {
    this.#first = this.#fromDaemon();
    return (await this.#first)?.ours === true;
  }

  async read(): Promise<StoreStatusView> {
    const told = await (this.#first ?? this.#fromDaemon());
    this.#first = undefined;
    if (told?.ours === true) return told.view;
    const pool = await this.#database();
    if (pool === undefined) {
      if (told !== undefined) return told.view;
      throw new PossyncError('PS-DB-DOWN', 'neither the daemon nor PostgreSQL answers');
    }
    const { readStoreStatus } = await import('../../store/status.ts');
    const stateDir = this.#context.config.stateDir;
    const own = await readStoreStatus(pool, { stateDir, source: 'database' });
    if (told === undefined) return await this.#withLiveLight(own);
    // A socket in ./state may belong to another store than DATABASE_URL.
    return told.view.store?.id === own.store?.id ? told.view : own;
  }

  /** A daemon that cannot reach its database, or that was killed, does not write its light: the row there says what was. */
  async #withLiveLight(own: StoreStatusView): Promise<StoreStatusView> {
    const light = await lightOfDaemon(this.#socket);
    if (light?.indicator !== 'red' || own.connection.indicator === 'red') return own;
    const code = light.code !== null && isErrorCode(light.code) ? light.code : 'PS-HQ-UNREACHABLE';
    const dead = code === 'PS-DAEMON-DOWN';
    const message = dead ? 'daemon not running' : 'the daemon says so';
    const reason = { code, message, hint: ERRORS[code].hint };
    const daemon = dead ? { ...own.daemon, running: false, pid: null } : own.daemon;
    return {
      ...own,
      daemon,
      connection: { ...own.connection, indicator: 'red', state: 'disconnected', reason, diagnosed_at: null },
    };
  }

  /** A daemon of a version that says less is asked no further: its database says the same in our words. */
  async #fromDaemon(): Promise<Told | undefined> {
    const answer = await askStatus(this.#socket);
    // One document in the life of this process: compiling a reader for it takes longer than reading it.
    const { data: view } = storeView.safeParse(answer?.document, { jitless: true });
    if (answer === undefined || view === undefined) return undefined;
    const ours = this.#fingerprint !== undefined && answer.database === this.#fingerprint;
    return { view, ours };
  }

  isGreen(view: StoreStatusView): boolean {
    return view.connection.indicator === 'green';
  }

  shown(view: StoreStatusView): StoreStatusView {
    return view;
  }

  render(paint: Paint, view: StoreStatusView): string {
    return renderStoreStatus(paint, view, this.#context.clock.now());
  }

  short(paint: Paint, view: StoreStatusView): string {
    return renderStoreShort(paint, view);
  }

  async waitFor(what: WaitFor): Promise<() => Promise<boolean>> {
    if (what === 'green') return async () => this.isGreen(await this.read());
    const pool = await this.#database();
    if (pool === undefined) throw new PossyncError('PS-DB-DOWN', `PostgreSQL is needed for --wait ${what}`);
    if (what === 'drained') {
      const { countQueue } = await import('../../store/outbox/queue.ts');
      return async () => (await countQueue(pool)).queued === 0;
    }
    const { readMirrorState } = await import('../../store/mirror/cursor.ts');
    const before = await readMirrorState(pool);
    let target: { head: number; again: boolean } | undefined;
    return async () => {
      target ??= await this.#freshHead(before.pos, before.nonce);
      if (target === undefined) return false;
      const { pos, nonce } = await readMirrorState(pool);
      // After a resync positions are of another history: only a new nonce says that ours is of this one.
      if (pos >= target.head && (!target.again || nonce !== before.nonce)) return true;
      await askDaemon(this.#socket, 'POST', '/api/v1/pull?fresh=1');
      return false;
    };
  }

  /** The head after HQ has sealed for us; undefined while HQ does not answer. */
  async #freshHead(pos: number, nonce: string | null): Promise<{ head: number; again: boolean } | undefined> {
    try {
      const { connectToHq } = await import('../hq-connection.ts');
      const client = (this.#client ??= (await connectToHq(this.#context)).client);
      const cursor = nonce === null ? {} : { cursor: `${pos},${nonce}` };
      const answer = await client.pull({ from: pos, limit: 1, fresh: '1', ...cursor }, this.#context.signal);
      if (answer.result === 'page') return { head: headOf(answer.body, pos), again: false };
      if (answer.result === 'behind') return undefined;
      const whole = await client.pull({ from: 0, limit: 1, fresh: '1' }, this.#context.signal);
      return whole.result === 'page' ? { head: headOf(whole.body, 0), again: true } : undefined;
    } catch (error) {
      if (error instanceof PossyncError && (error.retry === 'slow' || error.retry === 'soon'))
        return undefined;
      throw error;
    }
  }

  close(): Promise<void> {
    this.#client?.close();
    return Promise.resolve();
  }
}

function headOf(body: Buffer, from: number): number {
  const page = readPage(body, from);
  if (typeof page === 'string')
    throw new PossyncError('PS-PROTOCOL', 'HQ sent a page that breaks the protocol', { why: page });
  return page.head;
}
