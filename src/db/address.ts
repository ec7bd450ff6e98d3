/**
 * Whether two programs of one machine mean the same database, without a connection: a fingerprint of where it is.
 *
 * Equal fingerprints are the same database; different ones, or none, say nothing (`localhost` and `127.0.0.1` differ).
 * Only what cannot be mistaken has one: an address with host and name, and nothing that leads elsewhere. A hash, because
 * it is told to whoever may ask the daemon, and where a chain's database is need not be known to all of them.
 */
import { createHash } from 'node:crypto';
import { readlinkSync } from 'node:fs';

/** An answer of the daemon's socket carries it. */
export const DATABASE_HEADER = 'possync-database';

const DEFAULT_PORT = '5432';

export function databaseFingerprint(url: string | undefined): string | undefined {
  const place = url === undefined ? placeOfEnvironment() : placeOf(url);
  if (place === undefined) return undefined;
  // A daemon in a container with the same socket folder has a localhost of its own.
  return createHash('sha256')
    .update(JSON.stringify([network(), ...place]))
    .digest('base64url');
}

type Place = readonly [host: string, port: string, database: string];

function placeOf(url: string): Place | undefined {
  if (!URL.canParse(url)) return undefined;
  const { protocol, hostname, port, pathname, search } = new URL(url);
  if (!/^postgres(ql)?:$/.test(protocol) || search !== '') return undefined;
  return checked([
    hostname.toLowerCase(),
    port === '' ? (process.env.PGPORT ?? DEFAULT_PORT) : port,
    pathname.slice(1),
  ]);
}

/** As the driver reads it, where there is no address. */
function placeOfEnvironment(): Place | undefined {
  const { PGHOST = '', PGPORT = DEFAULT_PORT, PGDATABASE = '' } = process.env;
  return checked([PGHOST, PGPORT, PGDATABASE]);
}

/** A folder of sockets is another one in another mount namespace; without a name the user's name is taken. */
function checked(place: Place): Place | undefined {
  const [host, , database] = place;
  return host === '' || /[/%]/.test(host) || database === '' ? undefined : place;
}

function network(): string {
  try {
    return readlinkSync('/proc/self/ns/net');
  } catch {
    return ''; // not Linux: there is one
  }
}
