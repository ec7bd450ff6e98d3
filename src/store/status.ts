/**
 * How this store stands: the one function behind `possync status`, the daemon's API and the demo.
 *
 * Everything is read from the store's database, where the daemon writes its link at each change and every five
 * seconds; so the answer is the same from the daemon, and possible without it.
 */
import type pg from 'pg';
import { documentHead, type DocumentHead } from '../core/document.ts';
import { ERRORS, EXIT, isErrorCode, type ErrorCode, type PossyncError } from '../core/errors.ts';
import { isUnencrypted } from '../core/loopback.ts';
import { formatDuration } from '../core/quantities.ts';
import { captureFault, type DatabaseFault } from '../db/health.ts';
import { withTransaction } from '../db/transaction.ts';
import { expiryWarning } from '../protocol/expiry.ts';
import {
  CLOCK_SKEW_WARN_MS,
  FRESH_MS,
  OFFLINE_AFTER_MS,
  STALLED_AFTER_MS,
  STATUS_SCHEMA,
  type ConnectionView,
  type DatabaseView,
  type ReasonView,
  type StatusWord,
  type StoreStatusView,
} from '../protocol/status.ts';
import { readCredential, type StoreCredential } from './credential.ts';
import { readMirrorState, type MirrorState } from './mirror/cursor.ts';
import { readStoreIdentity } from './outbox/identity.ts';
import { countQueue, type QueueCounts } from './outbox/queue.ts';
import { diskFree } from './outbox/retention.ts';
import {
  readLinkRow,
  readNowMs,
  readSelf,
  readToday,
  readTypes,
  type DbLinkRow,
  type DbSelfRow,
} from './status-rows.ts';

/** Less than this and the next page of a table may find no room. */
const DISK_FULL_SHARE = 0.01;

export interface StoreStatusOptions {
  readonly stateDir: string;
  /** The daemon says `daemon`: it runs, whatever the age of its last row. */
  readonly source: StoreStatusView['source'];
  readonly loopP99Ms?: number | null;
  /** Why the daemon could not write its state just now, if so: it then says the rest from what it can still read. */
  readonly writeFault?: PossyncError | undefined;
}

export async function readStoreStatus(
  pool: pg.Pool,
  { stateDir, source, loopP99Ms = null, writeFault }: StoreStatusOptions,
): Promise<StoreStatusView> {
  const credential = await credentialIfAny(stateDir);
  const free = await diskFree(pool);
  return await withTransaction(
    pool,
    async (tx) => {
      const nowMs = await readNowMs(tx);
      const identity = await readStoreIdentity(tx);
      const self = identity === undefined ? undefined : await readSelf(tx, identity.id);
      const link = await readLinkRow(tx);
      const queue = await countQueue(tx);
      const mirror = await readMirrorState(tx);
      const fault = writeFault ?? diskFault(free, queue) ?? (await captureFault(tx, 'store'));
      // A daemon that was stopped says so in its last row: it is idle although it has a store to connect.
      const stopped = link === undefined || (link.state === 'idle' && identity !== undefined);
      const running = source === 'daemon' || (!stopped && nowMs - link.writtenMs <= FRESH_MS);
      const connection = connectionOf(link, running, nowMs, identity !== undefined);
      const green = connection.indicator === 'green';
      const hqUrl = link?.hqUrl ?? credential?.hqUrl ?? null;
      const lastSyncMs = latest(queue.ackedAt, mirror.appliedAt, green ? connection.last_frame_at : null);
      return {
        role: 'store' as const,
        source,
        store:
          identity === undefined
            ? null
            : {
                id: identity.id,
                code: identity.code,
                name: self?.name ?? credential?.name ?? identity.code,
                status: wordOf(self, link, lastSyncMs, nowMs),
              },
        connection,
        upstream: upstreamOf(queue, green, nowMs),
        downstream: downstreamOf(mirror, link, green),
        database: databaseOf(fault),
        last_sync_at: lastSyncMs === null ? null : new Date(lastSyncMs).toISOString(),
        token: tokenOf(credential, link, nowMs),
        tls: tlsOf(link, nowMs),
        clock: clockOf(link, green),
        daemon: {
          running,
          pid: running ? (link?.pid ?? null) : null,
          version: link?.version ?? null,
          started_at: running ? iso(link?.startedMs) : null,
          written_at: iso(link?.writtenMs),
          loop_p99_ms: loopP99Ms,
        },
        hq: {
          url: hqUrl,
          version: link?.hqVersion ?? null,
          unencrypted: hqUrl === null ? null : isUnencrypted(hqUrl),
        },
        today: await readToday(tx, self?.timeZone),
        types: await readTypes(tx, utc(queue.ackedAt), mirror.appliedAt),
      };
    },
    { isolation: 'repeatable read', readOnly: true },
  );
}

