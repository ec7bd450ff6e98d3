/** One way to run a transaction: begin, commit, and roll back whatever threw. */
import type pg from 'pg';
import { databaseError, isReadTimeout } from '../core/classify.ts';

export interface TransactionOptions {
  readonly isolation?: 'read committed' | 'repeatable read';
  readonly readOnly?: boolean;
}

/** Anything that runs a query: a pool, a client, a transaction. */
export type Queryable = Pick<pg.ClientBase, 'query'>;

/** Runs `work` in a transaction on one connection of the pool. */
export async function withTransaction<T>(
  pool: pg.Pool,
  work: (tx: pg.PoolClient) => Promise<T>,
  { isolation = 'read committed', readOnly = false }: TransactionOptions = {},
): Promise<T> {
  const client = await checkOut(pool);
  let broken: Error | undefined;
  try {
    await client.query(`begin isolation level ${isolation}${readOnly ? ' read only' : ''}`);
    const result = await work(client);
    await client.query('commit');
    return result;
  } catch (error) {
    try {
      // On a line that gives no answer a rollback would wait as long again.
      if (isReadTimeout(error)) throw error;
      await client.query('rollback');
    } catch (rollbackError) {
      // The connection is gone; the server rolls back by itself, the pool must not reuse it.
      broken = rollbackError instanceof Error ? rollbackError : new Error(String(rollbackError));
    }
    throw error;
  } finally {
    client.release(broken);
  }
}

/** The pool's own time-out carries no code: it is named here, where nothing else can be meant. */
async function checkOut(pool: pg.Pool): Promise<pg.PoolClient> {
  try {
    return await pool.connect();
  } catch (error) {
    throw databaseError(error);
  }
}

/** The one row that a statement promises. */
export async function queryOne<R extends pg.QueryResultRow>(
  db: Queryable,
  text: string,
  values: unknown[] = [],
): Promise<R> {
  const { rows } = await db.query<R>(text, values);
  const row = rows[0];
  if (row === undefined || rows.length > 1) throw new Error(`expected one row, got ${rows.length}`);
  return row;
}

/** The first row, if there is one. */
export async function queryMaybe<R extends pg.QueryResultRow>(
  db: Queryable,
  text: string,
  values: unknown[] = [],
): Promise<R | undefined> {
  const { rows } = await db.query<R>(text, values);
  return rows[0];
}

/** Several statements in one message: one result each. The driver's types know only the single one. */
export async function queryAll<R extends pg.QueryResultRow>(
  db: Queryable,
  query: string | pg.QueryConfig,
): Promise<pg.QueryResult<R>[]> {
  const answer: pg.QueryResult<R> | pg.QueryResult<R>[] = await db.query<R>(query);
  return Array.isArray(answer) ? answer : [answer];
}

/** Runs `work` on one connection of the pool, without a transaction; a connection that failed is not reused. */
export async function withConnection<T>(
  pool: pg.Pool,
  work: (client: pg.PoolClient) => Promise<T>,
): Promise<T> {
  const client = await checkOut(pool);
  let broken: Error | undefined;
  try {
    return await work(client);
  } catch (error) {
    broken = error instanceof Error ? error : new Error(String(error));
    throw error;
  } finally {
    client.release(broken);
  }
}
