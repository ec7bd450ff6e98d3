/** SQL: the repairs that this store has written down, the newest first. */
import type { Queryable } from '../../db/transaction.ts';
import type { ListedRepair } from '../../protocol/verify.ts';

export async function listRepairs(db: Queryable, store: string, limit: number): Promise<ListedRepair[]> {
  const { rows } = await db.query<ListedRepair & Record<string, unknown>>(
    `select $1::text as store, to_char(p.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as at, p.run, p.actor,
            p.direction, p.type, p.key, p.result, null::text as done_at, null::bigint as replaced_rows
       from possync.repairs p order by p.id desc limit $2::integer`,
    [store, limit],
  );
  return rows;
}
