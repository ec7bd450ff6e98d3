/** `possync status` at HQ: all stores, or one. */
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { PossyncError } from '../../core/errors.ts';
import { withConnection } from '../../db/transaction.ts';
import { sealInTurn } from '../../hq/feed/seal.ts';
import { readHead } from '../../hq/feed/rounds.ts';
import { isGreen, isServing, readHqStatus } from '../../hq/status.ts';
import { ofStores, selectStores, type StatusSelection } from '../../hq/status-select.ts';
import { tellServers } from '../../hq/stores/live.ts';
import type { HqStatusView } from '../../protocol/status.ts';
import type { Context } from '../context.ts';
import { renderHqShort, renderHqStatus } from '../render/status-hq.ts';
import type { Paint } from '../render/term.ts';
import type { Side, WaitFor } from './side.ts';

interface Report {
  readonly storeId: number;
  readonly ask: string | null;
  readonly queued: number;
  readonly cursor: number;
}

export interface HqSideOptions extends StatusSelection {
  readonly all: boolean;
  /** One store, by its code. */
  readonly storeId: number | undefined;
  /** Codes and patterns; none = every store. */
  readonly codes: readonly string[];
}

/** An answer comes back within a round trip and is written at once; asking more often only makes noise. */
const ASK_EVERY_MS = 500;
/** A store pulls once for the first hint; the next ones are for a store that has connected meanwhile. */
const HINT_EVERY_MS = 5_000;

export class HqSide implements Side<HqStatusView> {
  readonly #context: Context;
  readonly #pool: pg.Pool;
  readonly #storeId: number | undefined;
  readonly #options: HqSideOptions;

  constructor(context: Context, pool: pg.Pool, options: HqSideOptions) {
    this.#context = context;
    this.#pool = pool;
    this.#storeId = options.storeId;
    this.#options = options;
  }

  async read(): Promise<HqStatusView> {
    const { storeId, codes } = this.#options;
    const view = await readHqStatus(this.#pool, storeId === undefined ? {} : { storeId });
    if (codes.length === 0) return view;
    const narrowed = ofStores(view, codes);
    if (narrowed.stores.length > 0) return narrowed;
    throw new PossyncError('PS-STORE-UNKNOWN', `no store has a code like ${codes.join(' or ')}`);
  }

  shown(view: HqStatusView): HqStatusView {
    return selectStores(view, this.#options, this.#context.clock.now());
  }

  isGreen(view: HqStatusView): boolean {
    return isGreen(view);
  }

  render(paint: Paint, view: HqStatusView): string {
    const { all, red, behindMs, codes, storeId } = this.#options;
    const chosen = red === true || behindMs !== undefined || codes.length > 0 || storeId !== undefined;
    return renderHqStatus(paint, this.shown(view), this.#context.clock.now(), { all: all || chosen });
  }

  short(paint: Paint, view: HqStatusView): string {
    return renderHqShort(paint, view);
  }

  async waitFor(what: WaitFor): Promise<() => Promise<boolean>> {
    if (what === 'green') return async () => isGreen(await this.read());
    const head = what === 'caught-up' ? await this.#sealNow() : 0;
    const reached = (report: Report): boolean =>
      what === 'drained' ? report.queued === 0 : report.cursor >= head;
    const asked = new Set<string>();
    const done = new Set<number>();
    let nextAskMs = 0;
    let nextHintMs = 0;
    return async () => {
      const waiting = (await this.#serving()).filter((id) => !done.has(id));
      if (waiting.length === 0) return true;
      // Only an answer to a question of this run counts: an older report may be from before the command began.
      for (const report of await this.#reports())
        if (report.ask !== null && asked.has(report.ask) && reached(report)) done.add(report.storeId);
      if (waiting.every((id) => done.has(id))) return true;
      const nowMs = this.#context.clock.now();
      if (nowMs >= nextAskMs) {
        const id = randomUUID();
        asked.add(id);
        const hint = what === 'caught-up' && nowMs >= nextHintMs;
        await tellServers(this.#pool, {
          type: 'ask',
          store: this.#storeId ?? null,
          id,
          ...(hint ? { head } : {}),
        });
        nextAskMs = nowMs + ASK_EVERY_MS;
        if (hint) nextHintMs = nowMs + HINT_EVERY_MS;
      }
      return false;
    };
  }

  async #sealNow(): Promise<number> {
    return await withConnection(this.#pool, async (client) => {
      const sealed = await sealInTurn(client);
      return sealed.result === 'sealed' ? sealed.head : await readHead(client);
    });
  }

  async #serving(): Promise<number[]> {
    const { stores } = await this.read();
    return stores.filter(isServing).map((store) => store.id);
  }

  async #reports(): Promise<Report[]> {
    const { rows } = await this.#pool.query<Report>(
      `select l.store_id as "storeId", l.stat ->> 'id' as ask, (l.stat #>> '{out,queued}')::bigint as queued,
              (l.stat #>> '{in,pos}')::bigint as cursor
         from possync.live_links l where l.stat is not null and l.connected`,
    );
    return rows;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
