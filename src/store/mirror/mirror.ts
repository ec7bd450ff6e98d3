/**
 * The mirror: HQ's feed, downloaded page by page and applied whole.
 *
 *   pos ──page──▶ paged ──page──▶ paged ──closing page──▶ head        apply: pos := head
 *   applied        staged, one commit a page                           one transaction
 *
 * A page that does not reach the head in its own snapshot never closes a round; a page whose head is lower than one
 * already seen is refused, because it shows an older HQ (a cache, a standby). A download goes on where it stopped,
 * whatever stopped it and for however long: extending a round is always right.
 */
import { createHash } from 'node:crypto';
import type pg from 'pg';
import { codeOf, sqlstateOf } from '../../core/classify.ts';
import { systemClock, type Clock } from '../../core/clock.ts';
import { PossyncError } from '../../core/errors.ts';
import { withTransaction } from '../../db/transaction.ts';
import { downEntities, ENTITIES, tablesOf, type Entity } from '../../protocol/entities.ts';
import { PULL_PAGE_ROWS } from '../../protocol/http.ts';
import type { PullQuery } from '../../protocol/messages.ts';
import { readPage, type Page } from '../../protocol/page.ts';
import { Applier, type ApplyResult } from './apply.ts';
import { BlockerWatch } from './blocker.ts';
import {
  noteApplyError,
  readMirrorState,
  readShape,
  resetCursor,
  stagePage,
  type MirrorState,
} from './cursor.ts';

export type PageAnswer =
  | { readonly result: 'page'; readonly body: Buffer }
  /** HQ does not know this cursor: everything must be pulled again. */
  | { readonly result: 'resync' }
  /** A standby that lags: later, or elsewhere. */
  | { readonly result: 'behind' };

export type FetchPage = (query: PullQuery, signal: AbortSignal) => Promise<PageAnswer>;

export type PullResult =
  | ({
      readonly result: 'applied';
      /** When HQ sealed it, by HQ's clock; unknown of what an earlier pull has staged. */ readonly sealedAt?:
        number | undefined;
    } & ApplyResult)
  /** The store has everything that HQ has sealed. */
  | { readonly result: 'nothing'; readonly pos: number }
  /** What answered shows an older HQ than was already seen; nothing was staged from it. */
  | { readonly result: 'behind' }
  /** Stopped by the signal; goes on from `paged`. */
  | { readonly result: 'stopped' }
  /** PostgreSQL refused the apply; the store stays on the last whole state, what was downloaded stays staged. */
  | { readonly result: 'failed'; readonly error: PossyncError };

export interface PullOptions {
  /** Ask HQ to seal first: the cursor then reaches everything committed there before this call. */
  readonly fresh?: boolean;
}

export interface MirrorOptions {
  readonly pool: pg.Pool;
  readonly entities?: readonly Entity[];
  readonly pageRows?: number;
  readonly clock?: Clock;
}

/** An apply that met a lock, a deadlock or a serialization failure is worth repeating at once. */
const LOST_A_RACE = new Set(['40001', '40P01', '55P03']);
const APPLY_ATTEMPTS = 3;

export class Mirror {
  readonly #pool: pg.Pool;
  readonly #applier: Applier;
  readonly #shape: string;
  readonly #pageRows: number;
  readonly #clock: Clock;

  constructor({ pool, entities = ENTITIES, pageRows = PULL_PAGE_ROWS, clock = systemClock }: MirrorOptions) {
    this.#pool = pool;
    this.#applier = new Applier(pool, entities);
    this.#shape = shapeOf(entities);
    this.#pageRows = pageRows;
    this.#clock = clock;
  }

