/**
 * SQL: the live connections of stores in possync.live_links, and the messages between HQ processes about them.
 *
 * A row is green while `connected` and written within LINK_FRESH_MS: a process that died cannot say so itself.
 */
import type { Queryable } from '../../db/transaction.ts';
import type { StatFrame } from '../../protocol/messages.ts';

/** Servers write every 5 s; two missed writes mean the server is gone. */
export const LINK_FRESH_MS = 10_000;

/** A hint to every `hq serve`, JSON: LinkMessage. Lost ones cost seconds, never a wrong answer. */
export const LINKS_CHANNEL = 'possync_links';

export type LinkMessage =
  /** This store's connection is now at `server`: whoever holds an older one ends it. */
  | { readonly type: 'moved'; readonly store: number; readonly server: string; readonly connection: string }
  /** These credentials were revoked by command: every server writes that into its log. */
  | {
      readonly type: 'revoked';
      readonly store: string;
      readonly kids: readonly string[];
      readonly actor: string;
      readonly reason: string | null;
    }
  /** These stores have an order to rotate: whoever holds their connection tells them. */
  | { readonly type: 'rotate'; readonly stores: readonly number[] }
  /** A rotation has put `by` in the place of these: every server writes that into its log. `until` = their last moment. */
  | {
      readonly type: 'rotated';
      readonly store: string;
      readonly kids: readonly string[];
      readonly by: string;
      readonly until: string | null;
      readonly actor: string;
    }
  /**
   * Ask this store (null: every store) for a `stat` frame with this id; with `head`, tell it first that there is this
   * much to pull: a round without a record for a store is not hinted, and its cursor would stay behind until it polls.
   */
  | { readonly type: 'ask'; readonly store: number | null; readonly id: string; readonly head?: number }
  /** Somebody asks this store to compare itself (possync.verify_runs). */
  | { readonly type: 'verify'; readonly store: number; readonly id: string };

export interface LinkRow {
  readonly storeId: number;
  readonly server: string;
  readonly connection: string;
  readonly daemon: string;
  readonly kid: string;
  readonly remote: string;
  readonly software: string;
  readonly connected: boolean;
  readonly sinceMs: number;
  readonly lastFrameMs: number;
  readonly rttMs: number | null;
  readonly closeCode: number | null;
  readonly closeReason: string | null;
  readonly stat: StatFrame | null;
  readonly statMs: number | null;
}

/** Writes all connections of one server in one statement; an older connection never hides a newer one. */
export async function writeLinks(db: Queryable, rows: readonly LinkRow[]): Promise<void> {
  if (rows.length === 0) return;
  await db.query(
    `insert into possync.live_links as l (store_id, server, connection, daemon, kid, remote, software, connected,
            since, last_frame_at, rtt_ms, close_code, close_reason, stat, stat_at, written_at)
     select r."storeId", r.server, r.connection, r.daemon, r.kid, r.remote, r.software, r.connected,
            to_timestamp(r."sinceMs" / 1000.0), to_timestamp(r."lastFrameMs" / 1000.0), r."rttMs",
            r."closeCode", r."closeReason", r.stat, to_timestamp(r."statMs" / 1000.0), clock_timestamp()
       from jsonb_to_recordset($1::jsonb) as r("storeId" integer, server uuid, connection uuid, daemon uuid, kid text,
            remote text, software text, connected boolean, "sinceMs" bigint, "lastFrameMs" bigint, "rttMs" integer,
            "closeCode" integer, "closeReason" text, stat jsonb, "statMs" bigint)
     on conflict (store_id) do update
        set server = excluded.server, connection = excluded.connection, daemon = excluded.daemon, kid = excluded.kid,
            remote = excluded.remote, software = excluded.software, connected = excluded.connected,
            since = excluded.since, last_frame_at = excluded.last_frame_at, rtt_ms = excluded.rtt_ms,
            close_code = excluded.close_code, close_reason = excluded.close_reason,
            stat = coalesce(excluded.stat, l.stat), stat_at = coalesce(excluded.stat_at, l.stat_at),
            written_at = excluded.written_at
      where l.connection = excluded.connection or l.since <= excluded.since`,
    [JSON.stringify(rows, storable)],
  );
}

/**
 * These connections live: nothing but that, the last frame and the round trip is written. Returns the stores whose row
 * is not of this connection.
 */
