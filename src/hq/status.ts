/**
 * How every store stands, as HQ sees it: the one function behind `possync status`, the API and the dashboard.
 *
 * Read in one snapshot, so that head, cursors and queues of one answer fit together.
 */
import type pg from 'pg';
import { documentHead, type DocumentHead } from '../core/document.ts';
import { ERRORS, EXIT, type ErrorCode } from '../core/errors.ts';
import { captureFault } from '../db/health.ts';
import { withTransaction } from '../db/transaction.ts';
import { CLOSE, RENEW_REASON } from '../protocol/http.ts';
import {
  FRESH_MS,
  OFFLINE_AFTER_MS,
  STALLED_AFTER_MS,
  STATUS_SCHEMA,
  type ConnectionView,
  type HqStatusView,
  type HqStoreView,
  type ReasonView,
  type StatusWord,
} from '../protocol/status.ts';
import { readCredentials, type CredentialsOfStore } from './status-credentials.ts';
import { readStoreRows, type DbStoreRow } from './status-rows.ts';
import { readTypes, type TypesOfStore } from './status-types.ts';

export interface HqStatusOptions {
  /** Only this store. */
  readonly storeId?: number;
}

export async function readHqStatus(pool: pg.Pool, { storeId }: HqStatusOptions = {}): Promise<HqStatusView> {
  return await withTransaction(
    pool,
    async (tx) => {
      const { head, rows } = await readStoreRows(tx, storeId);
      const types = await readTypes(tx, storeId);
      const fault = await captureFault(tx, 'hq');
      const credentials = await readCredentials(tx, storeId);
      const stores = rows.map((row) => storeView(row, types.get(row.id), credentials.stores.get(row.id)));
      return {
        role: 'hq' as const,
        head,
        database: {
          state: fault === undefined ? ('ok' as const) : ('failing' as const),
          reason: fault ?? null,
        },
        summary: summaryOf(stores),
        tls: credentials.tls,
        alerts: credentials.alerts,
        stores,
      };
    },
    { isolation: 'repeatable read', readOnly: true },
  );
}

export function summaryOf(stores: readonly HqStoreView[]): HqStatusView['summary'] {
  const serving = stores.filter(isServing);
  return {
    stores: stores.length,
    connected: serving.filter((store) => store.connection.indicator === 'green').length,
    disconnected: serving.filter((store) => store.connection.indicator === 'red').length,
    stalled: stores.filter((store) => store.stalled).length,
    parked: stores.reduce((sum, store) => sum + store.upstream.parked, 0),
    findings: stores.reduce((sum, store) => sum + store.findings, 0),
  };
}

/** A store that ought to be connected: enrolled and not deactivated. */
export function isServing(store: Pick<HqStoreView, 'status'>): boolean {
  return store.status === 'active' || store.status === 'offline';
}

/** What `possync status --json` prints and /api/v1/status answers. */
export function statusDocument(view: HqStatusView, nowMs: number): DocumentHead & HqStatusView {
  return { ...documentHead(STATUS_SCHEMA, isGreen(view) ? EXIT.ok : EXIT.no, nowMs), ...view };
}

/** Green at HQ = every store that ought to be connected is. */
export function isGreen(status: HqStatusView): boolean {
  return status.stores.filter(isServing).every((store) => store.connection.indicator === 'green');
}

function storeView(
  row: DbStoreRow,
  types: TypesOfStore | undefined,
  credentials: CredentialsOfStore | undefined,
): HqStoreView {
  const status = wordOf(row);
  const connection = connectionOf(row, status);
  const queued = row.queued;
  return {
    id: row.id,
    code: row.code,
    name: row.name,
    status,
    stalled:
      connection.indicator === 'green' &&
      (queued ?? 0) > 0 &&
      row.nowMs - (row.oldestMs ?? row.nowMs) > STALLED_AFTER_MS &&
      row.nowMs - Math.max(row.pushedMs ?? 0, row.linkSinceMs ?? 0) > STALLED_AFTER_MS,
    connection,
    upstream: {
      queued,
      parked: row.parked,
      oldest_at: iso(row.oldestMs),
      as_of: iso(row.statMs),
      halted: row.stopped ?? row.halted,
    },
    downstream: { cursor: row.cursor, pending: row.pending },
    last_sync_at: iso(row.lastSyncMs),
    last_sale_at: iso(types?.lastSaleMs ?? null),
    errors: row.parked + row.findings + (row.downError === null ? 0 : 1),
    findings: row.findings,
    software: row.software,
    token: credentials?.token ?? null,
    rotation: credentials?.rotation ?? null,
    today: {
      business_date: row.today,
      sales: row.sales,
      revenue: row.revenue,
      tax: row.tax,
      refunds: row.refunds,
    },
    types: types?.views(row.lastPullMs) ?? {},
  };
}

