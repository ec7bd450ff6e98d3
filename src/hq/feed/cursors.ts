/**
 * Remembers where each store stands, so that its round outlives the retention of rounds.
 *
 * Noted in memory at every pull and written once a minute in one statement: 5,000 stores that follow a busy HQ would
 * otherwise write a row each at every round. A note lost in a crash costs a full download, and only to a store that
 * then stays away for five weeks.
 *
 * A store that pulls and finds nothing new is noted every five minutes: an idle store whose WebSocket is blocked is not
 * offline.
 */
import type { Queryable } from '../../db/transaction.ts';

export class CursorBook {
  #moved = new Map<number, number>();

  /** The cursor that a store named in a pull and HQ knew. */
  note(storeId: number, pos: number): void {
    this.#moved.set(storeId, pos);
  }

  /** Writes what was noted since the last time. */
  async flush(db: Queryable): Promise<void> {
    const moved = this.#moved;
    if (moved.size === 0) return;
    this.#moved = new Map();
    await db.query(
      `insert into possync.store_cursor as c (store_id, pos)
       select n.store_id, n.pos from unnest($1::integer[], $2::bigint[]) n (store_id, pos) order by n.store_id
       on conflict (store_id) do update set pos = excluded.pos, at = now() 
          where c.pos <> excluded.pos or c.at < now() - interval '5 minutes'`,
      [[...moved.keys()], [...moved.values()]],
    );
  }
}
