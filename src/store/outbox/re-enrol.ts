/**
 * SQL: the store goes on under a new epoch, after its history and HQ's have parted.
 *
 *   epoch 1: … 8 9 10 │ 11 12        HQ knows 10 as ours: what was acknowledged stays
 *                     └──┬──┘
 *   epoch 2:            1  2         the rest is numbered and chained anew, in its old order
 *
 * HQ that does not know what it once acknowledged (restored, then fed by a clone) gets everything that is still kept:
 * what it has already, it recognizes by content. A re-export captures rows again whose entries are no longer kept.
 */
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { sqlstateOf } from '../../core/classify.ts';
import { PossyncError } from '../../core/errors.ts';
import { queryOne, withTransaction, type Queryable } from '../../db/transaction.ts';
import type { Instance, ReEnrol, ReEnrolAnswer } from '../../protocol/messages.ts';
import { ackedPosition, movePosition, sealedPosition } from './position.ts';
import { sealInside } from './seal.ts';

export interface ReEnrolOptions {
  readonly instance: Instance;
  /** Asks HQ; may be asked again with the same request if the answer got lost. */
  readonly ask: (request: ReEnrol) => Promise<ReEnrolAnswer>;
  /** YYYY-MM-DD: capture again what the store holds since that day. */
  readonly reexportFrom?: string;
}

export interface ReEnrolReport {
  readonly epoch: number;
  /** Entries that now wait under new numbers. */
  readonly renumbered: number;
  /** Records captured again. */
  readonly reexported: number;
  /** HQ has what it once acknowledged; if not, it was restored, and everything that is kept here is sent again. */
  readonly known: boolean;
}

const ATTEMPTS = 20;

/** What `--dry-run` says. */
export interface ReEnrolPlan {
  readonly epoch: number;
  readonly unacknowledged: number;
  readonly kept: number;
  readonly oldestKeptAt: string | null;
}

export async function planReEnrol(db: Queryable): Promise<ReEnrolPlan> {
  return queryOne<ReEnrolPlan & pg.QueryResultRow>(
    db,
    `select s.epoch, count(o.seq) filter (where (o.epoch, o.seq) > (d.epoch, d.seq))
                     + (select count(distinct r.xid) from possync.raw r) as unacknowledged,
            count(o.seq) as kept, min(o.sealed_at) as "oldestKeptAt"
       from possync.state s cross join possync.sending d left join possync.outbox o on true group by s.epoch`,
  );
}

export async function reEnrolStore(
  pool: pg.Pool,
  { instance, ask, reexportFrom }: ReEnrolOptions,
): Promise<ReEnrolReport> {
  const acked = await ackedPosition(pool);
  const { epoch } = await sealedPosition(pool);
  // Kept until it is carried out: after a crash the same request gets the same answer from HQ.
  const { request } = await queryOne<{ request: string }>(
    pool,
    `update possync.state set pending_epoch = coalesce(pending_epoch, $1::uuid) returning pending_epoch as request`,
    [randomUUID()],
  );
  const answer = await ask({ request, epoch, instance, acked });
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await withTransaction(pool, (tx) => beginEpoch(tx, answer, reexportFrom), {
        isolation: 'repeatable read',
      });
    } catch (error) {
      // A running daemon writes to the same rows: what it is sending, what failed. Each new snapshot sees that.
      if (sqlstateOf(error) !== '40001' || attempt === ATTEMPTS) throw error;
    }
  }
}

async function beginEpoch(
  tx: pg.PoolClient,
  { epoch, closed, known }: ReEnrolAnswer,
  reexportFrom: string | undefined,
): Promise<ReEnrolReport> {
  await sealInside(tx);
  const sealed = await sealedPosition(tx);
  if (epoch <= sealed.epoch) {
    throw new PossyncError(
      'PS-UP-EPOCH',
      `HQ offers epoch ${epoch}, this database is in ${sealed.epoch} already`,
      {
        hint: 'run the command again',
      },
    );
  }
  // Not known to HQ any more: nothing counts as acknowledged.
  if (!known) await movePosition(tx, { epoch: 0, seq: 0, chain: '' });
  await tx.query('delete from possync.epochs where epoch >= $1::int', [closed.epoch]);
  await tx.query(
    `insert into possync.epochs (epoch, seq, chain) values ($1::int, $2::bigint, decode($3::text, 'hex'))`,
    [closed.epoch, closed.seq, closed.chain],
  );
  const renumbered = await renumber(tx, epoch);
  await tx.query(
    `update possync.sending set epoch = $1::int, seq = 0, chain = '', dead = '{}', halted = null, halted_why = null,
            halted_at = null, tries = 0, try_first = null, try_last = null, sending_at = null, next_try_at = null,
            last_error = null, last_message = null`,
    [epoch],
  );
  const reexported = reexportFrom === undefined ? 0 : await reexport(tx, reexportFrom);
  return { epoch, renumbered, reexported, known };
}

/** Unacknowledged entries of all epochs become 1, 2, … of the new one. */
async function renumber(tx: Queryable, epoch: number): Promise<number> {
  const { moved } = await queryOne<{ moved: number }>(
    tx,
    `with waiting as (
       delete from possync.outbox
        where (epoch, seq) > (select d.epoch, d.seq from possync.sending d)
       returning epoch, seq, v, body, high, captured_at, sealed_at, type, key, records, rows, bytes, types),
     numbered as (
       select w.v, w.body, w.high, w.captured_at, w.sealed_at, w.type, w.key, w.records, w.rows, w.bytes, w.types,
              row_number() over (order by w.epoch, w.seq) as n
         from waiting w),
     entered as (
       insert into possync.outbox (epoch, seq, v, body, chain, high, captured_at, sealed_at, type, key, records, rows,
                                   bytes, types)
       select $1::int, n.n, n.v, n.body, possync.chain('', n.n, n.body) over (order by n.n), n.high, n.captured_at,
              n.sealed_at, n.type, n.key, n.records, n.rows, n.bytes, n.types
         from numbered n
       returning seq, chain),
     numbering as (
       update possync.state s set epoch = $1::int, pending_epoch = null,
              seq = coalesce((select max(e.seq) from entered e), 0),
              chain = coalesce((select e.chain from entered e order by e.seq desc limit 1), ''))
     select count(*) as moved from entered`,
    [epoch],
  );
  return moved;
}

/** Every visible capture was sealed before: the invented transactions are alone in possync.raw. */
async function reexport(tx: Queryable, from: string): Promise<number> {
  const { records } = await queryOne<{ records: number }>(
    tx,
    'select possync.recapture($1::date) as records',
    [from],
  );
  await tx.query('select possync.seal_outbox()');
  return records;
}
