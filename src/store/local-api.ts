/**
 * The daemon's own small HTTP: a unix socket for the commands on this machine, and a loopback port for probes.
 *
 *   store.sock          GET /api/v1/status · POST /api/v1/{pull[?fresh=1],push,reload,credential,re-enrol[?from=DATE]}
 *   127.0.0.1:3002      GET /livez /readyz /connz /api/v1/status, read only
 *
 * The socket's rights (0660) are its authentication; the port changes nothing and shows no secret.
 */
import { once } from 'node:events';
import { chmod, mkdir, unlink } from 'node:fs/promises';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import { dirname } from 'node:path';
import { codeOf, toPossyncError } from '../core/classify.ts';
import type { PossyncError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Service } from '../core/service.ts';
import type { PullResult } from './mirror/mirror.ts';
import type { ReEnrolReport } from './outbox/re-enrol.ts';

export interface LocalApiOptions {
  readonly socketPath: string;
  readonly listen: { readonly host: string; readonly port: number } | null;
  readonly log: Log;
  /** The document of `possync status --json`. */
  readonly status: () => Promise<unknown>;
  readonly indicator: () => { readonly indicator: 'green' | 'red'; readonly code: string | null };
  /** Throws what keeps the daemon from its local work. */
  readonly ready: () => Promise<void>;
  readonly pull: (fresh: boolean) => Promise<PullResult>;
  /** How many entries HQ acknowledged. */
  readonly push: () => Promise<number>;
  readonly reload: () => void;
  /** Takes up the credential file as it is now. */
  readonly takeUp: () => Promise<TakenUp>;
  /** A new epoch; `from` = capture again what the store has since that day. */
  readonly reEnrol: (from: string | undefined) => Promise<ReEnrolReport>;
}

/** Which credential the daemon uses, and whether the open connection went on under it. */
export interface TakenUp {
  readonly kid: string | null;
  readonly in_band: boolean;
  readonly indicator: 'green' | 'red';
}

type Handler = (url: URL) => Promise<{ readonly status: number; readonly body: object | string }>;

export class LocalApi implements Service {
  readonly name = 'local API';
  readonly #options: LocalApiOptions;
  #socket: http.Server | undefined;
  #port: http.Server | undefined;

  constructor(options: LocalApiOptions) {
    this.#options = options;
  }

  get url(): string | undefined {
    const address = this.#port?.address();
    return typeof address === 'object' && address !== null
      ? `http://${this.#options.listen?.host ?? '127.0.0.1'}:${address.port}`
      : undefined;
  }

  /** Neither listener keeps the daemon from starting: sync matters more than being asked about it. */
  async start(): Promise<void> {
    const { socketPath, listen, log } = this.#options;
    try {
      await mkdir(dirname(socketPath), { recursive: true, mode: 0o700 });
      await removeStale(socketPath);
      this.#socket = await listening(this.#server(this.#all()), socketPath);
      await chmod(socketPath, 0o660);
    } catch (error) {
      log.warn('the local socket cannot be opened; commands read the database instead', {
        socket: socketPath,
        err: error,
      });
    }
    if (listen === null) return;
    try {
      this.#port = await listening(this.#server(this.#readOnly()), listen.port, listen.host);
    } catch (error) {
      log.warn('the status port cannot be opened', { port: listen.port, err: error });
    }
  }

  async stop(): Promise<void> {
    for (const server of [this.#socket, this.#port]) {
      if (server?.listening !== true) continue;
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    }
  }

  #readOnly(): Map<string, Handler> {
    const { status, indicator, ready } = this.#options;
    return new Map<string, Handler>([
      ['GET /livez', () => Promise.resolve({ status: 200, body: { status: 'pass' } })],
      [
        'GET /readyz',
        async (url) => {
          try {
            await ready();
            return { status: 200, body: verbose(url) ? '[+]database ok\n' : { status: 'pass' } };
          } catch (error) {
            const { code } = toPossyncError(error);
            return {
              status: 503,
              body: verbose(url) ? `[-]database failed: ${code}\n` : { status: 'fail', code },
            };
          }
        },
      ],
      [
        'GET /connz',
        () => {
          const light = indicator();
          return Promise.resolve({ status: light.indicator === 'green' ? 200 : 503, body: light });
        },
      ],
      ['GET /api/v1/status', async () => ({ status: 200, body: (await status()) as object })],
    ]);
  }

  #all(): Map<string, Handler> {
    const { pull, push, reload, reEnrol, takeUp } = this.#options;
    return new Map<string, Handler>([
      ...this.#readOnly(),
      [
        'POST /api/v1/pull',
        async (url) => {
          const result = await pull(url.searchParams.get('fresh') === '1');
          return result.result === 'failed'
            ? { status: 500, body: errorBody(result.error) }
            : { status: 200, body: result };
        },
      ],
      ['POST /api/v1/push', async () => ({ status: 200, body: { acknowledged: await push() } })],
      [
        'POST /api/v1/re-enrol',
        async (url) => ({ status: 200, body: await reEnrol(url.searchParams.get('from') ?? undefined) }),
      ],
      ['POST /api/v1/credential', async () => ({ status: 200, body: await takeUp() })],
      [
        'POST /api/v1/reload',
        () => {
          reload();
          return Promise.resolve({ status: 202, body: { result: 'reloading' } });
        },
      ],
    ]);
  }

  #server(handlers: ReadonlyMap<string, Handler>): http.Server {
    return http.createServer((request, response) => {
      void answer(handlers, request, response);
    });
  }
}

function verbose(url: URL): boolean {
  return url.searchParams.has('verbose');
}

async function answer(
  handlers: ReadonlyMap<string, Handler>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://daemon');
  const handler = handlers.get(`${request.method ?? 'GET'} ${url.pathname}`);
  let status = 404;
  let body: object | string = { error: { code: 'PS-USAGE', message: 'there is nothing at this address' } };
  try {
    if (handler !== undefined) ({ status, body } = await handler(url));
  } catch (error) {
    status = 503;
    body = errorBody(toPossyncError(error));
  }
  const text = typeof body === 'string' ? body : `${JSON.stringify(body)}\n`;
  const health = url.pathname.endsWith('z');
  response.writeHead(status, {
    'content-type':
      typeof body === 'string' ? 'text/plain' : health ? 'application/health+json' : 'application/json',
  });
  response.end(text);
}

function errorBody({ code, message, why, hint }: PossyncError): object {
  return { error: { code, message: why === undefined ? message : `${message}: ${why}`, hint } };
}

async function listening(server: http.Server, ...where: [string] | [number, string]): Promise<http.Server> {
  if (typeof where[0] === 'string') server.listen(where[0]);
  else server.listen(where[0], where[1]);
  await once(server, 'listening');
  server.on('error', () => undefined); // a refused connection is the client's news
  return server;
}

/** The daemon lock is ours, so a socket file that is there was left by a killed daemon. */
async function removeStale(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
  }
}
