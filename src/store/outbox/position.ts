/** SQL: how far HQ has acknowledged, moved forward and back only where both histories agree. */
import type pg from 'pg';
import { nextChain } from '../../core/chain.ts';
import type { ErrorCode } from '../../core/errors.ts';
import { queryMaybe, queryOne, type Queryable } from '../../db/transaction.ts';

/** A point in the history of a store: the chain in hex, '' before the first entry. */
export interface Position {
  readonly epoch: number;
  readonly seq: number;
  readonly chain: string;
}

export type Settled =
  | { readonly result: 'agreed' }
  | { readonly result: 'halted'; readonly code: ErrorCode; readonly why: string };

export async function sealedPosition(db: Queryable): Promise<Position> {
  return queryOne<Position & pg.QueryResultRow>(
    db,
    `select epoch, seq, encode(chain, 'hex') as chain from possync.state`,
  );
}

export async function ackedPosition(db: Queryable): Promise<Position> {
  return queryOne<Position & pg.QueryResultRow>(
    db,
    `select epoch, seq, encode(chain, 'hex') as chain from possync.sending`,
  );
}

/** Where HQ stood in the epochs that were closed here. */
export async function closedEpochs(db: Queryable): Promise<Position[]> {
  const { rows } = await db.query<Position>(
    `select epoch, seq, encode(chain, 'hex') as chain from possync.epochs order by epoch`,
  );
  return rows;
}

/**
 * Compares HQ's position with our history and, if they agree, continues from there:
 *
 *   ours:  1 ── 2 ── 3 ── 4 ── 5          HQ at 3, chain equal   ▶ 3 is acknowledged, 4 is sent next
 *                    │                    (it was at 5 before?     4 and 5 are sent again: HQ was restored)
 *   HQ:    1 ── 2 ── 3                    HQ at 7                ▶ PS-UP-ROLLBACK: we were restored
 *                                         HQ at 3, other chain   ▶ PS-UP-DIVERGED
 *                                         3 … no longer kept     ▶ PS-HQ-TOO-OLD
 */
export async function settle(tx: pg.PoolClient, hq: Position): Promise<Settled> {
  // Waits for an acknowledgement that is just being written; sealing does not touch this row.
  await tx.query('select 1 from possync.sending for update');
  const sealed = await sealedPosition(tx);
  const closed = (await closedEpochs(tx)).filter(({ epoch }) => epoch < sealed.epoch);
  const end = hq.epoch === sealed.epoch ? sealed : closed.find(({ epoch }) => epoch === hq.epoch);
  if (end === undefined) {
    return halted('PS-UP-EPOCH', `HQ is in epoch ${hq.epoch}, this database in epoch ${sealed.epoch}`);
  }
  if (hq.seq > end.seq) {
    return halted(
      'PS-UP-ROLLBACK',
      `HQ has entries of this store up to ${hq.seq}, this database only up to ${end.seq}`,
    );
  }
  const agreement = await compareChain(tx, hq, end);
  if (agreement === 'differs') {
    return halted('PS-UP-DIVERGED', `entry ${hq.seq} at HQ is another one than entry ${hq.seq} here`);
  }
  if (agreement === 'unknown' || !(await keepsAllAfter(tx, hq, sealed, closed))) {
    return halted('PS-HQ-TOO-OLD', `HQ is at ${hq.seq}, and what follows is no longer kept here`);
  }
  await movePosition(tx, hq);
  return { result: 'agreed' };
}

function halted(code: ErrorCode, why: string): Settled {
  return { result: 'halted', code, why };
}

async function compareChain(
  db: Queryable,
  hq: Position,
  end: Position,
): Promise<'equal' | 'differs' | 'unknown'> {
  const equal = (mine: string): 'equal' | 'differs' => (mine === hq.chain ? 'equal' : 'differs');
  if (hq.seq === end.seq) return equal(end.chain);
  if (hq.seq === 0) return equal('');
  const own = await readEntry(db, hq.epoch, hq.seq);
  if (own !== undefined) return equal(own.chain);
  // The entry itself was pruned, but the one after it proves the same.
  const next = await readEntry(db, hq.epoch, hq.seq + 1);
  if (next === undefined) return 'unknown';
  return nextChain(hq.chain, hq.seq + 1, next.body) === next.chain ? 'equal' : 'differs';
}

