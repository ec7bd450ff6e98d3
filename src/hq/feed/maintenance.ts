/** SQL: what the feed needs once a day: old rounds go, and transfers that are long over leave their audiences. */
import type { Queryable } from '../../db/transaction.ts';
import { queryOne } from '../../db/transaction.ts';
import { keyMatches } from '../../db/record-key.ts';
import { readColumnTypes } from '../../db/column-types.ts';
import { literal, publicTable } from '../../db/sql.ts';
import { downEntities, type Entity } from '../../protocol/entities.ts';

export interface MaintenanceResult {
  readonly prunedRounds: number;
  readonly retiredTransfers: number;
}

/** Everything that is due. Any number of HQ processes may run it at the same time. */
export async function maintainFeed(db: Queryable, entities?: readonly Entity[]): Promise<MaintenanceResult> {
  return {
    prunedRounds: await pruneRounds(db),
    retiredTransfers: await retireTransfers(db, entities),
  };
}

/**
 * Forgets rounds older than settings.round_days, but never the newest, nor one that a store stands on: a store that
 * was away for longer would be told to pull everything again. The row locks of two pruners at once meet harmlessly.
 */
export async function pruneRounds(db: Queryable): Promise<number> {
  const { rowCount } = await db.query(
    `delete from possync.rounds r
      where r.sealed_at < now() - (select s.round_days * interval '1 day' from possync.settings s)
        and r.head < (select h.pos from possync.head h)
        and not exists (select from possync.store_cursor c where c.pos = r.head)
        and not exists (select from possync.live_links l where l.stat -> 'in' ->> 'pos' = r.head::text)`,
  );
  return rowCount ?? 0;
}

/**
 * Captures transfers and receipts that time alone has taken out of their audience: no row of theirs changed, so no
 * trigger did. The next round removes them from the feed; the stores keep their rows.
 */
export async function retireTransfers(db: Queryable, entities?: readonly Entity[]): Promise<number> {
  const relays = downEntities(entities).filter((entity) => entity.direction === 'relay');
  const transfer = relays.find((entity) => entity.up.change.kind === 'transfer');
  if (transfer === undefined) return 0;
  const types = await readColumnTypes(db, [transfer]);
  let captured = 0;
  for (const { type } of relays) {
    // A receipt has the key of its transfer.
    const { count } = await queryOne<{ count: number }>(
      db,
      `with old as (
         insert into possync.capture (entity, pk)
         select distinct f.entity, f.pk
           from possync.feed f
           join ${publicTable(transfer.root.table)} t
             on ${keyMatches('t', transfer.root.table, transfer.root.key, 'f.pk', types)}
          where f.entity = ${literal(type)} and f.doc is not null
            and possync.transfer_is_old(t.id, t.status, t.updated_at)
         returning entity)
       select count(*) as count from old`,
    );
    captured += count;
  }
  return captured;
}
