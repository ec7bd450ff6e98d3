/**
 * `token revoke`: a store's credentials end now, on every HQ process.
 *
 *   revoked in the table ── commit ──▶ NOTIFY ──▶ every server forgets what it looked up, cuts the sockets, writes the log line
 *                                 └──▶ no NOTIFY arrives: the look-up is two seconds old at most, sockets are checked as often
 */
import type pg from 'pg';
import type { Clock } from '../../core/clock.ts';
import { queryOne, withTransaction, type Queryable } from '../../db/transaction.ts';
import { LINK_FRESH_MS, tellServers } from './live.ts';
import { showStore, STORES_CHANNEL, writeAudit, type Store } from './stores.ts';
import { CACHE_MS } from './tokens.ts';

export interface Revocation {
  readonly code: string;
  /** Only this one; else every credential and the unused enrolment token of the store. */
  readonly kid?: string | undefined;
  readonly reason?: string | undefined;
  readonly actor: string;
  /** Says what would end, and changes nothing. */
  readonly dryRun?: boolean;
}

export interface Revoked {
  readonly store: Store;
  /** Those that ended now. */
  readonly kids: readonly string[];
}

/** Throws PS-STORE-UNKNOWN. What had ended before stays as it was. */
export async function revokeTokens(
  pool: pg.Pool,
  { code, kid, reason, actor, dryRun = false }: Revocation,
): Promise<Revoked> {
  return await withTransaction(pool, async (tx) => {
    const store = await showStore(tx, code);
    if (dryRun) return { store, kids: await inForce(tx, store.id, kid) };
    // An enrolment or a rotation in the same moment comes before or after, never half.
    await tx.query('select from public.stores s where s.id = $1::integer for no key update', [store.id]);
    const { rows } = await tx.query<{ kid: string }>(
      `update possync.tokens t set state = 'revoked', ended_at = now(), ended_why = $3::text
        where t.store_id = $1::integer and t.state in ('pending', 'active', 'retiring')
          and ($2::text is null or t.kid = $2::text)
       returning t.kid`,
      [store.id, kid ?? null, reason ?? 'revoked by command'],
    );
    const kids = rows.map((row) => row.kid);
    if (kids.length === 0) return { store, kids };
    await writeAudit(tx, {
      actor,
      action: 'token revoke',
      storeId: store.id,
      details: { kids, reason: reason ?? null },
    });
    await tellServers(tx, { type: 'revoked', store: code, kids, actor, reason: reason ?? null });
    await tx.query('select pg_notify($1::text, $2::text)', [STORES_CHANNEL, String(store.id)]);
    return { store, kids };
  });
}

/** A look-up that began before the revocation ends within this. */
const LOOKUP_MS = 500;
const POLL_MS = 200;

/**
 * Waits until no server can serve a revoked credential of this store any more: look-ups older than the revocation have
 * expired, and no fresh row of live_links has one. false = the time ran out.
 */
export async function untilCut(
  pool: pg.Pool,
  storeId: number,
  { clock, timeoutMs, signal }: { clock: Clock; timeoutMs: number; signal: AbortSignal },
): Promise<boolean> {
  const started = clock.now();
  for (;;) {
    const { live } = await queryOne<{ live: boolean }>(
      pool,
      `select exists (select from possync.live_links l join possync.tokens t on t.kid = l.kid
        where l.store_id = $1::integer and t.state = 'revoked' and l.connected
          and l.written_at > clock_timestamp() - $2::bigint * interval '1 millisecond') as live`,
      [storeId, LINK_FRESH_MS],
    );
    const waited = clock.now() - started;
    if (!live && waited >= CACHE_MS + LOOKUP_MS) return true;
    if (waited >= timeoutMs || signal.aborted) return false;
    await clock.sleep(POLL_MS, signal);
  }
}

async function inForce(db: Queryable, storeId: number, kid: string | undefined): Promise<string[]> {
  const { rows } = await db.query<{ kid: string }>(
    `select t.kid from possync.tokens t
      where t.store_id = $1::integer and t.state in ('pending', 'active', 'retiring')
        and ($2::text is null or t.kid = $2::text)
      order by t.created_at`,
    [storeId, kid ?? null],
  );
  return rows.map((row) => row.kid);
}
