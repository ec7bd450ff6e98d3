/**
 * Small batches of many stores, applied in one transaction: its statements and its wait for the disk are shared.
 *
 *   batch ─ small, nothing but rows for COPY ─▶ joint.ts ─▶ lock rows · check each ─▶ one COPY a table · inboxes moved · commit
 *                                                  │ alone, not as expected, dead letters, row held, any error
 *                                                  └──────▶ push.ts takes it by itself, and says what is wrong
 *
 * This decides how fast a batch is taken and never what becomes of it: only what fits exactly behind the inbox of its
 * store goes in, and when one row of one store is refused, nothing of the transaction stays and each comes alone. The
 * stores of such a transaction keep apart for a while, so that one with a fault does not slow the others down again
 * and again.
 */
import type pg from 'pg';
import { isDataError, isRetryableSql } from '../../core/classify.ts';
import { systemClock, type Clock } from '../../core/clock.ts';
import { Joint } from '../../core/joint.ts';
import { copyIn, type CopyIn } from '../../db/copy-in.ts';
import { withTransaction, type Queryable } from '../../db/transaction.ts';
import type { Push, PushAnswer } from '../../protocol/messages.ts';
import type { FastPlan } from './fast-path.ts';
import { pruneChains } from './inbox.ts';

export interface SmallBatch {
  readonly storeId: number;
  readonly message: Push;
  /** Over the whole batch, from what the store says the chain was before. */
  readonly chain: string;
  readonly plan: FastPlan;
}

/** Larger ones fill a transaction by themselves, and would keep the small ones waiting. */
const SMALL_BYTES = 64 * 1024;
/** Rows that a transaction copies at most are some ten thousand. */
const GROUP = 64;
const APART_MS = 60_000;

const groups = new WeakMap<pg.Pool, Together>();

export function togetherOf(pool: pg.Pool): Together {
  const known = groups.get(pool) ?? new Together(pool);
  groups.set(pool, known);
  return known;
}

export class Together {
  readonly #pool: pg.Pool;
  readonly #clock: Clock;
  readonly #joint: Joint<SmallBatch, ReadonlyMap<SmallBatch, PushAnswer>>;
  /** Stores that take no part, and until when. */
  readonly #apart = new Map<number, number>();

  constructor(pool: pg.Pool, clock: Clock = systemClock) {
    this.#pool = pool;
    this.#clock = clock;
    this.#joint = new Joint((batches) => this.#take(batches), clock);
  }

  /** undefined: nothing of it was taken, it has to come alone. */
  async push(batch: SmallBatch): Promise<PushAnswer | undefined> {
    const { plan, storeId } = batch;
    const bytes = plan.copies.reduce((sum, { data }) => sum + data.length, 0);
    if (plan.rest.length > 0 || bytes > SMALL_BYTES || this.#isApart(storeId)) return undefined;
    return (await this.#joint.join(batch)).get(batch);
  }

  async #take(batches: readonly SmallBatch[]): Promise<ReadonlyMap<SmallBatch, PushAnswer>> {
    const taken = new Map<SmallBatch, PushAnswer>();
    // A store's second batch waits for the row that its first one holds.
    const first = [...new Map([...batches].reverse().map((batch) => [batch.storeId, batch])).values()];
    for (let at = 0; at < first.length; at += GROUP) {
      const group = first.slice(at, at + GROUP);
      if (group.length === 1) continue;
      try {
        const answers = await withTransaction(this.#pool, (tx) => takeAll(tx, group));
        for (const [batch, answer] of answers) taken.set(batch, answer);
      } catch (error) {
        if (isDataError(error)) this.#keepApart(group);
        else if (!isRetryableSql(error)) return taken; // alone each hears what is wrong
      }
    }
    return taken;
  }

  #isApart(storeId: number): boolean {
    const until = this.#apart.get(storeId);
    if (until === undefined) return false;
    const left = until - this.#clock.now();
    // The clock of the machine may have been set back.
    if (left > 0 && left <= APART_MS) return true;
    this.#apart.delete(storeId);
    return false;
  }

  #keepApart(group: readonly SmallBatch[]): void {
    const until = this.#clock.now() + APART_MS;
    for (const { storeId } of group) this.#apart.set(storeId, until);
  }
}