async function readEntry(
  db: Queryable,
  epoch: number,
  seq: number,
): Promise<{ body: string; chain: string } | undefined> {
  return queryMaybe<{ body: string; chain: string }>(
    db,
    `select body, encode(chain, 'hex') as chain from possync.outbox where epoch = $1::int and seq = $2::bigint`,
    [epoch, seq],
  );
}

/** Everything from there to the end of our history must still be here, or HQ would miss some of it for good. */
async function keepsAllAfter(
  db: Queryable,
  hq: Position,
  sealed: Position,
  closed: readonly Position[],
): Promise<boolean> {
  const acked = await ackedPosition(db);
  // Unacknowledged entries are never pruned: only a way back has to be counted.
  if (hq.epoch === acked.epoch && hq.seq >= acked.seq) return true;
  const expected = [...closed, sealed]
    .filter(({ epoch }) => epoch >= hq.epoch)
    .reduce((sum, { epoch, seq }) => sum + seq - (epoch === hq.epoch ? hq.seq : 0), 0);
  const { kept } = await queryOne<{ kept: number }>(
    db,
    `select count(*) as kept from possync.outbox where (epoch, seq) > ($1::int, $2::bigint)`,
    [hq.epoch, hq.seq],
  );
  return kept === expected;
}

/**
 * From now on what lies at or before this position is acknowledged and what lies after it is not. Entries themselves are
 * not written: only the totals follow, over what lies between the two positions.
 */
export async function movePosition(tx: Queryable, to: Position): Promise<void> {
  await tx.query(
    `with way as (
       select 1 as sign, d.epoch as from_epoch, d.seq as from_seq, $1::int as to_epoch, $2::bigint as to_seq
         from possync.sending d where (d.epoch, d.seq) <= ($1::int, $2::bigint)
       union all
       select -1, $1::int, $2::bigint, d.epoch, d.seq
         from possync.sending d where (d.epoch, d.seq) > ($1::int, $2::bigint)),
     passed as (
       select w.sign, o.high, o.types, o.n, o.bytes
         from way w
        cross join lateral generate_series(w.from_epoch, w.to_epoch) e (epoch)
        cross join lateral (
          select x.high, x.types, count(*) as n, sum(x.bytes) as bytes
            from possync.outbox x
           where x.epoch = e.epoch
             and x.seq > case when e.epoch = w.from_epoch then w.from_seq else 0 end
             and x.seq <= case when e.epoch = w.to_epoch then w.to_seq else 9223372036854775807 end
           group by x.high, x.types) o),
     counted as (
       select w.what, sum(w.n * e.sign)::bigint as n
         from passed e
        cross join lateral (
          select '#entries' as what, e.n::numeric as n
          union all select '#high', case when e.high then e.n else 0 end
          union all select '#bytes', e.bytes
          union all select x.key, x.value::text::bigint * e.n from jsonb_each(e.types) x) w
        group by w.what)
     insert into possync.tally as t (side, what, n) select 'acked', c.what, c.n from counted c
     on conflict (side, what) do update set n = t.n + excluded.n`,
    [to.epoch, to.seq],
  );
  await tx.query('delete from possync.acks where (epoch, seq) > ($1::int, $2::bigint)', [to.epoch, to.seq]);
  await tx.query(
    `insert into possync.acks (epoch, seq) select $1::int, $2::bigint where $2::bigint > 0
     on conflict (epoch, seq) do nothing`,
    [to.epoch, to.seq],
  );
  await tx.query(
    `update possync.sending set epoch = $1::int, seq = $2::bigint, chain = decode($3::text, 'hex')`,
    [to.epoch, to.seq, to.chain],
  );
}
