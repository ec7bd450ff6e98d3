/**
 * One sealing round.
 *
 * The whole round is ONE message: between BEGIN and COMMIT nothing waits for this process, so that a process that
 * stops here never holds the lock. LOCK TABLE takes no snapshot, an advisory lock would: the snapshot of the round
 * must be younger than its lock, or a round could miss what the one before it has given positions to. Reading
 * committed data statement by statement would mix several states of HQ in one round.
 */
import type pg from 'pg';
import { isReadTimeout, sqlstateOf } from '../../core/classify.ts';
import { queryAll, type Queryable } from '../../db/transaction.ts';

export interface SealedRound {
  /** The last position given: stores that have pulled up to here have this round. */
  readonly head: number;
  readonly nonce: string;
  readonly records: number;
  /** Stores whose records moved, 0 among them if records of all stores moved too; null = only such records. */
  readonly stores: readonly number[] | null;
  readonly urgent: boolean;
}

export type SealResult =
  | (SealedRound & { readonly result: 'sealed' })
  /** Nothing that travels has changed. */
  | { readonly result: 'idle' }
  /** Another process is sealing; what was captured meanwhile is its business or the next round's. */
  | { readonly result: 'busy' };

/** The largest rounds (500,000 records) take half a minute; ten times that is a fault. */
const ROUND_TIMEOUT_MS = 300_000;
/** A round that waits for its turn gives up before the request that asked for it does. */
const TURN_TIMEOUT_MS = 30_000;

/** The answer of a round is waited for a little longer than the server works on it. */
const ANSWER_MS = ROUND_TIMEOUT_MS + 2 * TURN_TIMEOUT_MS;

const LOCK_NOT_AVAILABLE = '55P03';

function roundMessage(lock: string): string {
  return [
    'begin isolation level repeatable read',
    `set local statement_timeout = ${ROUND_TIMEOUT_MS}`,
    'set local idle_in_transaction_session_timeout = 10000',
    lock,
    'select head, nonce, records, stores, urgent from possync.seal()',
    'commit',
  ].join('; ');
}

const IF_FREE = roundMessage('lock table possync.seal_lock in exclusive mode nowait');
const IN_TURN = roundMessage(
  `set local lock_timeout = ${TURN_TIMEOUT_MS}; lock table possync.seal_lock in exclusive mode`,
);

/** Seals what is visible now, unless another process does. `client` must be one connection, not a pool. */
export async function sealOnce(client: Queryable): Promise<SealResult> {
  try {
    return await runRound(client, IF_FREE);
  } catch (error) {
    if (sqlstateOf(error) === LOCK_NOT_AVAILABLE && !waitedForLock(error)) return { result: 'busy' };
    throw error;
  }
}

/** lock_timeout ran out inside the round: a program has a synced table to itself. NOWAIT has the same SQLSTATE. */
function waitedForLock(error: unknown): boolean {
  return error instanceof Error && 'routine' in error && error.routine === 'ProcessInterrupts';
}

/**
 * Seals in turn: when it returns, everything committed before the call has a position. 'busy' would not do here:
 * the round in progress may have taken its snapshot before that commit.
 */
export async function sealInTurn(client: Queryable): Promise<SealResult> {
  return runRound(client, IN_TURN);
}

async function runRound(client: Queryable, message: string): Promise<SealResult> {
  let results: pg.QueryResult<Partial<SealedRound>>[];
  try {
    const query: pg.QueryConfig & { query_timeout: number } = { text: message, query_timeout: ANSWER_MS };
    results = await queryAll<Partial<SealedRound>>(client, query);
  } catch (error) {
    // The transaction is open and aborted; a lost connection has rolled back by itself.
    if (!isReadTimeout(error)) await client.query('rollback').catch(() => undefined);
    throw error;
  }
  const row = results.find((result) => result.command === 'SELECT')?.rows[0] as SealedRound | undefined;
  return row === undefined ? { result: 'idle' } : { result: 'sealed', ...row };
}
