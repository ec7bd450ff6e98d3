/**
 * Sends again what differs, and nothing else; the owner of a record wins.
 *
 *   down   HQ captures and seals the records once more, and gives their documents as they are for this store; they are
 *          applied like a round of their own, at the cursor where the store stands
 *   up     the store captures its rows once more, an outbox entry for each record: number, chain and exactly-once hold
 *          as for any sale; HQ has opened the record for it, and keeps what it had
 *
 * Interrupted anywhere, it is begun again by the next run: a document applied twice, or an entry sent twice, changes
 * nothing. What the store has no longer is not touched at HQ.
 */
import type pg from 'pg';
import { sqlstateOf } from '../../core/classify.ts';
import type { Clock } from '../../core/clock.ts';
import { captureRows, ROW_TEXT_SETTINGS } from '../../db/capture-up-rows.ts';
import { comparedTables } from '../../db/compared.ts';
import { keyMatches } from '../../db/record-key.ts';
import { publicTable } from '../../db/sql.ts';
import { withTransaction } from '../../db/transaction.ts';
import {
  downEntities,
  upEntities,
  type Entity,
  type RelayEntity,
  type UpEntity,
} from '../../protocol/entities.ts';
import { VERIFY_MAX_REPAIRS, type Repair, type RepairAnswer, type Repaired } from '../../protocol/verify.ts';
import { Applier } from '../mirror/apply.ts';
import type { StoreIdentity } from '../outbox/identity.ts';
import type { VerifyHq } from './hq.ts';
import type { StoreReader } from './read.ts';

type Target = Repair['records'][number];

/** What one run repairs; the next run finds the rest. */
const RECORDS_MAX = 10_000;
/** A round that is just being downloaded is applied within seconds. */
const APPLY_TRIES = 10;
const APPLY_AGAIN_MS = 1_000;
/** A till that writes this very record now goes first, and its row goes up by itself. */
const LOCK_TIMEOUT_MS = 500;

/** Records to repair, each once, parents before children as they are found. */
export class RepairList {
  readonly #records = new Map<string, Target>();

  add(record: Target): void {
    if (this.#records.size < RECORDS_MAX)
      this.#records.set(`${record.direction} ${record.type} ${record.key}`, record);
  }

  get size(): number {
    return this.#records.size;
  }

  get types(): ReadonlySet<string> {
    return new Set([...this.#records.values()].map(({ type }) => type));
  }

  of(direction: Target['direction']): Target[] {
    return [...this.#records.values()].filter((record) => record.direction === direction);
  }
}

export interface RepairOptions {
  readonly pool: pg.Pool;
  readonly store: StoreIdentity;
  readonly entities: readonly Entity[];
  readonly hq: VerifyHq;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly reader: StoreReader;
  readonly request: { readonly id: string; readonly actor: string };
}

/** `settle` brings down what HQ has sealed meanwhile. */
export async function repairRecords(
  options: RepairOptions,
  list: RepairList,
  settle: () => Promise<void>,
): Promise<Repaired[]> {
  const repaired: Repaired[] = [];
  const ups = new Map(upEntities(options.entities).map((entity) => [entity.type, entity]));
  for (const records of chunks(list.of('up'))) {
    options.signal.throwIfAborted();
    await ask(options, records);
    const done: Repaired[] = [];
    for (const record of records) {
      const entity = ups.get(record.type);
      const result = entity === undefined ? 'unchanged' : await recapture(options, entity, record.key);
      done.push({ ...record, result });
    }
    await note(options, done);
    repaired.push(...done);
  }
  const answers: (RepairAnswer & { text: string })[] = [];
  for (const records of chunks(list.of('down'))) {
    options.signal.throwIfAborted();
    answers.push(await ask(options, records));
  }
  if (answers.length > 0) {
    await settle();
    const applied = await applyDocuments(options, answers, settle);
    const done = answers
      .flatMap(({ documents }) => documents)
      .map(([type, key, , document]): Repaired => {
        const result = !applied ? 'failed' : document === null ? 'removed' : 'sent';
        return { type, direction: 'down', key, result };
      });
    await note(options, done);
    repaired.push(...done);
  }
  return repaired;
}

function chunks(records: readonly Target[]): Target[][] {
  const parts: Target[][] = [];
  for (let from = 0; from < records.length; from += VERIFY_MAX_REPAIRS)
    parts.push(records.slice(from, from + VERIFY_MAX_REPAIRS));
  return parts;
}

function ask(
  { hq, request }: RepairOptions,
  records: Target[],
): Promise<RepairAnswer & { readonly text: string }> {
  return hq.repair({ run: { id: request.id, done: 0, total: 0 }, actor: request.actor, records });
}

/** All in one transaction: two products may have each other's SKU. */
async function applyDocuments(
  { pool, entities, clock, signal }: RepairOptions,
  answers: readonly { readonly text: string }[],
  settle: () => Promise<void>,
): Promise<boolean> {
  const applier = new Applier(pool, downEntities(entities));
  for (let tries = 1; tries <= APPLY_TRIES && !signal.aborted; tries += 1) {
    try {
      if (await applier.applyAgain(answers.map(({ text }) => text))) return true;
    } catch (error) {
      // A till holds one of the rows, or another apply met this one: again, after it.
      if (!['55P03', '40P01', '40001'].includes(sqlstateOf(error) ?? '')) throw error;
    }
    await clock.sleep(APPLY_AGAIN_MS, signal);
    await settle();
  }
  return false;
}

/**
 * The record's rows as they are now, as one transaction of the outbox. The root is locked against a till that changes
 * it at the same moment: the older row must not be captured behind the newer one.
 */
async function recapture(
  { pool, store, reader, entities }: RepairOptions,
  entity: UpEntity | RelayEntity,
  key: string,
): Promise<Repaired['result']> {
  const tables = comparedTables(entities).filter(
    (table) => table.entity.type === entity.type && table.direction === 'up',
  );
  const { root } = entity;
  try {
    return await withTransaction(pool, async (tx) => {
      await tx.query(
        `set local lock_timeout = ${LOCK_TIMEOUT_MS}; set local synchronous_commit = on;
         ${ROW_TEXT_SETTINGS.replaceAll(/\bset /g, '; set local ')}`,
      );
      await tx.query(
        `select from ${publicTable(root.table)} x
          where ${keyMatches('x', root.table, root.key, '$1::text', reader.types)} for share`,
        [key],
      );
      let rows = 0;
      for (const { table, recordKey, store: from } of tables) {
        const { rowCount } = await tx.query(
          captureRows(entity, table, {
            from: `select x.* from ${from} and ${keyMatches('x', table.table, recordKey, '$2::text', reader.types)}`,
            op: `'I'`,
          }),
          [store.id, key],
        );
        rows += rowCount ?? 0;
      }
      return rows === 0 ? 'unchanged' : 'sent';
    });
  } catch (error) {
    if (sqlstateOf(error) === '55P03') return 'failed';
    throw error;
  }
}

async function note({ pool, request }: RepairOptions, repaired: readonly Repaired[]): Promise<void> {
  await pool.query(
    `insert into possync.repairs (run, actor, direction, type, key, result)
     select $1::uuid, $2::text, r.direction, r.type, r.key, r.result
       from unnest($3::text[], $4::text[], $5::text[], $6::text[]) as r (direction, type, key, result)`,
    [
      request.id,
      request.actor,
      repaired.map(({ direction }) => direction),
      repaired.map(({ type }) => type),
      repaired.map(({ key }) => key),
      repaired.map(({ result }) => result),
    ],
  );
}
