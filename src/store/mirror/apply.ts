/**
 * The atomic apply: everything staged becomes the state of this store in one transaction.
 *
 *   staged pages ══▶ [ sweep ] ─▶ upserts, parents first ─▶ removals, children first ─▶ cursor := head ─▶ staging empty
 *                     only after a full download                                        └──────── one COMMIT ────────┘
 *
 * Constraints are deferred: only the result has to hold, and two products may swap their SKUs. A till sees the state
 * before or the state after; it waits only for a record whose key value changes or that is deleted, and then for less
 * than its own deadlock check takes, because the apply is the one that gives way.
 */
import type pg from 'pg';
import { PossyncError } from '../../core/errors.ts';
import { readColumnTypes, type ColumnTypes } from '../../db/column-types.ts';
import { literal, publicTable } from '../../db/sql.ts';
import { queryOne, withTransaction } from '../../db/transaction.ts';
import { downEntities, type Entity } from '../../protocol/entities.ts';
import { dropOlder } from './cursor.ts';
import { upsertStatements, type MirroredEntity } from './apply-sql.ts';
import { removalPlan, sweepStatement, type Reference } from './removal-sql.ts';

/** Below PostgreSQL's deadlock_timeout (1 s): in a tangle of locks the apply gives way, never the till. */
const LOCK_TIMEOUT_MS = 750;
/** From here on statistics are worth their time, and TRUNCATE is cheaper than deleting row by row. */
const LARGE_ROUND = 10_000;
/** Deeper trees of departments do not exist; a cycle would otherwise never end. */
const REMOVAL_PASSES = 100;

export interface ApplyResult {
  readonly pos: number;
  /** Staged records: changed, unchanged and removed ones. */
  readonly records: number;
  /** By type: they add up to `records`. */
  readonly types: ReadonlyMap<string, number>;
}

export class Applier {
  readonly #pool: pg.Pool;
  readonly #entities: readonly MirroredEntity[];
  #types: ColumnTypes | undefined;

  constructor(pool: pg.Pool, entities: readonly Entity[]) {
    this.#pool = pool;
    this.#entities = downEntities(entities);
  }

  /**
   * Applies what is staged, and moves the cursor to the head of the closing page, in one transaction. `begun` hears the
   * id of the server process that does it.
   */
  async apply(shape: string, begun?: (pid: number) => void): Promise<ApplyResult> {
    this.#types ??= await readColumnTypes(this.#pool, this.#entities);
    const types = this.#types;
    return withTransaction(this.#pool, async (tx) => {
      const { pid } = await queryOne<{ pid: number }>(
        tx,
        `select pg_backend_pid() as pid, set_config('lock_timeout', '${LOCK_TIMEOUT_MS}', true),
                set_config('work_mem', '64MB', true), set_config('jit', 'off', true)`,
      );
      begun?.(pid);
      const round = await openRound(tx);
      const truncate = round.records >= LARGE_ROUND && (await lockStaging(tx));
      await tx.query(`set local possync.applying = 'on'; set constraints all deferred`);
      if (round.records >= LARGE_ROUND) await tx.query('select possync.analyze_staging()');
      if (round.everything) await this.#sweep(tx);
      const brought = await this.#bring(tx, types);
      await closeRound(tx, shape, round.records);
      await tx.query(truncate ? 'truncate possync.staging' : 'delete from possync.staging s');
      return { pos: round.head, records: round.records, types: brought };
    });
  }

  /**
   * Single records again, beside the rounds: the state that the cursor stands for, so nothing else changes. Only what
   * that state holds already is taken; what is newer comes with its round. false = a download is in progress.
   */
  async applyAgain(answers: readonly string[]): Promise<boolean> {
    this.#types ??= await readColumnTypes(this.#pool, this.#entities);
    const types = this.#types;
    return withTransaction(this.#pool, async (tx) => {
      await tx.query(`set local lock_timeout = ${LOCK_TIMEOUT_MS}`);
      const { pos, busy } = await queryOne<{ pos: number; busy: boolean }>(
        tx,
        `select c.pos, c.nonce is null or c.seen_nonce is not null as busy from possync.cursor c for update`,
      );
      if (busy) return false;
      await tx.query(`set local possync.applying = 'on'; set constraints all deferred; set local jit = off`);
      for (const answer of answers) {
        await tx.query(
          `insert into possync.staging (entity, pk, pos, doc)
           select d.row ->> 0, d.row ->> 1, (d.row ->> 2)::bigint, nullif(d.row -> 3, 'null'::jsonb)
             from jsonb_array_elements($1::jsonb -> 'documents') d (row)
            where (d.row ->> 2)::bigint <= $2::bigint`,
          [answer, pos],
        );
      }
      await dropOlder(tx);
      await this.#bring(tx, types);
      await tx.query('delete from possync.staging s');
      return true;
    });
  }

  /** Everything staged into its tables: documents parents first, removals children first. Returns how many of each type. */
  async #bring(tx: pg.PoolClient, types: ColumnTypes): Promise<ReadonlyMap<string, number>> {
    const present = await stagedTypes(tx);
    for (const entity of this.#entities) {
      if (present.get(entity.type)?.documents !== true) continue;
      for (const statement of upsertStatements(entity, types)) await tx.query(statement);
    }
    await tx.query(
      `delete from possync.kept k using possync.staging s
        where s.doc is not null and k.entity = s.entity and k.pk = s.pk`,
    );
    for (const entity of this.#entities.toReversed()) {
      if (present.get(entity.type)?.removals === true) await this.#remove(tx, entity, types);
    }
    return new Map([...present].map(([type, { records }]) => [type, records]));
  }

  async #sweep(tx: pg.PoolClient): Promise<void> {
    for (const entity of this.#entities) await tx.query(sweepStatement(entity, this.#transfers()));
  }

  async #remove(tx: pg.PoolClient, entity: MirroredEntity, types: ColumnTypes): Promise<void> {
    const references = entity.down.removal === 'delete-or-deactivate' ? await readReferences(tx, entity) : [];
    const plan = removalPlan(entity, types, references, this.#receipts());
    for (let pass = 0; plan.repeat.length > 0 && pass < REMOVAL_PASSES; pass += 1) {
      let removed = 0;
      for (const statement of plan.repeat) removed += (await tx.query(statement)).rowCount ?? 0;
      if (removed === 0) break;
    }
    for (const statement of plan.once) await tx.query(statement);
  }

  #transfers(): MirroredEntity | undefined {
    return this.#entities.find((e) => e.direction === 'relay' && e.up.change.kind === 'transfer');
  }

  #receipts(): MirroredEntity | undefined {
    return this.#entities.find((e) => e.direction === 'relay' && e.up.change.kind === 'receipt');
  }
}

