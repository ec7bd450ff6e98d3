/** SQL: keeps the partitions of tables as they are while a transaction reads them in one snapshot. */
import { tablesOf, upEntities, type Entity } from '../protocol/entities.ts';
import { publicTable } from './sql.ts';
import type { Queryable } from './transaction.ts';

/**
 * To be called before the first statement of a repeatable-read transaction that reads what stores have written.
 *
 * Rows of a month without a partition wait in the default one, and another transaction moves them:
 *
 *   snapshot ──────────── the month's rows are moved and its partition attached ──────────── read
 *   sees the rows where they were, in the default partition      plans with the new one, and looks for them only there
 *
 * The catalogue has no snapshots: such a reader would miss the whole month. LOCK TABLE takes no snapshot, so after it
 * either the partition is there for both, or nobody makes one before the transaction ends.
 */
export async function holdPartitions(tx: Queryable, entities: readonly Entity[]): Promise<void> {
  const tables = upEntities(entities)
    .filter((entity) => entity.up.partitionColumn !== null)
    .flatMap(tablesOf)
    .map(({ table }) => publicTable(table));
  if (tables.length > 0) await tx.query(`lock table only ${tables.join(', only ')} in access share mode`);
}
