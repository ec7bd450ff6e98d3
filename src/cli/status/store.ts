/** `possync status` in a store: the daemon's word, else what it left in the database. */
import type pg from 'pg';
import { z } from 'zod';
import { documentHead } from '../../core/document.ts';
import { ERRORS, isErrorCode, PossyncError } from '../../core/errors.ts';
import { STATUS_SCHEMA, type StoreStatusView } from '../../protocol/status.ts';
import type { HqClient } from '../../store/link/hq-client.ts';
import { readMirrorState } from '../../store/mirror/cursor.ts';
import { countQueue } from '../../store/outbox/queue.ts';
import { readStoreStatus } from '../../store/status.ts';
import type { Context } from '../context.ts';
import { renderStoreShort, renderStoreStatus } from '../render/status-store.ts';
import type { Paint } from '../render/term.ts';
import { askDaemon, lightOfDaemon, socketPath } from '../daemon-socket.ts';
import { connectToHq } from '../hq-connection.ts';
import type { Side, WaitFor } from './side.ts';

/** Enough to know our own document again; the rest is as the daemon's version writes it. */
const documentSchema = z.looseObject({
  role: z.literal('store'),
  store: z.looseObject({ id: z.int(), code: z.string() }).nullable(),
  connection: z.looseObject({ indicator: z.enum(['green', 'red']) }),
  upstream: z.looseObject({ queued: z.int() }),
  downstream: z.looseObject({ cursor: z.int() }),
});
/** Its head: this command's answer has one of its own, and the daemon may be of another version. */
const HEAD = new Set<string>(Object.keys(documentHead(STATUS_SCHEMA, 0, 0)));
const headSchema = z.object({ head: z.int().nonnegative() });

export class StoreSide implements Side<StoreStatusView> {
  readonly #context: Context;
  /** undefined: the database is away; then only the daemon can tell. */
  readonly #pool: pg.Pool | undefined;
  readonly #socket: string;
  #client: HqClient | undefined;

  constructor(context: Context, pool: pg.Pool | undefined) {
    this.#context = context;
    this.#pool = pool;
    this.#socket = socketPath(context.config.stateDir, context.env);
  }

  async read(): Promise<StoreStatusView> {
    const told = await this.#fromDaemon();
    if (this.#pool === undefined) {
      if (told !== undefined) return told;
      throw new PossyncError('PS-DB-DOWN', 'neither the daemon nor PostgreSQL answers');
    }
    const stateDir = this.#context.config.stateDir;
    const own = await readStoreStatus(this.#pool, { stateDir, source: 'database' });
    if (told === undefined) return await this.#withLiveLight(own);
    // A socket in ./state may belong to another store than DATABASE_URL.
    return told.store?.id === own.store?.id ? told : own;
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
      connection: { ...own.connection, indicator: 'red', state: 'disconnected', reason },
    };
  }

  async #fromDaemon(): Promise<StoreStatusView | undefined> {
    const parsed = documentSchema.safeParse(await askDaemon(this.#socket, 'GET', '/api/v1/status'));
    if (!parsed.success) return undefined;
    const view = Object.fromEntries(Object.entries(parsed.data).filter(([name]) => !HEAD.has(name)));
    return view as unknown as StoreStatusView;
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
    const pool = this.#pool;
    if (pool === undefined) throw new PossyncError('PS-DB-DOWN', `PostgreSQL is needed for --wait ${what}`);
    if (what === 'drained') return async () => (await countQueue(pool)).queued === 0;
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
      const client = (this.#client ??= (await connectToHq(this.#context)).client);
      const cursor = nonce === null ? {} : { cursor: `${pos},${nonce}` };
      const answer = await client.pull({ from: pos, limit: 1, fresh: '1', ...cursor }, this.#context.signal);
      if (answer.result === 'page') return { head: headOf(answer.text), again: false };
      if (answer.result === 'behind') return undefined;
      const whole = await client.pull({ from: 0, limit: 1, fresh: '1' }, this.#context.signal);
      return whole.result === 'page' ? { head: headOf(whole.text), again: true } : undefined;
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

function headOf(page: string): number {
  return headSchema.parse(JSON.parse(page)).head;
}
