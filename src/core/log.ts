/** What the rooms know of the log: plain words first, fields second, one child per component. */

/** What can happen, as a closed list: dashboards and alerts are written against these words. */
export type LogEvent =
  | 'start'
  | 'stop'
  | 'link.up'
  | 'link.down'
  | 'link.still_down'
  | 'link.diagnosed'
  | 'push.batch'
  | 'push.rejected'
  | 'pull.batch'
  | 'pull.applied'
  | 'verify'
  | 'queue.parked'
  | 'token.rotated'
  | 'token.revoked'
  | 'config.reloaded'
  | 'db.lost'
  | 'db.back'
  | 'log.dropped';

export interface LogFields {
  readonly event?: LogEvent | undefined;
  /** A code of core/errors.ts. */
  readonly code?: string | undefined;
  /** Any thrown thing; its code and message are written, its stack only at level debug. */
  readonly err?: unknown;
  readonly [field: string]: unknown;
}

export interface Log {
  error(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  debug(message: string, fields?: LogFields): void;
  /** The same log with these fields on every line. */
  child(fields: LogFields): Log;
}

/** Writes nothing: for callers that have no log, such as a library user or a unit test. */
export const silentLog: Log = {
  error: () => undefined,
  warn: () => undefined,
  info: () => undefined,
  debug: () => undefined,
  child: () => silentLog,
};
