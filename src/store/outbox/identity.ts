/** SQL: who this store is, as triggers, sealing and hello know it. */
import { PossyncError } from '../../core/errors.ts';
import { queryOne, type Queryable } from '../../db/transaction.ts';

export interface StoreIdentity {
  readonly id: number;
  readonly code: string;
  readonly epoch: number;
}

interface DbStateRow {
  store_id: number | null;
  store_code: string | null;
  epoch: number;
}

/** undefined: not enrolled yet. */
export async function readStoreIdentity(db: Queryable): Promise<StoreIdentity | undefined> {
  const row = await queryOne<DbStateRow>(db, 'select store_id, store_code, epoch from possync.state');
  if (row.store_id === null || row.store_code === null) return undefined;
  return { id: row.store_id, code: row.store_code, epoch: row.epoch };
}

/**
 * Says which store this database is, once and for ever. The epoch is taken only while nothing has been sealed: later
 * it changes by re-enrolment alone, which numbers the entries anew.
 */
export async function setStoreIdentity(db: Queryable, { id, code, epoch }: StoreIdentity): Promise<void> {
  const known = await readStoreIdentity(db);
  if (known !== undefined && known.id !== id) {
    throw new PossyncError('PS-DB-ROLE', `this database belongs to store ${known.code}`, {
      why: `it cannot become store ${code} as well`,
    });
  }
  await db.query(
    `with named as (
       update possync.state set store_id = $1::int, store_code = $2::text,
              epoch = case when seq = 0 then greatest(epoch, $3::int) else epoch end
       returning epoch, seq)
     update possync.sending s set epoch = n.epoch, seq = 0, chain = ''
       from named n where n.seq = 0 and s.epoch < n.epoch`,
    [id, code, epoch],
  );
}
