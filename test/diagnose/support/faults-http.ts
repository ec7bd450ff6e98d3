/** Faults of HTTP, of HQ itself, and of the credential as HQ sees it. */
import { HQ_HEADER, ROUTES } from '../../../src/protocol/http.ts';
import type { Fault } from './faults.ts';
import type { HqWish } from './hq.ts';

function hqFault(what: string, code: Fault['code'], how: string, wish: HqWish): Fault {
  return { what, code, how, arrange: async (lab) => ({ hqUrl: await lab.hq(wish) }) };
}

/** A box that answers every request in place of HQ. */
function boxFault(
  what: string,
  code: Fault['code'],
  status: number,
  headers: Readonly<Record<string, string>>,
  page: string,
): Fault {
  return hqFault(what, code, `${status} without HQ's header`, {
    intercept(_request, response) {
      response.writeHead(status, { 'content-type': 'text/html', ...headers });
      response.end(page);
      return true;
    },
  });
}

function tokenFault(what: string, code: Fault['code'], status: number): Fault {
  return hqFault(what, code, `${status} ${code}`, { token: { status, code } });
}

export const HTTP_FAULTS: readonly Fault[] = [
  hqFault('HTTP requests are cut', 'PS-HTTP-CUT', 'socket destroyed on the request', {
    intercept(request) {
      request.socket.destroy();
      return true;
    },
  }),
  hqFault('HTTP requests get no answer', 'PS-HTTP-SILENT', 'request taken, nothing said', {
    intercept: () => true,
  }),
  boxFault(
    'another web server answers',
    'PS-HTTP-NOTHQ',
    200,
    { server: 'nginx' },
    '<title>Welcome to nginx!</title>',
  ),
  boxFault(
    'a login page is in the way',
    'PS-HTTP-PORTAL',
    302,
    { location: 'http://portal.local/login' },
    '',
  ),
  boxFault(
    'a web filter blocks HQ',
    'PS-HTTP-BLOCKED',
    403,
    { server: 'FortiGate' },
    '<title>Web filter</title>',
  ),
  boxFault(
    'the load balancer of HQ finds no server',
    'PS-HQ-ERROR',
    502,
    { server: 'haproxy' },
    '<title>502</title>',
  ),
  hqFault('another HQ answers', 'PS-HTTP-OTHERHQ', 'other id', {
    hqId: '01890000-0000-7000-8000-0000000000ff',
  }),
  hqFault('HQ is not ready', 'PS-HQ-NOTREADY', '/readyz 503', { ready: { status: 503, code: 'PS-DB-DOWN' } }),
  hqFault('HQ is busy', 'PS-HQ-BUSY', '429 with Retry-After', {
    intercept(request, response) {
      if (request.url !== ROUTES.diagPing) return false;
      response.writeHead(429, { [HQ_HEADER]: 'busy', 'retry-after': '30' });
      response.end();
      return true;
    },
  }),
  hqFault('HQ needs a newer protocol', 'PS-VER-INCOMPATIBLE', 'protocol 8 to 9', {
    protocol: { version: 9, oldest: 8 },
  }),
  hqFault('HQ is newer than this store', 'PS-VER-OLD', 'possync 9.4.0', { software: 'possync 9.4.0' }),
  hqFault('a proxy is on the path', 'PS-HTTP-PROXIED', 'Via arrives at HQ', {
    seenHeaders: { via: '1.1 squid' },
  }),
  tokenFault('HQ does not know the token', 'PS-TOKEN-UNKNOWN', 401),
  tokenFault('the token has expired', 'PS-TOKEN-EXPIRED', 401),
  tokenFault('the token was revoked', 'PS-TOKEN-REVOKED', 401),
  tokenFault('the token belongs to another store', 'PS-TOKEN-STORE', 403),
  tokenFault('the store was deactivated', 'PS-STORE-DISABLED', 403),
  hqFault('the token is of another store than this database', 'PS-TOKEN-STORE', 'HQ names store NYC-041', {
    whoami: { store: { id: 41, code: 'NYC-041', name: 'Oak Street' } },
  }),
  hqFault('the token expires soon', 'PS-TOKEN-EXPIRING', 'in 9 days', {
    whoami: { expires_at: new Date(Date.now() + 9.5 * 86_400_000).toISOString() },
  }),
  hqFault(
    'a filter refuses requests with a token',
    'PS-HTTP-BLOCKED',
    "403 without HQ's header, with a token only",
    {
      intercept(request, response) {
        if (request.headers.authorization === undefined) return false;
        response.writeHead(403, { server: 'DLP' });
        response.end('<title>Data leak prevention</title>');
        return true;
      },
    },
  ),
  hqFault('a clone of this store is connected', 'PS-WS-DUPLICATE', 'HQ counts two connections', {
    connections: 2,
  }),
  {
    what: 'HQ does not see the connection that the daemon has',
    code: 'PS-VIEW-DIFFERS',
    how: 'the daemon says green for a minute, HQ red',
    async arrange(lab) {
      const since = new Date(Date.now() - 60_000).toISOString();
      const socketPath = await lab.daemon({
        connection: { indicator: 'green', since },
        daemon: { pid: 812 },
      });
      const hqUrl = await lab.hq({ whoami: { light: { indicator: 'red', since } } });
      return { hqUrl, subject: { socketPath }, only: ['daemon.running', 'token', 'ws.hqview'] };
    },
  },
];
