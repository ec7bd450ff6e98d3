/**
 * SQL: `token rotate` at HQ. An order is a row, never only a message: a store that is away finds it in its next welcome.
 *
 *   ordered ─▶ NOTIFY ─▶ every server: `rotate` frame to the stores it holds ─▶ the store rotates as by its own command
 *      │                                                                            │
 *      └─ not connected: in the next welcome ──────────────────────────────────────▶┤
 *   done: a newer credential is in force (confirmed, or enrolled)  ◀────────────────┘   failed: kept, and told again later
 */
import type pg from 'pg';
import { withTransaction, type Queryable } from '../../db/transaction.ts';
import type { RotationOrder, RotationReport } from '../../protocol/messages.ts';
import { LINK_FRESH_MS, tellServers } from './live.ts';
import { writeAudit } from './stores.ts';
import { IN_FORCE, type Authenticated } from './tokens.ts';

export interface OrderOptions {
  readonly graceMs: number;
  /** null = as HQ is set. */
  readonly expiresInMs: number | null;
  readonly revokeOldNow: boolean;
  readonly replace: boolean;
  readonly actor: string;
}

/** A notification holds 8,000 bytes. */
const STORES_PER_MESSAGE = 500;
/** A store that has just failed fails again: it gets time to be mended. */
const RETRY_FAILED_MS = 600_000;

/**
 * Orders these stores to rotate, and tells the servers. An order that is still open stays the same one, with the newest
 * options: ordering twice rotates once. Stores without a credential in force get none.
 */
export async function orderRotations(
  pool: pg.Pool,
  storeIds: readonly number[],
  { graceMs, expiresInMs, revokeOldNow, replace, actor }: OrderOptions,
): Promise<void> {
  await withTransaction(pool, async (tx) => {
    const { rows } = await tx.query<{ storeId: number; id: string; oldKid: string }>(
      `insert into possync.rotation_orders as o
              (store_id, id, old_kid, grace_ms, expires_in_ms, revoke_old_now, replace, ordered_by)
       select t.store_id, gen_random_uuid(), t.kid, $2::bigint, $3::bigint, $4::boolean, $5::boolean, $6::text
         from possync.tokens t
        where t.store_id = any ($1::integer[]) and t.kind = 'credential' and t.state = 'active' and ${IN_FORCE}
       on conflict (store_id) do update
          set id = case when o.done_at is null and o.old_kid = excluded.old_kid then o.id else excluded.id end,
              old_kid = excluded.old_kid, grace_ms = excluded.grace_ms, expires_in_ms = excluded.expires_in_ms,
              revoke_old_now = excluded.revoke_old_now, replace = excluded.replace, ordered_by = excluded.ordered_by,
              ordered_at = excluded.ordered_at, done_at = null, kid = null, reported_at = null, offline_ms = null,
              failure_code = null, failure = null
       returning o.store_id as "storeId", o.id::text, o.old_kid as "oldKid"`,
      [storeIds, graceMs, expiresInMs, revokeOldNow, replace, actor],
    );
    for (const { storeId, id, oldKid } of rows)
      await writeAudit(tx, {
        actor,
        action: 'token rotate ordered',
        storeId,
        details: { order: id, kid: oldKid, grace_ms: graceMs, revoke_old_now: revokeOldNow },
      });
    await tellOrders(
      tx,
      rows.map((row) => row.storeId),
    );
  });
}

/**
 * Takes open orders back; null = of every store. One that a store has begun meanwhile may still end: what is in force is
 * then the new credential, and no harm is done.
 */
export async function withdrawOrders(
  pool: pg.Pool,
  storeIds: readonly number[] | null,
  { actor, dryRun }: { readonly actor: string; readonly dryRun: boolean },
): Promise<{ storeId: number; code: string; id: string; kid: string; orderedBy: string }[]> {
  return await withTransaction(pool, async (tx) => {
    const { rows } = await tx.query<{
      storeId: number;
      code: string;
      id: string;
      kid: string;
      orderedBy: string;
    }>(
      `select o.store_id as "storeId", s.code, o.id::text, o.old_kid as kid, o.ordered_by as "orderedBy"
         from possync.rotation_orders o join public.stores s on s.id = o.store_id
        where o.done_at is null and ($1::integer[] is null or o.store_id = any ($1::integer[]))
        order by s.code
          for update of o`,
      [storeIds],
    );
    if (dryRun) return rows;
    await tx.query('delete from possync.rotation_orders o where o.id = any ($1::uuid[])', [
      rows.map(({ id }) => id),
    ]);
    for (const { storeId, id, kid, orderedBy } of rows)
      await writeAudit(tx, {
        actor,
        action: 'token rotate withdrawn',
        storeId,
        details: { order: id, kid, ordered_by: orderedBy },
      });
    return rows;
  });
}

/** A hint that may be repeated: the order is in the table. */
export async function tellOrders(db: Queryable, storeIds: readonly number[]): Promise<void> {
  for (let from = 0; from < storeIds.length; from += STORES_PER_MESSAGE)
    await tellServers(db, { type: 'rotate', stores: storeIds.slice(from, from + STORES_PER_MESSAGE) });
}

const ORDER = `o.id::text, o.old_kid as "oldKid", o.grace_ms as "graceMs", o.expires_in_ms as "expiresInMs",
  o.revoke_old_now as "revokeOldNow", o.replace`;

