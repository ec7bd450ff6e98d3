/**
 * A credential that has ended is still used: a clone, a thief, or a machine that nobody told. HQ refuses it and remembers.
 *
 * The first uses after the end are none of these: requests on their way, and the next attempt of a daemon that was cut.
 *
 * One row per credential and at most one write a minute and process, one audit entry a day: a flood of such requests is a
 * number that grows, not a table that does. It ends nobody's good credential.
 */
import type pg from 'pg';
import type { Queryable } from '../../db/transaction.ts';

export interface RefusedUse {
  readonly kid: string;
  readonly storeId: number;
  /** revoked or expired. */
  readonly state: string;
}

/**
 * A daemon that is connected hears of the end at once, asks once more, and then every five minutes, in which somebody
 * can enrol it again or stop it.
 */
export const KNOWN_AFTER = '2 minutes';

const WRITE_EVERY_MS = 60_000;
/** Kids whose secret was right: no stranger can make up more of them. */
const REMEMBERED = 10_000;

interface Tally {
  uses: number;
  writtenMs: number;
}

const tallies = new WeakMap<pg.Pool, Map<string, Tally>>();

/** Never throws: that a use could not be noted must not change what its sender is told. */
export async function noteRefusedUse(pool: pg.Pool, use: RefusedUse, nowMs: number): Promise<void> {
  const known = tallies.get(pool) ?? new Map<string, Tally>();
  tallies.set(pool, known);
  if (known.size >= REMEMBERED) known.clear();
  const tally = known.get(use.kid) ?? { uses: 0, writtenMs: -Infinity };
  known.set(use.kid, tally);
  tally.uses += 1;
  if (nowMs - tally.writtenMs < WRITE_EVERY_MS) return;
  const { uses } = tally;
  known.set(use.kid, { uses: 0, writtenMs: nowMs });
  try {
    await writeUses(pool, use, uses);
  } catch {
    // A standby cannot write; the next use tries again.
    known.delete(use.kid);
  }
}

async function writeUses(db: Queryable, { kid, storeId, state }: RefusedUse, uses: number): Promise<void> {
  await db.query(
    `with use as (
       insert into possync.refused_uses as r (kid, store_id, state, uses)
       values ($1::text, $2::integer, $3::text, $4::bigint)
       on conflict (kid) do update
          set state = excluded.state, uses = r.uses + excluded.uses, last_at = now(),
              audited_at = case when r.audited_at < now() - interval '1 day' then now() else r.audited_at end
       returning r.kid, r.store_id, r.state, r.uses, r.audited_at = now() as audit)
     insert into possync.audit (actor, action, store_id, details)
     select 'holder of ' || u.kid, 'token refused', u.store_id,
            jsonb_build_object('kid', u.kid, 'state', u.state, 'uses', u.uses)
       from use u where u.audit`,
    [kid, storeId, state, uses],
  );
}