/** Of each store one batch. Who is not in the answer has left nothing behind. */
async function takeAll(
  tx: pg.PoolClient,
  batches: readonly SmallBatch[],
): Promise<ReadonlyMap<SmallBatch, PushAnswer>> {
  await tx.query(`set local synchronous_commit to on; set local possync.applying = 'on'`);
  const inboxes = await lockAll(tx, batches);
  const locked = batches.filter((batch) => fits(inboxes.get(batch.storeId), batch));
  const careful = await withLetters(tx, locked);
  const fitting = locked.filter(({ storeId }) => !careful.has(storeId));
  if (fitting.length === 0) return new Map();
  await copyIn(tx, merged(fitting));
  await refuseRedated(tx, fitting);
  await moveAll(tx, fitting);
  for (const { storeId, message } of fitting) {
    const { first, txs } = message;
    await pruneChains(tx, storeId, first - 1, first + txs.length - 1);
  }
  return new Map(
    fitting.map((batch) => [
      batch,
      { seq: batch.message.first + batch.message.txs.length - 1, chain: batch.chain, dead: [] },
    ]),
  );
}

interface DbInbox {
  readonly storeId: number;
  readonly epoch: number;
  readonly seq: number;
  readonly chain: string;
  readonly fence: string | null;
}

/** In the order of stores, and none that somebody holds: so nobody waits for a transaction of many in a circle. */
async function lockAll(tx: Queryable, batches: readonly SmallBatch[]): Promise<ReadonlyMap<number, DbInbox>> {
  const { rows } = await tx.query<DbInbox>(
    `select i.store_id as "storeId", i.epoch, i.seq, encode(i.chain, 'hex') as chain, i.fence
       from possync.inbox i where i.store_id = any($1::integer[]) order by i.store_id for update skip locked`,
    [batches.map(({ storeId }) => storeId)],
  );
  return new Map(rows.map((row) => [row.storeId, row]));
}

/** Exactly what comes next in this history; whatever else it is, push.ts says. */
function fits(inbox: DbInbox | undefined, { message, chain }: SmallBatch): boolean {
  if (inbox === undefined) return false;
  return (
    message.fence === inbox.fence &&
    message.epoch === inbox.epoch &&
    message.first === inbox.seq + 1 &&
    message.prev === inbox.chain &&
    message.lastChain === chain
  );
}

/** Stores with dead letters, or with records whose beginning was dropped: what concerns these waits behind them. */
async function withLetters(tx: Queryable, batches: readonly SmallBatch[]): Promise<ReadonlySet<number>> {
  const { rows } = await tx.query<{ id: number }>(
    `select s.id from unnest($1::integer[]) as s (id)
      where exists (select from possync.dead d where d.store_id = s.id)
         or exists (select from possync.queue_audit a where a.store_id = s.id and a.action = 'drop')`,
    [batches.map(({ storeId }) => storeId)],
  );
  return new Set(rows.map(({ id }) => id));
}

/** The rows of all, a table after the other: store and date stand in each of them already. */
function merged(batches: readonly SmallBatch[]): CopyIn[] {
  const bySql = new Map<string, CopyIn[]>();
  for (const copy of batches.flatMap(({ plan }) => plan.copies))
    bySql.set(copy.sql, [...(bySql.get(copy.sql) ?? []), copy]);
  return [...bySql].map(([sql, copies]) => ({
    sql,
    data: Buffer.concat(copies.map(({ data }) => data)),
    rows: copies.reduce((sum, { rows }) => sum + rows, 0),
  }));
}

async function refuseRedated(tx: Queryable, batches: readonly SmallBatch[]): Promise<void> {
  const headers = batches.flatMap(({ storeId, plan }) =>
    plan.headers.map((header) => [storeId, ...header] as const),
  );
  if (headers.length === 0) return;
  await tx.query(
    `select possync.refuse_redated(h.store_id, array_agg(h.name), array_agg(h.key), array_agg(h.date))
       from unnest($1::integer[], $2::text[], $3::text[], $4::text[]) as h (store_id, name, key, date)
      group by h.store_id`,
    ([0, 1, 2, 3] as const).map((part) => headers.map((header) => header[part])),
  );
}

async function moveAll(tx: Queryable, batches: readonly SmallBatch[]): Promise<void> {
  await tx.query(
    `with moved as (
       update possync.inbox i
          set seq = m.seq, chain = decode(m.chain, 'hex'), dead_streak = 0, breaker_waived = false, stopped = null,
              stopped_why = null, stopped_at = null, pushed_at = clock_timestamp()
         from unnest($1::integer[], $2::bigint[], $3::text[]) as m (store_id, seq, chain)
        where i.store_id = m.store_id
       returning i.store_id, i.epoch, i.seq, i.chain)
     insert into possync.inbox_chain (store_id, epoch, seq, chain)
     select m.store_id, m.epoch, m.seq, m.chain from moved m on conflict (store_id, epoch, seq) do nothing`,
    [
      batches.map(({ storeId }) => storeId),
      batches.map(({ message }) => message.first + message.txs.length - 1),
      batches.map(({ chain }) => chain),
    ],
  );
}