interface OpenRound {
  readonly head: number;
  readonly records: number;
  /** Nothing was applied before: what is here and was not sent must go. */
  readonly everything: boolean;
}

/** Locks the cursor: no page can be staged, and no other process can apply, until this one has finished. */
async function openRound(tx: pg.PoolClient): Promise<OpenRound> {
  const cursor = await queryOne<{ head: number; everything: boolean; closed: boolean }>(
    tx,
    `select c.seen_head as head, c.nonce is null as everything, c.seen_nonce is not null and c.paged = c.seen_head as closed
       from possync.cursor c for update`,
  );
  if (!cursor.closed)
    throw new PossyncError('PS-INTERNAL', 'the pages of a round are applied before its last one');
  await dropOlder(tx);
  const { records } = await queryOne<{ records: number }>(
    tx,
    'select count(*) as records from possync.staging s',
  );
  return { ...cursor, records };
}

/** TRUNCATE needs staging for itself; whoever reads it now (a backup) is not waited for: rows are deleted then. */
async function lockStaging(tx: pg.PoolClient): Promise<boolean> {
  await tx.query('savepoint staging_lock');
  try {
    await tx.query('lock table possync.staging in access exclusive mode nowait');
    return true;
  } catch {
    await tx.query('rollback to savepoint staging_lock');
    return false;
  }
}

interface StagedType {
  readonly entity: string;
  readonly records: number;
  readonly documents: boolean;
  readonly removals: boolean;
}

async function stagedTypes(tx: pg.PoolClient): Promise<ReadonlyMap<string, StagedType>> {
  const { rows } = await tx.query<StagedType & Record<string, unknown>>(
    `select s.entity, count(*) as records, bool_or(s.doc is not null) as documents, bool_or(s.doc is null) as removals
       from possync.staging s group by s.entity`,
  );
  return new Map(rows.map((row) => [row.entity, row]));
}

async function closeRound(tx: pg.PoolClient, shape: string, records: number): Promise<void> {
  await tx.query(
    `update possync.cursor c
        set pos = c.seen_head, nonce = c.seen_nonce, paged = c.seen_head, seen_head = 0, seen_nonce = null,
            shape = $1::text, records = $2::bigint, applied_at = clock_timestamp(),
            error_code = null, error = null, error_at = null`,
    [shape, records],
  );
}

/** Every foreign key of this database that points at the entity, but for its own children, which go with it. */
async function readReferences(tx: pg.PoolClient, entity: MirroredEntity): Promise<Reference[]> {
  const { rows } = await tx.query<{ table_name: string; columns: string[]; target: string[] }>(
    `select format('%I.%I', n.nspname, t.relname) as table_name,
            array(select a.attname::text from unnest(k.conkey) with ordinality u (attnum, i)
                    join pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.attnum order by u.i) as columns,
            array(select a.attname::text from unnest(k.confkey) with ordinality u (attnum, i)
                    join pg_attribute a on a.attrelid = k.confrelid and a.attnum = u.attnum order by u.i) as target
       from pg_constraint k
       join pg_class t on t.oid = k.conrelid
       join pg_namespace n on n.oid = t.relnamespace
      where k.contype = 'f' and k.conparentid = 0
        and k.confrelid = ${literal(publicTable(entity.root.table))}::regclass
        and not (n.nspname = 'public' and t.relname = any ($1::text[]))`,
    [entity.children.map((child) => child.table)],
  );
  return rows.map(({ table_name: table, columns, target }) => ({ table: quoted(table), columns, target }));
}

/** format('%I') quotes only what must be quoted; our own tables are written with quotes always. */
function quoted(table: string): string {
  const own = /^public\.([a-z_][a-z0-9_$]*)$/.exec(table)?.[1];
  return own === undefined ? table : publicTable(own);
}
