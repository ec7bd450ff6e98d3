/**
 * The outbox of a store: what is sent next, and what HQ's answers mean for it.
 *
 * An entry leaves the queue only when HQ's chain at that point equals ours: a number alone proves nothing after a
 * restore on either side. Where the histories disagree, sending halts with a code; tills, capture and downloads go on.
 */
import type pg from 'pg';
import { isErrorCode, type ErrorCode } from '../../core/errors.ts';
import { queryOne, withTransaction } from '../../db/transaction.ts';
import { PUSH_MAX_BYTES, PUSH_MAX_TRANSACTIONS } from '../../protocol/http.ts';
import type {
  Hello,
  ParkedFrame,
  Push,
  PushAnswer,
  PushConflict,
  Refuse,
  Welcome,
} from '../../protocol/messages.ts';
import {
  ackedPosition,
  closedEpochs,
  sealedPosition,
  settle,
  type Position,
  type Settled,
} from './position.ts';
import { countQueue, type QueueCounts } from './queue.ts';
import { sealOutbox } from './seal.ts';

export interface Halt {
  readonly code: ErrorCode;
  readonly why: string;
}

/** A push that lacks only the fence of the session. */
export type Batch = Omit<Push, 'fence'>;

export interface BatchLimit {
  readonly bytes?: number;
  readonly transactions?: number;
}

interface DbBatchRow {
  epoch: number;
  seq: number;
  v: number;
  body: string;
  chain: string;
  prev: string;
}

interface Newly {
  readonly parked: readonly string[];
}

/** As text: a number of eight bytes comes out of an array as one. */
const NEWLY_PARKED = `array(select n.seq from unnest(d.dead) n (seq)
  except select b.seq from unnest(before.dead) b (seq) order by 1)::text[] as parked`;

export class Outbox {
  readonly #pool: pg.Pool;
  readonly #onParked: (seqs: readonly number[]) => void;

  /** `onParked`: HQ calls entries parked that it did not before. */
  constructor(pool: pg.Pool, onParked: (seqs: readonly number[]) => void = () => undefined) {
    this.#pool = pool;
    this.#onParked = onParked;
  }

  /** Numbers what tills have committed; returns how many transactions that were (0 also if somebody else is at it). */
  async seal(): Promise<number> {
    const round = await sealOutbox(this.#pool);
    return round.result === 'sealed' ? round.transactions : 0;
  }

  async helloPart(): Promise<Pick<Hello, 'epoch' | 'out' | 'epochs' | 'layouts'>> {
    return withTransaction(
      this.#pool,
      async (tx) => {
        const sealed = await sealedPosition(tx);
        const acked = await ackedPosition(tx);
        const closed = await closedEpochs(tx);
        const { oldest } = await queryOne<{ oldest: number }>(
          tx,
          `select coalesce((select min(o.seq) from possync.outbox o where o.epoch = s.epoch), s.seq + 1) as oldest
             from possync.state s`,
        );
        const { rows: layouts } = await tx.query<{ id: string; tbl: string; columns: string[] }>(
          'select id, tbl, columns from possync.layouts order by tbl, id',
        );
        return {
          epoch: sealed.epoch,
          layouts: layouts.map(({ id, tbl, columns }): [string, string, string[]] => [id, tbl, columns]),
          out: {
            seq: sealed.seq,
            oldest,
            acked: acked.epoch === sealed.epoch ? acked.seq : 0,
            chain: sealed.chain,
          },
          // The newest hundred: no HQ can have been restored past so many re-enrolments.
          epochs: [...closed, sealed].slice(-100),
        };
      },
      { isolation: 'repeatable read', readOnly: true },
    );
  }

  /**
   * The next entries after the acknowledged one, or after the end of a batch that is on its way, in order, cut between
   * transactions: at most 1 MB or 1,000, a single larger one alone; never of two epochs. undefined: nothing is waiting,
   * or sending has halted.
   */
  async nextBatch(
    { bytes = PUSH_MAX_BYTES, transactions = PUSH_MAX_TRANSACTIONS }: BatchLimit = {},
    after?: Position,
  ): Promise<Batch | undefined> {
    const { rows } = await this.#pool.query<DbBatchRow>(
      `with head as (
         select o.epoch, s.epoch = o.epoch as same, s.seq, s.chain
           from (select coalesce($3::int, d.epoch) as epoch, coalesce($4::bigint, d.seq) as seq,
                        coalesce(decode($5::text, 'hex'), d.chain) as chain, d.halted from possync.sending d) s
          cross join lateral (
            select o.epoch from possync.outbox o
             where (o.epoch, o.seq) > (s.epoch, s.seq) order by o.epoch, o.seq limit 1) o
          where s.halted is null),
       next as (
         select o.epoch, o.seq, o.v, o.body, o.chain, sum(o.bytes) over w as total, row_number() over w as n,
                case when h.same then encode(h.chain, 'hex') else '' end as prev
           from head h
           join lateral (
             select e.epoch, e.seq, e.v, e.body, e.chain, e.bytes from possync.outbox e
              where e.epoch = h.epoch and e.seq > case when h.same then h.seq else 0 end
              order by e.seq limit $2::int) o on true
         window w as (order by o.seq))
       select epoch, seq, v, body, encode(chain, 'hex') as chain, prev
         from next where total <= $1::bigint or n = 1 order by seq`,
      [bytes, transactions, after?.epoch ?? null, after?.seq ?? null, after?.chain ?? null],
    );
    const [first] = rows;
    const last = rows.at(-1);
    if (first === undefined || last === undefined) return undefined;
    return {
      epoch: first.epoch,
      first: first.seq,
      prev: first.prev,
      txs: rows.map(({ seq, v, body }) => ({ seq, v, body })),
      lastChain: last.chain,
    };
  }

