/** What an HQ server is started with; the command line, the demo and the tests fill it in. */
import type { Clock } from '../core/clock.ts';
import type { Log } from '../core/log.ts';
import type { Running } from '../core/service.ts';

export interface HqOptions {
  readonly databaseUrl: string | undefined;
  /** Default 127.0.0.1 without TLS, 0.0.0.0 with. */
  readonly host?: string;
  /** Default 3001; 0 picks a free one. */
  readonly port?: number;
  readonly tls?: { readonly certFile: string; readonly keyFile: string };
  /** Where /metrics is served; null or absent: nowhere. */
  readonly metricsListen?: { readonly host: string; readonly port: number } | null;
  /** Allows plain HTTP beyond loopback. */
  readonly allowPlaintext?: boolean;
  /** Migrate an old schema instead of refusing it with PS-DB-MIGRATE. */
  readonly migrate?: boolean;
  /** How long a store's credential lives; null = until it is revoked. Default CREDENTIAL_LIFE_MS. */
  readonly credentialLifeMs?: number | null;
  readonly clock?: Clock;
  readonly log: Log;
}

export interface RunningHq extends Running {
  /** http(s)://host:port for programs of this machine. */
  readonly url: string;
  /** The address it listens on, as it was given: 0.0.0.0 is every address of this machine. */
  readonly listens: string;
  /** No TLS, and others than this machine can connect. */
  readonly unencrypted: boolean;
  readonly port: number;
  /** The local port with /metrics, if it could be opened. */
  readonly watchUrl: string | undefined;
  /** Reads certificate and key again (SIGHUP); open sockets stay. */
  reload(): void;
  /** Asks its own database how it stands, in one line; rejects when that does not answer. */
  pulse(): Promise<string>;
  /** Everything the server knows about itself, without secrets (SIGUSR2). */
  dump(): Record<string, unknown>;
}