export async function touchLinks(db: Queryable, rows: readonly LinkRow[]): Promise<number[]> {
  const { rows: missing } = await db.query<{ storeId: number }>(
    `with living as (
       select r.store_id, r.connection, to_timestamp(r.last_frame / 1000.0) as last_frame_at, r.rtt_ms
         from unnest($1::integer[], $2::uuid[], $3::bigint[], $4::integer[])
              as r (store_id, connection, last_frame, rtt_ms)),
     touched as (
       update possync.live_links l
          set last_frame_at = a.last_frame_at, rtt_ms = a.rtt_ms, written_at = clock_timestamp()
         from living a where l.store_id = a.store_id and l.connection = a.connection and l.connected
       returning l.store_id)
     select a.store_id as "storeId" from living a
      where not exists (select from touched t where t.store_id = a.store_id)`,
    [
      rows.map(({ storeId }) => storeId),
      rows.map(({ connection }) => connection),
      rows.map(({ lastFrameMs }) => lastFrameMs),
      rows.map(({ rttMs }) => rttMs),
    ],
  );
  return missing.map(({ storeId }) => storeId);
}

/**
 * jsonb takes neither NUL nor half a surrogate pair (a text that was cut in the middle of one). What one store says of
 * itself must not keep the rows of all others from being written: they would turn red.
 */
function storable(_key: string, value: unknown): unknown {
  return typeof value === 'string' ? Buffer.from(value).toString().replaceAll('\0', '\uFFFD') : value;
}

/** The daemon that another server holds a live connection of, if its row is fresh. */
export async function liveElsewhere(
  db: Queryable,
  storeId: number,
  server: string,
): Promise<string | undefined> {
  const { rows } = await db.query<{ daemon: string }>(
    `select l.daemon::text from possync.live_links l
      where l.store_id = $1::integer and l.connected and l.server <> $2::uuid
        and l.written_at > clock_timestamp() - $3::bigint * interval '1 millisecond'`,
    [storeId, server, LINK_FRESH_MS],
  );
  return rows[0]?.daemon;
}

export interface HqLight {
  readonly indicator: 'green' | 'red';
  readonly since: string | null;
}

/** HQ's own view of one link, whichever server holds it. */
export async function readLight(db: Queryable, storeId: number): Promise<HqLight> {
  const { rows } = await db.query<HqLight>(
    `select case when l.connected and l.written_at > clock_timestamp() - $2::bigint * interval '1 millisecond'
                 then 'green' else 'red' end as indicator,
            to_char(l.since at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as since
       from possync.live_links l where l.store_id = $1::integer`,
    [storeId, LINK_FRESH_MS],
  );
  return rows[0] ?? { indicator: 'red', since: null };
}

export interface Refused {
  readonly kid: string;
  readonly why: 'revoked' | 'expired' | 'disabled';
}

/** Which of these credentials may no longer be served, and why. */
export async function refusedCredentials(db: Queryable, kids: readonly string[]): Promise<Refused[]> {
  const { rows } = await db.query<Refused>(
    `select k.kid, case when t.kid is null or t.state in ('revoked', 'spent') then 'revoked'
                        when t.state = 'expired' or t.expires_at <= now() then 'expired' else 'disabled' end as why
       from unnest($1::text[]) as k (kid)
       left join possync.tokens t on t.kid = k.kid and t.kind = 'credential'
       left join public.stores s on s.id = t.store_id
      where t.kid is null or t.state not in ('active', 'retiring', 'pending') or t.expires_at <= now()
         or s.active is distinct from true`,
    [kids],
  );
  return rows;
}

/** Whether a session with this fence is the newest of its store, wherever that is held. */
export async function isNewest(db: Queryable, storeId: number, fence: string): Promise<boolean> {
  const { rows } = await db.query(
    'select from possync.inbox i where i.store_id = $1::integer and i.fence = $2::uuid',
    [storeId, fence],
  );
  return rows.length > 0;
}

/** In one transaction: NOTIFY takes a lock of the whole database while it commits. */
export async function tellServers(db: Queryable, ...messages: readonly LinkMessage[]): Promise<void> {
  await db.query('select pg_notify($1::text, m.message) from unnest($2::text[]) as m (message)', [
    LINKS_CHANNEL,
    messages.map((message) => JSON.stringify(message)),
  ]);
}
