/** SQL: one sealing round of the outbox: captures of committed transactions become numbered, chained entries. */
import type pg from 'pg';
import { sqlstateOf } from '../../core/classify.ts';
import { queryAll } from '../../db/transaction.ts';

export type SealResult =
  { readonly result: 'sealed'; readonly transactions: number } | { readonly result: 'busy' };

/**
 * One simple-query message, so that no pause between statements can leave the lock held. LOCK TABLE takes no
 * snapshot: the snapshot of the round is younger than its lock, and nobody else seals between the two.
 */
const ROUND = `begin isolation level repeatable read;
set local synchronous_commit to on;
lock table possync.seal_lock in exclusive mode nowait;
select possync.seal_outbox() as sealed;
commit`;

const LOCK_NOT_AVAILABLE = '55P03';

export async function sealOutbox(pool: pg.Pool): Promise<SealResult> {
  const client = await pool.connect();
  let broken: Error | undefined;
  try {
    const results = await queryAll<{ sealed?: number }>(client, ROUND);
    const sealed = results.flatMap((result) => result.rows).find((row) => row.sealed !== undefined)?.sealed;
    return { result: 'sealed', transactions: sealed ?? 0 };
  } catch (error) {
    await client.query('rollback').catch((rollbackError: unknown) => {
      broken = rollbackError instanceof Error ? rollbackError : new Error(String(rollbackError));
    });
    if (sqlstateOf(error) === LOCK_NOT_AVAILABLE) return { result: 'busy' };
    throw error;
  } finally {
    client.release(broken);
  }
}

/**
 * Takes the sealing lock inside a transaction (REPEATABLE READ, nothing read yet) and seals what is visible: where
 * the numbering itself is about to change.
 */
export async function sealInside(tx: pg.PoolClient): Promise<void> {
  await tx.query('set local synchronous_commit to on');
  await tx.query('lock table possync.seal_lock in exclusive mode');
  await tx.query('select possync.seal_outbox()');
}
