/** What a store daemon is started with; the command line, the demo and the tests fill it in. */
import type { Clock } from '../core/clock.ts';
import type { Log } from '../core/log.ts';
import type { ProxySettings } from '../core/proxy.ts';
import type { Running } from '../core/service.ts';
import type { StoreStatusView } from '../protocol/status.ts';
import type { Precheck } from './link/precheck.ts';

/** Reads a request of `possync diagnose`, hands out what it finds line by line, and ends with the report. */
export type DiagnoseService = (
  request: unknown,
  emit: (line: object) => void,
  signal: AbortSignal,
) => Promise<void>;

export interface DaemonOptions {
  readonly databaseUrl: string | undefined;
  /** Holds the credential; and store.sock unless `runtimeDir` is given. */
  readonly stateDir: string;
  /** systemd's RUNTIME_DIRECTORY, where store.sock belongs when there is one. */
  readonly runtimeDir?: string;
  /** Overrides the address the store was enrolled with. */
  readonly hqUrl?: string;
  /** Overrides the CA file the store was enrolled with. */
  readonly caFile?: string;
  /** What decides on a proxy towards HQ; absent: none. */
  readonly proxies?: ProxySettings;
  /** Allows plain HTTP to an HQ beyond loopback, in addition to what the credential says. */
  readonly allowPlaintext?: boolean;
  /** SYNC_PUSH_INTERVAL; 60 s. */
  readonly pushIntervalMs?: number;
  /** How often the cursor is compared with HQ although nothing hinted; 30 s. */
  readonly pullIntervalMs?: number;
  /** How often the credential is looked at for its renewal; 1 h. */
  readonly renewalLookMs?: number;
  /** Loopback status listener; null turns it off, port 0 picks a free one. Default 127.0.0.1:3002. */
  readonly statusListen?: { readonly host: string; readonly port: number } | null;
  /** Where /metrics is served; null or absent: nowhere. */
  readonly metricsListen?: { readonly host: string; readonly port: number } | null;
  /** Where the log is, and how many of its lines were lost: for /metrics. */
  readonly logDir?: string;
  readonly logLost?: () => number;
  /** A page (`http://manager.local`) whose scripts may read the status listener. */
  readonly statusOrigin?: string;
  /** Runs `possync diagnose` in the daemon's process; given by the command line, which knows how. */
  readonly diagnose?: DiagnoseService;
  /** Looks what stands between this store and HQ, when the daemon cannot connect; given by the command line. */
  readonly precheck?: Precheck;
  /** Migrate an old schema instead of refusing it with PS-DB-MIGRATE. */
  readonly migrate?: boolean;
  readonly clock?: Clock;
  readonly log: Log;
}

export interface RunningDaemon extends Running {
  /** Takes up a new credential file at once (SIGHUP). */
  reload(): void;
  /** Forgets the backoff and connects now (SIGUSR1). */
  reconnect(): void;
  /** Everything the daemon knows about itself, without secrets (SIGUSR2). */
  dump(): Record<string, unknown>;
  /** Asks its own database how it stands, in one line; rejects when that does not answer. */
  pulse(): Promise<string>;
  /** What `possync status` shows. */
  status(): Promise<StoreStatusView>;
  /** The unix socket with the local API. */
  readonly socketPath: string;
  /** The loopback status listener, if it could be opened. */
  readonly statusUrl: string | undefined;
  /** The listener of /metrics, if it could be opened. */
  readonly metricsUrl: string | undefined;
}
