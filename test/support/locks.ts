/** Waiting for the moment in which somebody waits for a lock. */
import type pg from 'pg';
import { queryOne } from '../../src/db/transaction.ts';

/** Until somebody waits for a lock that this connection holds. */
export async function waitsForLock(holder: pg.Client): Promise<void> {
  const { pid } = await queryOne<{ pid: number }>(holder, 'select pg_backend_pid() as pid');
  for (;;) {
    const { waiting } = await queryOne<{ waiting: boolean }>(
      holder,
      `select exists (select from pg_stat_activity a where $1::int = any (pg_blocking_pids(a.pid))) as waiting`,
      [pid],
    );
    if (waiting) return;
  }
}
