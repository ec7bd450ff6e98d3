/** Turns anything thrown (pg, net, tls, dns, our own) into one PossyncError, once, by its code and never by its message. */
import { PossyncError, type ErrorCode } from './errors.ts';

interface Coded {
  readonly code: string;
  readonly message: string;
}

/** The `code` of a Node or PostgreSQL error; looks into AggregateError (dual-stack connects have an empty message). */
export function codeOf(error: unknown): string | undefined {
  const found = codedPart(error);
  return found?.code;
}

function codedPart(error: unknown): Coded | undefined {
  if (error instanceof AggregateError) {
    for (const part of error.errors) {
      const found = codedPart(part);
      if (found !== undefined) return found;
    }
  }
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') {
    return { code: error.code, message: error.message };
  }
  return undefined;
}

/** SQLSTATE of a PostgreSQL error (five characters), else undefined: EROFS and its like are the operating system's. */
export function sqlstateOf(error: unknown): string | undefined {
  const code = codeOf(error);
  return code !== undefined && /^(?!E[A-Z]{4})[0-9A-Z]{5}$/.test(code) ? code : undefined;
}

/**
 * A data error: the record is at fault, not the server (SQLSTATE classes 22 and 23, and our own PS…). 54000 is a value
 * too long for its index, 54001 a document nested too deep: sent again, they would stop the store for ever.
 */
export function isDataError(error: unknown): boolean {
  const state = sqlstateOf(error);
  return state !== undefined && /^(22|23|PS|5400[01]$)/.test(state);
}

/** Worth repeating the same transaction at once or soon: serialization, deadlock, lock or statement timeout. */
export function isRetryableSql(error: unknown): boolean {
  const state = sqlstateOf(error);
  return state !== undefined && (/^(08|53|57)/.test(state) || ['40001', '40P01', '55P03'].includes(state));
}

export const SOCKET_CODES = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EAI_AGAIN',
  'ENOTFOUND',
  'ENOENT',
  'ECONNABORTED',
  'EADDRNOTAVAIL',
]);

/** The driver gave up waiting for an answer: the line is half open, or the server hangs. It has no code for that. */
export function isReadTimeout(error: unknown): boolean {
  return error instanceof Error && error.message === 'Query read timeout';
}

/** What the driver says, without a code, when the connection is gone or was never had. */
const DRIVER_LOST = new Set([
  'Query read timeout',
  'Connection terminated',
  'Connection terminated unexpectedly',
  'Connection terminated due to connection timeout',
  'Client has encountered a connection error and is not queryable',
  'timeout exceeded when trying to connect',
]);

function driverLost(error: unknown): boolean {
  return error instanceof Error && DRIVER_LOST.has(error.message);
}

/** Names a failure of the local database. */
export function databaseError(error: unknown): PossyncError {
  if (error instanceof PossyncError) return error;
  const part = codedPart(error);
  const message = part?.message ?? (error instanceof Error ? error.message : String(error));
  const named = (code: ErrorCode, text: string): PossyncError =>
    new PossyncError(code, text, { why: message, cause: error });
  if (isReadTimeout(error)) return named('PS-DB-DOWN', 'PostgreSQL does not answer');
  if (part === undefined) return named('PS-DB-DOWN', 'the database connection was lost');
  const { code } = part;
  if (SOCKET_CODES.has(code)) return named('PS-DB-DOWN', 'PostgreSQL does not answer');
  if (code === '28P01' || code === '28000')
    return named('PS-DB-AUTH', 'PostgreSQL refused the user or its password');
  if (code === '3D000') return named('PS-DB-AUTH', 'the database does not exist');
  if (code === '42501') return named('PS-DB-PERM', 'the database user lacks a right');
  if (code === '53100') return named('PS-DB-DISK', 'PostgreSQL is out of disk space');
  if (code === '55P03')
    return named(
      'PS-DB-LOCKED',
      'a table is in use by a long transaction; its lock could not be had in time',
    );
  if (code === '25006') return named('PS-DB-READONLY', 'the database is read-only');
  if (code === '42P01' || code === '3F000' || code === '42703' || code === '42883')
    return named('PS-DB-MIGRATE', 'the database schema does not fit this program');
  if (/^(08|57P)/.test(code)) return named('PS-DB-DOWN', 'PostgreSQL ended the connection');
  return named('PS-DB-ERROR', `PostgreSQL reported ${code}`);
}

/** Whatever was thrown, as a PossyncError; what nobody has named is a bug and says so. */
export function toPossyncError(error: unknown): PossyncError {
  if (error instanceof PossyncError) return error;
  if (sqlstateOf(error) !== undefined || driverLost(error)) return databaseError(error);
  return new PossyncError('PS-INTERNAL', error instanceof Error ? error.message : String(error), {
    cause: error,
  });
}
