/** SQL: the repairs that HQ has written down, the newest first. */
import type { Queryable } from '../../db/transaction.ts';
import type { ListedRepair } from '../../protocol/verify.ts';

const at = (column: string): string =>
  `to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;

export async function listRepairs(
  db: Queryable,
  { storeId, limit }: { storeId: number | undefined; limit: number },
): Promise<ListedRepair[]> {
  const { rows } = await db.query<ListedRepair & Record<string, unknown>>(
    `select s.code as store, ${at('p.at')} as at, p.run, p.actor, p.direction, p.type, p.key, p.state as result,
            ${at('p.done_at')} as done_at,
            (select count(*) from possync.repaired_rows r where r.repair = p.id) as replaced_rows
       from possync.repairs p join public.stores s on s.id = p.store_id
      where $1::integer is null or p.store_id = $1::integer
      order by p.id desc limit $2::integer`,
    [storeId ?? null, limit],
  );
  return rows;
}