/** What `possync status --json` prints and /api/v1/status answers. */
export function statusDocument(view: StoreStatusView, nowMs: number): DocumentHead & StoreStatusView {
  const exit = view.connection.indicator === 'green' ? EXIT.ok : EXIT.no;
  return { ...documentHead(STATUS_SCHEMA, exit, nowMs), ...view };
}

/** A till that cannot write is told by PostgreSQL alone; so the disk itself is looked at. */
function diskFault(free: number | undefined, { lastError }: QueueCounts): DatabaseFault | undefined {
  const full = free !== undefined && free < DISK_FULL_SHARE;
  if (!full && lastError !== 'PS-DB-DISK') return undefined;
  return {
    code: 'PS-DB-DISK',
    message: full ? 'the disk of PostgreSQL is full' : 'PostgreSQL is out of disk space',
    hint: ERRORS['PS-DB-DISK'].hint,
  };
}

function databaseOf(fault: DatabaseFault | PossyncError | undefined): DatabaseView {
  if (fault === undefined) return { state: 'ok', reason: null };
  const { code, message, hint } = fault;
  return { state: 'failing', reason: { code, message, hint } };
}

/** A credential that cannot be read is a finding of its own (the daemon's reason), not a reason to show nothing. */
async function credentialIfAny(stateDir: string): Promise<StoreCredential | undefined> {
  try {
    return await readCredential(stateDir);
  } catch {
    return undefined;
  }
}

function connectionOf(
  link: DbLinkRow | undefined,
  running: boolean,
  nowMs: number,
  enrolled: boolean,
): ConnectionView {
  if (link === undefined || !running) {
    const since = link?.writtenMs ?? null;
    return {
      indicator: 'red',
      state: 'disconnected',
      since: iso(since),
      for_ms: since === null ? null : Math.max(0, nowMs - since),
      last_frame_at: iso(link?.lastFrameMs),
      rtt_ms: null,
      reason: !enrolled
        ? reasonOf('PS-NOT-ENROLLED', 'this store is not enrolled at HQ')
        : running
          ? reasonOf('PS-HQ-UNREACHABLE', 'connecting')
          : reasonOf('PS-DAEMON-DOWN', 'daemon not running'),
      diagnosed_at: null,
      attempt: null,
      next_attempt_at: null,
    };
  }
  const green = link.indicator === 'green';
  return {
    indicator: link.indicator,
    state: green ? 'connected' : 'disconnected',
    since: iso(link.sinceMs),
    for_ms: Math.max(0, nowMs - link.sinceMs),
    last_frame_at: iso(link.lastFrameMs),
    rtt_ms: link.rttMs,
    reason: green ? null : reasonFrom(link.reasonCode, link.reasonMessage, 'connecting'),
    diagnosed_at: green ? null : iso(link.diagnosedMs),
    attempt: green ? null : link.attempt,
    next_attempt_at: green ? null : iso(link.nextAttemptMs),
  };
}

function reasonOf(code: ErrorCode, message: string): ReasonView {
  return { code, message, hint: ERRORS[code].hint };
}

function reasonFrom(code: string | null, message: string | null, otherwise: string): ReasonView {
  const known = code !== null && isErrorCode(code) ? code : 'PS-HQ-UNREACHABLE';
  return reasonOf(known, message ?? otherwise);
}

function wordOf(
  self: DbSelfRow | undefined,
  link: DbLinkRow | undefined,
  lastSyncMs: number | null,
  nowMs: number,
): StatusWord {
  // HQ says it as it cuts the link, and no later download can.
  if (self?.active === false || link?.reasonCode === 'PS-STORE-DISABLED') return 'deactivated';
  return lastSyncMs === null || nowMs - lastSyncMs > OFFLINE_AFTER_MS ? 'offline' : 'active';
}