  /** HQ's greeting says where it stands: continue from there, or halt. */
  async applyWelcome(welcome: Pick<Welcome, 'epoch' | 'inbox' | 'dead'>): Promise<Settled> {
    return this.#settle({ epoch: welcome.epoch, ...welcome.inbox }, welcome.dead);
  }

  /** A 200: acknowledged only as far as the chains agree. */
  async acknowledge(batch: Pick<Push, 'epoch'>, answer: PushAnswer): Promise<Settled> {
    return this.#settle({ epoch: batch.epoch, seq: answer.seq, chain: answer.chain }, answer.dead);
  }

  /** A 409: `fenced` asks for a new hello, `gap` tells where to continue, the others are compared and may halt. */
  async conflicted(conflict: PushConflict): Promise<Settled | { readonly result: 'hello' }> {
    if (conflict.code === 'fenced') return { result: 'hello' };
    const settled = await this.#settle(conflict, undefined);
    if (settled.result === 'agreed' && conflict.code === 'diverged') {
      return this.#halt('PS-UP-DIVERGED', `HQ found another history before entry ${conflict.seq}`);
    }
    return settled;
  }

  /** What HQ says of parked entries between two pushes; of an epoch that is over it says nothing about this queue. */
  async noteParked({ epoch, dead }: ParkedFrame): Promise<void> {
    const { rows } = await this.#pool.query<Newly>(
      `update possync.sending d set dead = $2::bigint[]
         from (select b.dead from possync.sending b for update) before
        where d.epoch = $1::integer
       returning ${NEWLY_PARKED}`,
      [epoch, dead],
    );
    this.#tellParked(rows);
  }

  /** A refused hello: only a foreign epoch concerns the outbox. */
  async refused(refuse: Refuse): Promise<void> {
    if (refuse.code === 'epoch') await this.#halt('PS-UP-EPOCH', refuse.detail);
  }

  async counts(): Promise<QueueCounts> {
    return countQueue(this.#pool);
  }

  /** Something of high priority is captured or waits. */
  async hasUrgent(): Promise<boolean> {
    const { urgent } = await queryOne<{ urgent: boolean }>(
      this.#pool,
      `select exists (select from possync.sending d
                       cross join lateral (select from possync.outbox o
                                            where o.high and (o.epoch, o.seq) > (d.epoch, d.seq) limit 1) o)
              or exists (select from possync.raw r where r.high) as urgent`,
    );
    return urgent;
  }

  /** Why sending has stopped until a person acts, if it has. */
  async halted(): Promise<Halt | undefined> {
    const row = await queryOne<{ halted: string | null; halted_why: string | null }>(
      this.#pool,
      'select halted, halted_why from possync.sending',
    );
    if (row.halted === null || !isErrorCode(row.halted)) return undefined;
    return { code: row.halted, why: row.halted_why ?? '' };
  }

  /** Before a batch goes out: what `queue ls` shows as sending. */
  async noteSending(head: Batch, last = head): Promise<void> {
    await this.#pool.query(
      `update possync.sending set sending_at = clock_timestamp(), next_try_at = null,
              tries = case when try_first = $1::bigint then tries else 0 end + 1,
              try_first = $1::bigint, try_last = $2::bigint`,
      [head.first, last.first + last.txs.length - 1],
    );
  }

  /** After it failed; the times are for display, nothing is decided by them. */
  async noteFailure(code: ErrorCode, message: string, delayMs: number): Promise<void> {
    await this.#pool.query(
      `update possync.sending set sending_at = null, last_error = $1::text, last_message = left($2::text, 2000),
              next_try_at = clock_timestamp() + make_interval(secs => $3::double precision / 1000)`,
      [code, message, delayMs],
    );
  }

  async #settle(hq: Position, dead: readonly number[] | undefined): Promise<Settled> {
    let parked: readonly Newly[] = [];
    const settled = await withTransaction(this.#pool, async (tx) => {
      const result = await settle(tx, hq);
      if (result.result === 'agreed') {
        ({ rows: parked } = await tx.query<Newly>(
          `update possync.sending d set halted = null, halted_why = null, halted_at = null,
                  acked_at = clock_timestamp(), dead = coalesce($1::bigint[], d.dead), sending_at = null, tries = 0,
                  try_first = null, try_last = null, next_try_at = null, last_error = null, last_message = null
             from (select b.dead from possync.sending b) before
           returning ${NEWLY_PARKED}`,
          [dead ?? null],
        ));
      }
      return result;
    });
    this.#tellParked(parked);
    return settled.result === 'halted' ? this.#halt(settled.code, settled.why) : settled;
  }

  #tellParked(rows: readonly Newly[]): void {
    const seqs = rows.flatMap(({ parked }) => parked.map(Number));
    if (seqs.length > 0) this.#onParked(seqs);
  }

  async #halt(code: ErrorCode, why: string): Promise<Settled> {
    await this.#pool.query(
      `update possync.sending set halted = $1::text, halted_why = left($2::text, 2000), sending_at = null,
              halted_at = case when halted = $1::text then halted_at else clock_timestamp() end`,
      [code, why],
    );
    return { result: 'halted', code, why };
  }
}