/** Of these stores, those that have an order to carry out; `patient` = without those that have just failed. */
export async function openOrders(
  db: Queryable,
  storeIds: readonly number[],
  { patient }: { readonly patient: boolean },
): Promise<{ storeId: number; order: RotationOrder }[]> {
  const { rows } = await db.query<RotationOrder & { storeId: number }>(
    `select o.store_id as "storeId", ${ORDER}
       from possync.rotation_orders o
      where o.store_id = any ($1::integer[]) and o.done_at is null
        and (not $2::boolean or o.failure_code is null
             or o.reported_at < now() - $3::bigint * interval '1 millisecond')`,
    [storeIds, patient, RETRY_FAILED_MS],
  );
  return rows.map(({ storeId, ...order }) => ({ storeId, order }));
}

/** In the transaction that puts a newer credential in force: what was ordered is done, whoever began it. */
export async function settleOrder(tx: Queryable, storeId: number, kid: string): Promise<void> {
  await tx.query(
    `update possync.rotation_orders o
        set done_at = now(), kid = $2::text, failure_code = null, failure = null
      where o.store_id = $1::integer and o.done_at is null and o.old_kid <> $2::text`,
    [storeId, kid],
  );
}

/** What the store says of an order; that it is done, HQ knows by itself. */
export async function noteReport(
  db: Queryable,
  caller: Authenticated,
  report: RotationReport,
): Promise<void> {
  await db.query(
    `update possync.rotation_orders o
        set reported_at = now(), offline_ms = coalesce($3::integer, o.offline_ms),
            failure_code = case when o.done_at is null then $4::text end,
            failure = case when o.done_at is null then $5::text end
      where o.store_id = $1::integer and o.id = $2::uuid`,
    [caller.storeId, report.id, report.offlineMs, report.code, report.message],
  );
}

/** An order as `token rotate` shows it. */
export interface OrderView {
  readonly id: string;
  readonly oldKid: string;
  readonly oldUntil: string | null;
  readonly oldState: string;
  readonly done: boolean;
  /** The store has said what came of it, or has had the time to. */
  readonly settled: boolean;
  readonly newKid: string | null;
  readonly offlineMs: number | null;
  readonly failureCode: string | null;
  readonly failure: string | null;
}

/** How an order stands, and whether its store could carry it out now. */
export interface OrderState {
  readonly storeId: number;
  readonly code: string;
  /** A server holds a live connection of the store. */
  readonly connected: boolean;
  /** Since when it is as it is; null = it never connected. */
  readonly linkSinceMs: number | null;
  /** The credential in force; null = none. */
  readonly kid: string | null;
  readonly kidExpiresAt: string | null;
  /** null = nothing was ever ordered. */
  readonly order: OrderView | null;
}

type DbOrderState = Omit<OrderState, 'order'> & { readonly [K in keyof OrderView]: OrderView[K] | null };

/** After the confirmation the store's own word on it takes a round trip; an older store never says any. */
const REPORT_WAIT_MS = 3_000;

export async function readOrderStates(
  db: Queryable,
  storeIds: readonly number[] | null,
): Promise<OrderState[]> {
  const { rows } = await db.query<DbOrderState>(
    `select s.id as "storeId", s.code,
            coalesce(l.connected and l.written_at > clock_timestamp() - $2::bigint * interval '1 millisecond', false)
              as connected,
            (extract(epoch from case when l.connected then l.since else l.written_at end) * 1000)::bigint
              as "linkSinceMs",
            t.kid, to_json(t.expires_at) #>> '{}' as "kidExpiresAt",
            o.id::text, o.old_kid as "oldKid", to_json(old.expires_at) #>> '{}' as "oldUntil",
            case when old.state in ('pending', 'active', 'retiring') and old.expires_at <= now() then 'expired'
                 else coalesce(old.state, 'gone') end as "oldState",
            o.done_at is not null as done,
            coalesce(o.reported_at is not null or o.done_at < now() - $3::bigint * interval '1 millisecond', false)
              as settled,
            o.kid as "newKid", o.offline_ms as "offlineMs", o.failure_code as "failureCode", o.failure
       from public.stores s
       left join possync.live_links l on l.store_id = s.id
       left join possync.rotation_orders o on o.store_id = s.id
       left join possync.tokens old on old.kid = o.old_kid
       left join possync.tokens t on t.store_id = s.id and t.kind = 'credential' and t.state = 'active' and ${IN_FORCE}
      where s.active and ($1::integer[] is null or s.id = any ($1::integer[]))
      order by s.code`,
    [storeIds, LINK_FRESH_MS, REPORT_WAIT_MS],
  );
  return rows.map((row) => {
    const { storeId, code, connected, linkSinceMs, kid, kidExpiresAt } = row;
    return { storeId, code, connected, linkSinceMs, kid, kidExpiresAt, order: orderOf(row) };
  });
}

function orderOf(row: DbOrderState): OrderView | null {
  const { id, oldKid, oldUntil, oldState, done, settled, newKid, offlineMs, failureCode, failure } = row;
  if (id === null || oldKid === null) return null;
  return {
    id,
    oldKid,
    oldUntil,
    oldState: oldState ?? 'gone',
    done: done === true,
    settled: settled === true,
    newKid,
    offlineMs,
    failureCode,
    failure,
  };
}
