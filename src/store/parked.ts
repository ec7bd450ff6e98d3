/** SQL: what HQ says of parked entries between two pushes. */
import type { Queryable } from '../db/transaction.ts';
import type { ParkedFrame } from '../protocol/messages.ts';

/** Of an epoch that is over HQ says nothing about what `queue ls` shows here. */
export async function noteParked(db: Queryable, { epoch, dead }: ParkedFrame): Promise<void> {
  await db.query('update possync.sending set dead = $2::bigint[] where epoch = $1::integer', [epoch, dead]);
}
