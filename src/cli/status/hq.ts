/** `possync status` at HQ: all stores, or one. */
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { withConnection } from '../../db/transaction.ts';
import { sealInTurn } from '../../hq/feed/seal.ts';
import { readHead } from '../../hq/feed/rounds.ts';
import { isGreen, isServing, readHqStatus } from '../../hq/status.ts';
import { tellServers } from '../../hq/stores/live.ts';
import type { HqStatusView } from '../../protocol/status.ts';
import type { Context } from '../context.ts';
import { renderHqShort, renderHqStatus, type HqRenderOptions } from '../render/status-hq.ts';
import type { Paint } from '../render/term.ts';
import type { Side, WaitFor } from './side.ts';

interface Report {
  readonly storeId: number;
  readonly ask: string | null;
  readonly queued: number;
  readonly cursor: number;
}

/** An answer comes back within a round trip and is written at once; asking more often only makes noise. */
const ASK_EVERY_MS = 500;
/** A store pulls once for the first hint; the next ones are for a store that has connected meanwhile. */
const HINT_EVERY_MS = 5_000;

export class HqSide implements Side<HqStatusView> {
  readonly #context: Context;
  readonly #pool: pg.Pool;
  readonly #storeId: number | undefined;
  readonly #options: HqRenderOptions;

  constructor(context: Context, pool: pg.Pool, storeId: number | undefined, options: HqRenderOptions) {
    this.#context = context;
    this.#pool = pool;
    this.#storeId = storeId;
    this.#options = options;
  }

  read(): Promise<HqStatusView> {
    return readHqStatus(this.#pool, this.#storeId === undefined ? {} : { storeId: this.#storeId });
  }

  isGreen(view: HqStatusView): boolean {
    return isGreen(view);
  }

  render(paint: Paint, view: HqStatusView): string {
    const all = this.#options.all || this.#storeId !== undefined;
    return renderHqStatus(paint, view, this.#context.clock.now(), { ...this.#options, all });
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
