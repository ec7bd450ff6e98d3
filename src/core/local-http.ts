/** The small HTTP server behind the local listeners of both sides: whole answers, streams of lines and events, bounded bodies. */
import { once } from 'node:events';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import { toPossyncError } from './classify.ts';
import { PossyncError, type ErrorCode } from './errors.ts';
import { isLoopback } from './loopback.ts';

export type Reply =
  | {
      readonly status: number;
      readonly body: object | string;
      readonly type?: string;
      readonly headers?: Readonly<Record<string, string>>;
    }
  | {
      readonly stream: string;
      readonly run: (write: (text: string) => void, signal: AbortSignal) => Promise<void>;
    };

export interface Asker {
  /** It sits on this machine and names this machine; what leads elsewhere by a borrowed name does not. */
  readonly here: boolean;
}

/** `body` reads what was sent, as JSON; an empty body is an empty object. */
export type Handler = (url: URL, body: () => Promise<unknown>, asker: Asker) => Promise<Reply>;

/** `GET /livez` and so on. */
export type Routes = ReadonlyMap<string, Handler>;

export interface LocalServerOptions {
  readonly routes: Routes;
  /** A port, not a unix socket: only requests that name this machine are answered. */
  readonly browsers?: { readonly host: string; readonly origin: string | undefined };
}

const BODY_LIMIT_BYTES = 16 * 1024;
/** Commands, probes and screens of one machine: a few. Each may read the database, which belongs to the tills first. */
const CONNECTIONS_MAX = 100;
const IN_HAND_MAX = 40;
/** Slow heads and bodies: on one machine they take no time at all. */
const LIMITS = { headersTimeout: 10_000, requestTimeout: 20_000, connectionsCheckingInterval: 5_000 };
/** Lines and events that nobody reads. */
const UNREAD_MAX_BYTES = 1024 * 1024;

export function localServer({ routes, browsers }: LocalServerOptions): http.Server {
  let inHand = 0;
  const server = http.createServer(LIMITS, (request, response) => {
    if (inHand >= IN_HAND_MAX) {
      response.setHeader('retry-after', '1');
      send(request, response, {
        status: 429,
        body: errorBody(new PossyncError('PS-HQ-BUSY', 'too many questions at once')),
      });
      return;
    }
    if (browsers !== undefined && !isMeant(request, browsers.host)) {
      send(request, response, {
        status: 421,
        body: errorBody(new PossyncError('PS-USAGE', 'not this host')),
      });
      return;
    }
    if (browsers?.origin !== undefined) {
      response.setHeader('access-control-allow-origin', browsers.origin);
      response.setHeader('vary', 'origin');
    }
    inHand += 1;
    void answer(routes, request, response).finally(() => {
      inHand -= 1;
    });
  });
  server.maxConnections = CONNECTIONS_MAX;
  return server;
}

/**
 * A web page whose name was made to point at 127.0.0.1 would otherwise read the revenue of the day: its requests carry
 * its own name as Host.
 */
function isMeant(request: IncomingMessage, listenHost: string): boolean {
  const name = namedHost(request);
  return isLoopback(name) || name === listenHost || !isLoopback(listenHost);
}

function namedHost({ headers: { host = '' } }: IncomingMessage): string {
  return URL.canParse(`http://${host}`) ? new URL(`http://${host}`).hostname : '';
}

const STATUS: Readonly<Partial<Record<ErrorCode, number>>> = { 'PS-USAGE': 400, 'PS-TOO-LARGE': 413 };

/** undefined: `//` and the like are no address; what throws here would end the daemon. */
function urlOf(text: string | undefined): URL | undefined {
  try {
    return new URL(text ?? '/', 'http://daemon');
  } catch {
    return undefined;
  }
}

async function answer(routes: Routes, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = urlOf(request.url);
  const method = request.method === 'HEAD' ? 'GET' : (request.method ?? 'GET');
  const handler = url === undefined ? undefined : routes.get(`${method} ${url.pathname}`);
  let reply: Reply = {
    status: 404,
    body: errorBody(new PossyncError('PS-USAGE', 'there is nothing at this address')),
  };
  try {
    if (handler !== undefined && url !== undefined) {
      const here = isLoopback(request.socket.remoteAddress ?? '') && isLoopback(namedHost(request));
      reply = await handler(url, () => readBody(request), { here });
    }
  } catch (error) {
    const named = toPossyncError(error);
    reply = { status: STATUS[named.code] ?? 503, body: errorBody(named) };
  }
  if ('stream' in reply) await stream(response, reply);
  else send(request, response, reply);
}

function send(
  request: IncomingMessage,
  response: ServerResponse,
  { status, body, type, headers = {} }: Extract<Reply, { status: number }>,
): void {
  const text = typeof body === 'string' ? body : `${JSON.stringify(body)}\n`;
  response.writeHead(status, {
    'content-type': type ?? (typeof body === 'string' ? 'text/plain; charset=utf-8' : 'application/json'),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...headers,
  });
  response.end(request.method === 'HEAD' ? undefined : text);
}

async function stream(
  response: ServerResponse,
  { stream: type, run }: Extract<Reply, { stream: string }>,
): Promise<void> {
  const gone = new AbortController();
  response.on('close', () => {
    gone.abort();
  });
  response.writeHead(200, { 'content-type': type, 'cache-control': 'no-store' });
  response.flushHeaders();
  try {
    await run((text) => {
      if (gone.signal.aborted) return;
      if (response.writableLength > UNREAD_MAX_BYTES) response.destroy();
      else response.write(text);
    }, gone.signal);
  } catch (error) {
    if (!gone.signal.aborted) response.write(`${JSON.stringify(errorBody(toPossyncError(error)))}\n`);
  }
  response.end();
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of request as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > BODY_LIMIT_BYTES) throw new PossyncError('PS-TOO-LARGE', 'the request is too large');
      chunks.push(chunk);
    }
  } catch (error) {
    if (error instanceof PossyncError) throw error;
    throw new PossyncError('PS-USAGE', 'the request ended in the middle', { cause: error });
  }
  const text = Buffer.concat(chunks).toString('utf8');
  try {
    return text === '' ? {} : JSON.parse(text);
  } catch {
    throw new PossyncError('PS-USAGE', 'the request is no JSON');
  }
}

export function errorBody({ code, message, why, hint }: PossyncError): object {
  return { error: { code, message: why === undefined ? message : `${message}: ${why}`, hint } };
}

export async function listening(
  server: http.Server,
  ...where: [string] | [number, string]
): Promise<http.Server> {
  if (typeof where[0] === 'string') server.listen(where[0]);
  else server.listen(where[0], where[1]);
  await once(server, 'listening');
  server.on('error', () => undefined); // a refused connection is the client's news
  return server;
}
