/** Which HQ this is: the id that stores remember, kept in the database so that every `hq serve` on it says the same. */
import { queryOne, type Queryable } from '../db/transaction.ts';

export async function readHqId(db: Queryable): Promise<string> {
  const { id } = await queryOne<{ id: string }>(
    db,
    `select id::text from possync.identity where role = 'hq'`,
  );
  return id;
}
