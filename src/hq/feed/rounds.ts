/** SQL: reads sealed rounds, for whoever hints the stores. */
import type { Queryable } from '../../db/transaction.ts';
import type { SealedRound } from './seal.ts';

/** The last position given. */
export async function readHead(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ pos: number }>('select h.pos from possync.head h');
  return rows[0]?.pos ?? 0;
}

/** More than this at once is one hint to everybody, not a list. */
const ROUNDS_AT_ONCE = 1_000;

/** Rounds after a position, oldest first. */
export async function roundsAfter(db: Queryable, head: number): Promise<SealedRound[]> {
  const { rows } = await db.query<SealedRound>(
    `select r.head, r.nonce, r.records, r.stores, r.urgent from possync.rounds r
      where r.head > $1::bigint order by r.head limit $2::integer`,
    [head, ROUNDS_AT_ONCE],
  );
  return rows;
}
