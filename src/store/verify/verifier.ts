/**
 * A store compares itself with HQ, and repairs what differs if it is asked to.
 *
 *   for each table and way:
 *     digests of all buckets ──one number for the table──▶ HQ: equal? ──yes──▶ next table
 *                                                             │ no: HQ's buckets
 *     buckets that differ, some thousand rows at a time ──▶ keys and hashes of both sides
 *                                                             │ without what is on its way (below)
 *     buckets of what still differs, once more ─────────▶ only what differs both times is called a difference
 *
 * A change on its way is no difference, and no clock decides which one is:
 *   down   the store reads its rows with its cursor first, then HQ: left out is what moved after that cursor, or was
 *          captured and not sealed, in HQ's snapshot
 *   up     HQ reads its rows with its inbox first, then the store: left out is what an entry behind that inbox or an
 *          unsealed capture speaks of, in the store's snapshot, and what HQ has parked
 *
 * Only reads, each in a snapshot of its own that is held for one statement; any number may run at once.
 */
import type pg from 'pg';
import { toPossyncError } from '../../core/classify.ts';
import type { Clock } from '../../core/clock.ts';
import { PossyncError } from '../../core/errors.ts';
import { comparedTables, type ComparedTable } from '../../db/compared.ts';
import type { Entity } from '../../protocol/entities.ts';
import type { Finding, Repaired, StoreReport, TableReport, VerifyRun } from '../../protocol/verify.ts';
import type { StoreIdentity } from '../outbox/identity.ts';
import { countQueue } from '../outbox/queue.ts';
import type { VerifyHq } from './hq.ts';
import { bucketsFor, StoreReader } from './read.ts';
import { RepairList, repairRecords } from './repair.ts';
import { TableComparison, unknownTable } from './table.ts';

export interface VerifierOptions {
  readonly pool: pg.Pool;
  readonly store: StoreIdentity;
  readonly entities: readonly Entity[];
  readonly hq: VerifyHq;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Bring down what HQ has, send up what is captured; absent where no daemon runs. */
  readonly pull?: () => Promise<unknown>;
  readonly push?: () => Promise<unknown>;
}

export interface VerifyRequest {
  /** Names this comparison at both ends. */
  readonly id: string;
  readonly repair: boolean;
  readonly actor: string;
  readonly onProgress?: (progress: Progress) => void;
}

export interface Progress {
  /** Rows. */
  readonly done: number;
  readonly total: number;
  readonly what: string;
}

/** With more than this on its way nothing could be said of most of what differs, and finding that out takes long. */
const BACKLOG_MAX = 5_000;
/** A push round ends only when tills pause, and one that is stuck never does: what is on its way then is left out. */
const SETTLE_MS = 5_000;

export class Verifier {
  readonly #options: VerifierOptions;
  readonly #tables: readonly ComparedTable[];
  #done = 0;
  #total = 0;

  constructor(options: VerifierOptions) {
    this.#options = options;
    this.#tables = comparedTables(options.entities);
  }

