/** SQL: the history of the link in possync.link_history; at most KEPT rows, whatever the link does. */
import type { Queryable } from '../../db/transaction.ts';

export interface LinkEvent {
  readonly atMs: number;
  readonly event: 'start' | 'stop' | 'up' | 'down';
  /** Why it went down. */
  readonly code: string | null;
  /** How long the light before had lasted. */
  readonly lastedMs: number | null;
}

/** A link that breaks every minute fills it in eight hours: enough to see the minute. */
const KEPT = 1_000;

export async function writeLinkEvents(
  db: Queryable,
  events: readonly LinkEvent[],
  pid: number,
): Promise<void> {
  await db.query(
    // The rows of this statement are not seen by its own delete, so up to one batch more than KEPT may stay.
    `with added as (
       insert into possync.link_history (at, event, code, lasted_ms, pid)
       select to_timestamp(e."atMs" / 1000.0), e.event, e.code, e."lastedMs", $2::integer
         from jsonb_to_recordset($1::jsonb) as e("atMs" bigint, event text, code text, "lastedMs" bigint)
       returning id)
     delete from possync.link_history h
      where h.id <= (select max(a.id) from added a) - $3::bigint`,
    [JSON.stringify(events), pid, KEPT],
  );
}