function wordOf(row: DbStoreRow): StatusWord {
  if (!row.active) return 'deactivated';
  if (row.activatedMs === null) return 'pending_provisioning';
  // A store enrolled a minute ago has not missed anything yet.
  const last = Math.max(row.lastSyncMs ?? 0, row.activatedMs);
  return row.nowMs - last > OFFLINE_AFTER_MS ? 'offline' : 'active';
}

function connectionOf(row: DbStoreRow, status: StatusWord): ConnectionView {
  const silent =
    row.connected &&
    (row.nowMs - (row.writtenMs ?? 0) > FRESH_MS || (row.writtenMs ?? 0) - (row.lastFrameMs ?? 0) > FRESH_MS);
  const green = row.connected && !silent;
  // Silent since the last sign of life, not since the connection began.
  const since = silent
    ? row.lastFrameMs
    : row.connected
      ? row.linkSinceMs
      : (row.writtenMs ?? row.linkSinceMs);
  return {
    indicator: green ? 'green' : 'red',
    state: green ? 'connected' : 'disconnected',
    since: iso(since),
    for_ms: since === null ? null : Math.max(0, row.nowMs - since),
    last_frame_at: iso(row.lastFrameMs),
    rtt_ms: green ? row.rttMs : null,
    reason: green ? null : reasonOf(row, status, silent),
    diagnosed_at: null,
    attempt: null,
    next_attempt_at: null,
  };
}

/** What the closing code of a connection says to people; its reason is for the other program. */
const ENDED: Readonly<Record<number, string>> = {
  [CLOSE.bye]: 'stopped its daemon',
  [CLOSE.goingAway]: 'stopped its daemon',
  [CLOSE.restarting]: 'HQ stopped or restarted; not back yet',
  [CLOSE.tryLater]: 'told to come back later; not back yet',
  [CLOSE.slowDown]: 'told to slow down; not back yet',
  [CLOSE.badFrame]: 'sent what HQ does not understand',
  [CLOSE.tokenRefused]: 'its credential was refused; not back yet',
  [CLOSE.forbidden]: 'was not let in; not back yet',
};

function reasonOf(row: DbStoreRow, status: StatusWord, silent: boolean): ReasonView {
  if (status === 'deactivated') return reason('PS-STORE-DISABLED', 'deactivated');
  if (status === 'pending_provisioning') return reason('PS-NOT-ENROLLED', 'not enrolled yet');
  if (!row.credential) return reason('PS-TOKEN-REVOKED', 'no valid credential');
  if (row.writtenMs === null) return reason('PS-HQ-UNREACHABLE', 'has never connected');
  // Every `hq serve` writes its connections every few seconds: if it does not, HQ's side went away and not the store's.
  if (silent && row.nowMs - row.writtenMs > FRESH_MS)
    return reason('PS-HQ-SERVE-DOWN', 'the HQ server it was connected to is gone');
  if (silent) return reason('PS-WS-SILENT', 'went silent');
  if (row.closeCode === CLOSE.silent) return reason('PS-WS-SILENT', 'went silent');
  if (row.closeCode === CLOSE.replaced) return reason('PS-FENCED', 'replaced by a newer connection');
  if (row.closeCode === CLOSE.bye && row.closeReason === RENEW_REASON)
    return reason('PS-WS-CLOSED', 'left to connect anew; not back yet');
  if (row.closeCode === CLOSE.version)
    return reason('PS-VER-INCOMPATIBLE', 'speaks another protocol version');
  return reason(
    'PS-WS-CLOSED',
    (row.closeCode === null ? undefined : ENDED[row.closeCode]) ?? 'connection lost',
  );
}

function reason(code: ErrorCode, message: string): ReasonView {
  return { code, message, hint: ERRORS[code].hint };
}

function iso(ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString();
}