  state(): Promise<MirrorState> {
    return readMirrorState(this.#pool);
  }

  /** Downloads everything again with the next pull, and removes what HQ no longer sends. */
  async resync(): Promise<void> {
    await resetCursor(this.#pool);
  }

  /** Brings the store to HQ's head, or as far as the signal lets it. One call at a time. */
  async pull(
    fetch: FetchPage,
    signal: AbortSignal,
    { fresh = false }: PullOptions = {},
  ): Promise<PullResult> {
    await this.resyncAfterUpgrade();
    let resynced = false;
    for (let first = true; ; first = false) {
      if (signal.aborted) return { result: 'stopped' };
      const state = await this.state();
      const answer = await fetch(queryOf(state, this.#pageRows, fresh && first), signal);
      if (answer.result === 'behind') return { result: 'behind' };
      if (answer.result === 'resync') {
        // Twice in a row is no restored HQ, but a fault: a cursor at 0 names no round.
        if (resynced)
          throw new PossyncError('PS-PROTOCOL', 'HQ asks to pull everything again, twice in a row');
        resynced = true;
        await this.resync();
        continue;
      }
      const page = readPage(answer.body, state.paged);
      if (typeof page === 'string')
        throw new PossyncError('PS-PROTOCOL', 'HQ sent a page that breaks the protocol', { why: page });
      // An older HQ than the one already seen: its pages would mix two states in one round.
      if (page.head < Math.max(state.seenHead, state.pos)) return { result: 'behind' };
      if (isNothing(page, state)) return { result: 'nothing', pos: state.pos };
      if (!(await withTransaction(this.#pool, (tx) => stagePage(tx, page)))) return { result: 'behind' };
      if (page.closing) return this.#apply(page.sealedAt);
    }
  }

  /**
   * Another version, or other types, filled these tables, with other columns: only a full download has them all. To be
   * called before anybody is told that the store is served: until then its cursor says more than it has.
   */
  async resyncAfterUpgrade(): Promise<void> {
    const shape = await readShape(this.#pool);
    if (shape !== null && shape !== this.#shape) {
      await this.resync();
      await this.#pool.query('update possync.cursor c set shape = $1::text', [this.#shape]);
    }
  }

  /** Applies a whole round that is staged already, as an apply that gave way leaves it; HQ is not asked. */
  async applyStaged(): Promise<PullResult> {
    const { pos, paged, seenHead, seenNonce } = await this.state();
    return seenNonce !== null && paged === seenHead ? this.#apply() : { result: 'nothing', pos };
  }

  async #apply(sealedAt?: number): Promise<PullResult> {
    const blocker = new BlockerWatch(this.#pool, this.#clock);
    for (let attempt = 1; ; attempt += 1) {
      try {
        // The first try is not watched: nearly all applies wait for nobody.
        const begun = (pid: number): void => {
          if (attempt > 1) blocker.begin(pid);
        };
        return { result: 'applied', sealedAt, ...(await this.#applier.apply(this.#shape, begun)) };
      } catch (error) {
        const state = sqlstateOf(error);
        // No answer of the database, or its end: nothing is known to be wrong with what was downloaded.
        if (state === undefined || /^(08|57P)/.test(state)) throw error;
        if (LOST_A_RACE.has(state) && attempt < APPLY_ATTEMPTS) continue;
        const failure = LOST_A_RACE.has(state) ? applyWaits(error, blocker.found) : applyFailed(error);
        await noteApplyError(this.#pool, failure.code, failure.why ?? failure.message);
        return { result: 'failed', error: failure };
      } finally {
        await blocker.end();
      }
    }
  }
}

function queryOf(state: MirrorState, limit: number, fresh: boolean): PullQuery {
  return {
    from: state.paged,
    limit,
    ...(state.nonce === null ? {} : { cursor: `${state.pos},${state.nonce}` }),
    ...(state.seenNonce === null ? {} : { seen: `${state.seenHead},${state.seenNonce}` }),
    ...(fresh ? { fresh: '1' as const } : {}),
  };
}

/** No news, and nothing staged that waits for an apply. */
function isNothing(page: Page, state: MirrorState): boolean {
  const idle = state.seenNonce === null && state.nonce !== null;
  return idle && page.closing && page.rows === 0 && page.head === state.pos;
}

function applyWaits(error: unknown, blocker: string | undefined): PossyncError {
  return new PossyncError('PS-APPLY-WAITS', 'a download waits for a program of this store', {
    why:
      blocker ??
      `PostgreSQL ${codeOf(error) ?? ''}: ${error instanceof Error ? error.message : String(error)}`,
    cause: error,
  });
}

function applyFailed(error: unknown): PossyncError {
  const text = error instanceof Error ? error.message : String(error);
  const detail =
    error instanceof Error && 'detail' in error && typeof error.detail === 'string'
      ? `: ${error.detail}`
      : '';
  return new PossyncError('PS-APPLY-FAILED', 'a download could not be applied', {
    why: `PostgreSQL ${codeOf(error) ?? ''}: ${text}${detail}`,
    cause: error,
  });
}

/** Digest of what an apply fills: tables and columns of everything that comes down. */
function shapeOf(entities: readonly Entity[]): string {
  const shape = downEntities(entities).map((entity) => [
    entity.type,
    ...tablesOf(entity).map((spec) => [spec.table, spec.key, spec.columns, spec.stamped]),
  ]);
  return createHash('sha256').update(JSON.stringify(shape)).digest('hex');
}