function upstreamOf(queue: QueueCounts, green: boolean, nowMs: number): StoreStatusView['upstream'] {
  const old = (at: string | null): boolean => at === null || nowMs - Date.parse(at) > STALLED_AFTER_MS;
  const stalled = green && queue.queued > 0 && old(queue.oldestAt) && old(queue.ackedAt);
  return {
    state: queue.halted !== null ? 'halted' : stalled ? 'stalled' : queue.queued > 0 ? 'backlog' : 'idle',
    queued: queue.queued,
    queued_high: queue.queuedHigh,
    parked: queue.parked,
    bytes: queue.bytes,
    oldest_at: utc(queue.oldestAt),
    last_sent_at: utc(queue.ackedAt),
    next_push_at: utc(queue.nextTryAt),
    halted: queue.halted === null ? null : reasonFrom(queue.halted, queue.haltedWhy, 'sending has stopped'),
    last_error: queue.lastError,
    by_type: queue.byType,
  };
}

function downstreamOf(
  mirror: MirrorState,
  link: DbLinkRow | undefined,
  green: boolean,
): StoreStatusView['downstream'] {
  const hqHead = green ? (link?.hqHead ?? null) : null;
  const state =
    mirror.error !== null
      ? mirror.error.code === 'PS-APPLY-WAITS'
        ? 'waiting'
        : 'failing'
      : hqHead === null
        ? 'unknown'
        : mirror.pos >= hqHead
          ? 'up_to_date'
          : 'behind';
  return {
    state,
    cursor: mirror.pos,
    hq_cursor: hqHead,
    last_applied_at: mirror.appliedAt,
    error: mirror.error === null ? null : reasonFrom(mirror.error.code, mirror.error.message, ''),
    error_since: mirror.error?.at ?? null,
  };
}

function tokenOf(
  credential: StoreCredential | undefined,
  link: DbLinkRow | undefined,
  nowMs: number,
): StoreStatusView['token'] {
  const kid = credential?.kid ?? link?.kid ?? null;
  return kid === null
    ? null
    : {
        kid,
        expires_at: credential?.expiresAt ?? null,
        source: credential === undefined ? 'daemon' : 'file',
        rotation: credential?.rotation === undefined ? null : 'unfinished',
        warning: expiryWarning('credential', credential?.issuedAt, credential?.expiresAt, nowMs),
      };
}

/** As the link saw it last; a certificate renewed meanwhile is seen with the next connection. */
function tlsOf(link: DbLinkRow | undefined, nowMs: number): StoreStatusView['tls'] {
  const notAfter = iso(link?.tlsNotAfterMs);
  if (notAfter === null) return null;
  return {
    not_after: notAfter,
    warning: expiryWarning('certificate', iso(link?.tlsNotBeforeMs), notAfter, nowMs),
  };
}

/** Of the connection that is up: what was measured before it says nothing of a clock that may have been set since. */
function clockOf(link: DbLinkRow | undefined, green: boolean): StoreStatusView['clock'] {
  const skew = green ? (link?.clockSkewMs ?? null) : null;
  const error = link?.clockErrorMs ?? 0;
  const wrong = skew !== null && Math.abs(skew) - error > CLOCK_SKEW_WARN_MS;
  const way = (skew ?? 0) > 0 ? 'behind' : 'ahead of';
  return {
    skew_ms: skew,
    error_ms: skew === null ? null : error,
    warning: wrong
      ? reasonOf('PS-CLOCK-SKEW', `this store's clock is ${formatDuration(Math.abs(skew))} ${way} HQ`)
      : null,
  };
}

function latest(...times: (string | null)[]): number | null {
  const known = times.filter((at) => at !== null).map((at) => Date.parse(at));
  return known.length === 0 ? null : Math.max(...known);
}

function iso(ms: number | null | undefined): string | null {
  return ms === null || ms === undefined ? null : new Date(ms).toISOString();
}

/** PostgreSQL's text of a timestamptz, in the form of JSON documents. */
function utc(at: string | null): string | null {
  return at === null ? null : new Date(at).toISOString();
}
