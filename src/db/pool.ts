/**
 * Connections to PostgreSQL: one place for timeouts, names and value types.
 *
 * bigint arrives as a JS number when it is a safe integer (positions, sequences, cents: far below 2^53) and fails
 * loudly when it is not; numeric, date and timestamptz stay text, so that nothing is rounded or moved by a time zone.
 */
import pg from 'pg';
import { databaseError } from '../core/classify.ts';

export interface DatabaseOptions {
  /** libpq-style URL; without it PGHOST, PGUSER … apply. */
  readonly url: string | undefined;
  /** Seen in pg_stat_activity: `possync hq`, `possync store`, `possync status`. */
  readonly applicationName: string;
  readonly max?: number;
  /** Ends statements that wait too long; 0 = none. */
  readonly statementTimeoutMs?: number;
  /** Ends the wait for a lock that somebody else holds; 0 = none. */
  readonly lockTimeoutMs?: number;
  /** Gives up an answer that does not come: a half-open line holds its request no longer; 0 = never. */
  readonly queryTimeoutMs?: number;
}

const INT8 = 20;
const TEXT_TYPES = new Set([
  1082, // date
  1114, // timestamp
  1184, // timestamptz: a JS Date would lose its microseconds
  1700, // numeric
  114, // json: read by whoever needs it
  3802, // jsonb
]);

/** pg declares its parsers for its own list of oids only; the driver asks for any oid. */
const defaultParser = pg.types.getTypeParser as (oid: number, format: string) => (value: string) => unknown;

const types: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format: 'text' | 'binary' = 'text'): ((value: string) => unknown) => {
    if (format === 'text' && oid === INT8) return parseSafeInteger;
    if (format === 'text' && TEXT_TYPES.has(oid)) return (text) => text;
    return defaultParser(oid, format);
  }) as pg.CustomTypesConfig['getTypeParser'],
};

function parseSafeInteger(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new RangeError(`bigint ${text} is beyond 2^53`);
  return value;
}

function clientConfig({
  url,
  applicationName,
  statementTimeoutMs,
  lockTimeoutMs,
  queryTimeoutMs,
}: DatabaseOptions): pg.ClientConfig {
  return {
    ...(url === undefined ? {} : { connectionString: url }),
    application_name: applicationName,
    connectionTimeoutMillis: 5_000,
    keepAlive: true,
    // The system waits two hours before its first probe; a LISTEN on a dead line must be noticed far earlier.
    keepAliveInitialDelayMillis: 10_000,
    ...(queryTimeoutMs === undefined ? {} : { query_timeout: queryTimeoutMs }),
    // A half-open connection must not hold a lock for ever: the server gives up within half a minute, whether it
    // waits for a word (keepalives) or for its own being taken (user timeout).
    options: [
      '-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 -c tcp_user_timeout=30000',
      '-c idle_in_transaction_session_timeout=60000',
      `-c statement_timeout=${statementTimeoutMs ?? 0} -c lock_timeout=${lockTimeoutMs ?? 0}`,
    ].join(' '),
    types,
  };
}

/** A pool; errors of idle connections are swallowed here because the next query reports them properly. */
export function createPool(options: DatabaseOptions): pg.Pool {
  const pool = new pg.Pool({ ...clientConfig(options), max: options.max ?? 5, idleTimeoutMillis: 30_000 });
  pool.on('error', () => undefined);
  // A connection in use has no listener of the pool: its end would be an uncaught exception, beside the query's own.
  pool.on('connect', (client) => {
    client.on('error', () => undefined);
  });
  return pool;
}

/** One connection outside any pool, for LISTEN, advisory locks and COPY. */
export async function connect(options: DatabaseOptions): Promise<pg.Client> {
  const client = new pg.Client(clientConfig(options));
  client.on('error', () => undefined); // reported by the next query, or by 'end'
  try {
    await client.connect();
  } catch (error) {
    throw databaseError(error);
  }
  return client;
}