  async run(request: VerifyRequest): Promise<StoreReport> {
    const { pool, store, entities, hq, clock } = this.#options;
    const startedMs = clock.now();
    const reader = await StoreReader.open(pool, store.id, entities);
    const estimates = await reader.estimates(this.#tables);
    this.#total = this.#tables.reduce((sum, { table }) => sum + 1 + (estimates.get(table.table) ?? 0), 0);
    const findings = await hq.begin({ id: request.id, done: 0, total: this.#total });
    await this.#settle();
    const list = new RepairList();
    let tables = await this.#compareAll(this.#tables, reader, estimates, request, list);
    let repaired: Repaired[] = [];
    if (request.repair && list.size > 0) {
      repaired = await repairRecords({ ...this.#options, reader, request }, list, () => this.#settle());
      await this.#settle();
      // What the document says is how things are now; what was repaired is listed beside it.
      const again = this.#tables.filter(({ entity }) => list.types.has(entity.type));
      this.#total += again.reduce((sum, { table }) => sum + 1 + (estimates.get(table.table) ?? 0), 0);
      const now = await this.#compareAll(again, reader, estimates, request, new RepairList());
      tables = tables.map((before) => now.find((table) => sameTable(table, before)) ?? before);
    }
    return {
      id: store.id,
      code: store.code,
      state: stateOf(tables),
      reason: null,
      tables,
      repaired: repaired.slice(0, 1_000),
      findings: findings as Finding[],
      bytes: hq.bytes,
      duration_ms: Math.max(0, Math.round(clock.now() - startedMs)),
    };
  }

  async #compareAll(
    tables: readonly ComparedTable[],
    reader: StoreReader,
    estimates: ReadonlyMap<string, number>,
    request: VerifyRequest,
    list: RepairList,
  ): Promise<TableReport[]> {
    const blocked = await this.#blocked();
    const reports: TableReport[] = [];
    for (const table of tables) {
      this.#options.signal.throwIfAborted();
      const { table: spec, direction } = table;
      request.onProgress?.({ done: this.#done, total: this.#total, what: `${spec.table} (${direction})` });
      const rows = estimates.get(spec.table) ?? 0;
      const stopped = blocked[direction];
      reports.push(
        stopped === undefined
          ? await new TableComparison(this.#options.hq, reader, table, list, () => this.#run(request)).run(
              bucketsFor(rows),
            )
          : unknownTable(table, stopped),
      );
      this.#done += 1 + rows;
    }
    request.onProgress?.({ done: this.#done, total: this.#total, what: 'done' });
    return reports;
  }

  #run({ id }: VerifyRequest): VerifyRun {
    return { id, done: this.#done, total: this.#total };
  }

  /** The less is on its way, the less has to be left out. Whatever fails here is told by what is compared then. */
  async #settle(): Promise<void> {
    const { push, pull, clock } = this.#options;
    const over = new AbortController();
    const limit = clock.sleep(SETTLE_MS, over.signal);
    const both = Promise.allSettled([push?.(), pull?.()]);
    await Promise.race([both, limit]);
    over.abort();
  }

  /** Directions that cannot be compared now, and why. */
  async #blocked(): Promise<Partial<Record<'up' | 'down', PossyncError>>> {
    const { pool } = this.#options;
    const { queued, halted, haltedWhy } = await countQueue(pool);
    const { rows } = await pool.query<{ nonce: string | null }>('select c.nonce from possync.cursor c');
    return {
      ...(halted === null
        ? queued <= BACKLOG_MAX
          ? {}
          : {
              up: new PossyncError(
                'PS-VERIFY-BACKLOG',
                `${queued} store transactions have not reached HQ yet`,
              ),
            }
        : {
            up: new PossyncError('PS-VERIFY-HALTED', `sending has halted: ${halted}`, {
              why: haltedWhy ?? '',
            }),
          }),
      ...(rows[0]?.nonce === null
        ? { down: new PossyncError('PS-VERIFY-BEHIND', 'the first download is not complete') }
        : {}),
    };
  }
}

function sameTable(a: TableReport, b: TableReport): boolean {
  return a.table === b.table && a.direction === b.direction;
}

function stateOf(tables: readonly TableReport[]): StoreReport['state'] {
  if (tables.some(isDifferent)) return 'different';
  return tables.some(({ reason }) => reason !== null) ? 'unknown' : 'equal';
}

function isDifferent({ differing, missing_at_hq, missing_at_store }: TableReport): boolean {
  return (differing ?? 0) + (missing_at_hq ?? 0) + (missing_at_store ?? 0) > 0;
}

/** What a failed comparison is called where the report is made. */
export function reasonOf(error: unknown): { code: string; message: string; hint: string } {
  const { code, message, why, hint } = toPossyncError(error);
  return { code, message: (why === undefined ? message : `${message}: ${why}`).slice(0, 2_000), hint };
}
