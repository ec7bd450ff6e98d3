/**
 * The document of `possync status --json` and GET /api/v1/status, on both sides: names are a contract with scripts.
 * null = unknown, never 0 or false. Times are RFC 3339, durations milliseconds, money cents.
 */

/** Additive within this number: fields come, none goes or changes its meaning. */
export const STATUS_SCHEMA = 'possync.status/1';

/** Since then without a successful sync in either direction a store is offline. */
export const OFFLINE_AFTER_MS = 15 * 60_000;
/** A state written by another process and older than this is history. */
export const FRESH_MS = 10_000;
/** Green, but the queue has not moved for five ticks of 60 s. */
export const STALLED_AFTER_MS = 5 * 60_000;

/** Beyond this a clock is worth a warning: sales carry the times of their till. */
export const CLOCK_SKEW_WARN_MS = 30_000;

/** `active` and `offline` are the same provisioning state, told apart by the last sync. */
export type StatusWord = 'pending_provisioning' | 'active' | 'offline' | 'deactivated';

export interface ReasonView {
  readonly code: string;
  readonly message: string;
  readonly hint: string;
}

export interface ConnectionView {
  /** green ⇔ socket open, hello acknowledged, last frame at most 10 s ago. */
  readonly indicator: 'green' | 'red';
  readonly state: string;
  readonly since: string | null;
  readonly for_ms: number | null;
  readonly last_frame_at: string | null;
  readonly rtt_ms: number | null;
  readonly reason: ReasonView | null;
  /** When the daemon's own diagnosis found `reason`; null: it is what the last attempt met, and always at HQ. */
  readonly diagnosed_at: string | null;
  readonly attempt: number | null;
  readonly next_attempt_at: string | null;
}

/** Whether the database of this side takes and captures what is written: the light says nothing about that. */
export interface DatabaseView {
  readonly state: 'ok' | 'failing';
  readonly reason: ReasonView | null;
}

export interface TodayView {
  readonly business_date: string;
  /** Completed sales of kind sale: how many, Σ total, Σ tax_total. */
  readonly sales: number;
  readonly revenue: number;
  readonly tax: number;
  /** Σ total of completed refunds. */
  readonly refunds: number;
}

export interface TypeView {
  readonly direction: 'up' | 'down' | 'both';
  readonly last_success_at: string | null;
  /** Up: records that HQ has taken. Down: records that the store has, or is meant to have. */
  readonly records: number | null;
}

/** Something that somebody at HQ should look at, though nothing may be red. */
export interface AlertView extends ReasonView {
  /** Its code; null = it concerns HQ itself. */
  readonly store: string | null;
  readonly at: string | null;
}

export interface HqStoreView {
  readonly id: number;
  readonly code: string;
  readonly name: string;
  readonly status: StatusWord;
  readonly stalled: boolean;
  readonly connection: ConnectionView;
  readonly upstream: {
    readonly queued: number | null;
    readonly parked: number;
    readonly oldest_at: string | null;
    /** When the store said so. */
    readonly as_of: string | null;
    readonly halted: string | null;
  };
  readonly downstream: { readonly cursor: number | null; readonly pending: number };
  readonly last_sync_at: string | null;
  readonly last_sale_at: string | null;
  readonly errors: number;
  /** Open findings of the ledger and of the inbox, notes left out; `errors` counts them as well. */
  readonly findings: number;
  readonly software: string | null;
  /** The credential in force; null = none. */
  readonly token: {
    readonly kid: string;
    readonly expires_at: string | null;
    readonly warning: ReasonView | null;
  } | null;
  /** An order to rotate that the store has not carried out yet. */
  readonly rotation: {
    readonly ordered_at: string;
    readonly ordered_by: string;
    readonly failure: { readonly code: string; readonly message: string } | null;
  } | null;
  readonly today: TodayView;
  readonly types: Readonly<Record<string, TypeView>>;
}

export interface HqStatusView {
  readonly role: 'hq';
  readonly head: number;
  readonly database: DatabaseView;
  readonly summary: {
    readonly stores: number;
    readonly connected: number;
    readonly disconnected: number;
    readonly stalled: number;
    readonly parked: number;
    readonly findings: number;
  };
  /** Of the certificates in use the one that ends first; null without TLS, or where no server runs. */
  readonly tls: { readonly not_after: string | null; readonly warning: ReasonView | null } | null;
  readonly alerts: readonly AlertView[];
  readonly stores: readonly HqStoreView[];
}

export interface StoreStatusView {
  readonly role: 'store';
  /** Who told: the running daemon, or the rows it left in the database. */
  readonly source: 'daemon' | 'database';
  readonly store: {
    readonly id: number;
    readonly code: string;
    readonly name: string;
    readonly status: StatusWord;
  } | null;
  readonly connection: ConnectionView;
  readonly upstream: {
    readonly state: 'idle' | 'backlog' | 'halted' | 'stalled';
    readonly queued: number;
    readonly queued_high: number;
    readonly parked: number;
    readonly bytes: number;
    readonly oldest_at: string | null;
    readonly last_sent_at: string | null;
    readonly next_push_at: string | null;
    readonly halted: ReasonView | null;
    readonly last_error: string | null;
    readonly by_type: Readonly<Record<string, number>>;
  };
  readonly downstream: {
    /** `waiting`: a program of the store holds what a download changes; it is tried again by itself. */
    readonly state: 'up_to_date' | 'behind' | 'unknown' | 'waiting' | 'failing';
    readonly cursor: number;
    readonly hq_cursor: number | null;
    readonly last_applied_at: string | null;
    readonly error: ReasonView | null;
    /** When it was first met, without a success since. */
    readonly error_since: string | null;
  };
  readonly database: DatabaseView;
  readonly last_sync_at: string | null;
  readonly token: {
    readonly kid: string;
    readonly expires_at: string | null;
    readonly source: string;
    /** A rotation that was begun and not finished. */
    readonly rotation: 'unfinished' | null;
    readonly warning: ReasonView | null;
  } | null;
  /** HQ's certificate, as this store saw it last; null without TLS. */
  readonly tls: { readonly not_after: string | null; readonly warning: ReasonView | null } | null;
  /** HQ's clock minus this machine's, off by at most `error_ms`; null while there is no connection to measure it. */
  readonly clock: {
    readonly skew_ms: number | null;
    readonly error_ms: number | null;
    readonly warning: ReasonView | null;
  };
  readonly daemon: {
    readonly running: boolean;
    readonly pid: number | null;
    readonly version: string | null;
    readonly started_at: string | null;
    /** When it last wrote its state. */
    readonly written_at: string | null;
    /** 99th percentile of how long it keeps its own events waiting; only the running daemon knows. */
    readonly loop_p99_ms: number | null;
  };
  readonly hq: {
    readonly url: string | null;
    readonly version: string | null;
    /** Plain HTTP beyond this machine; null = the address is not known. */
    readonly unencrypted: boolean | null;
  };
  readonly today: TodayView;
  readonly types: Readonly<Record<string, TypeView>>;
}
