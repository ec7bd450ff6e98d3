/** The small HTTP server behind the daemon's local API: whole answers, streams of lines and events, bounded bodies. */
import { once } from 'node:events';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import { toPossyncError } from '../core/classify.ts';
import { PossyncError } from '../core/errors.ts';
import { isLoopback } from '../core/loopback.ts';

export type Reply =
  | { readonly status: number; readonly body: object | string; readonly type?: string }
  | {
      readonly stream: string;
      readonly run: (write: (text: string) => void, signal: AbortSignal) => Promise<void>;
    };

/** `body` reads what was sent, as JSON; an empty body is an empty object. */
export type Handler = (url: URL, body: () => Promise<unknown>) => Promise<Reply>;

/** `GET /livez` and so on. */
export type Routes = ReadonlyMap<string, Handler>;

export interface LocalServerOptions {
  readonly routes: Routes;
  /** A port, not a unix socket: only requests that name this machine are answered. */
  readonly browsers?: { readonly host: string; readonly origin: string | undefined };
}

const BODY_LIMIT_BYTES = 16 * 1024;

export function localServer({ routes, browsers }: LocalServerOptions): http.Server {
  return http.createServer((request, response) => {
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
    void answer(routes, request, response);
  });
}

/**
 * A web page whose name was made to point at 127.0.0.1 would otherwise read the revenue of the day: its requests carry
 * its own name as Host.
 */
function isMeant({ headers: { host = '' } }: IncomingMessage, listenHost: string): boolean {
  const name = URL.canParse(`http://${host}`) ? new URL(`http://${host}`).hostname : '';
  return isLoopback(name.replace(/^\[|\]$/g, '')) || name === listenHost || !isLoopback(listenHost);
}

async function answer(routes: Routes, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://daemon');
  const method = request.method === 'HEAD' ? 'GET' : (request.method ?? 'GET');
  const handler = routes.get(`${method} ${url.pathname}`);
  let reply: Reply = {
    status: 404,
    body: errorBody(new PossyncError('PS-USAGE', 'there is nothing at this address')),
  };
  try {
    if (handler !== undefined) reply = await handler(url, () => readBody(request));
  } catch (error) {
    reply = { status: 503, body: errorBody(toPossyncError(error)) };
  }
  if ('stream' in reply) await stream(response, reply);
  else send(request, response, reply);
}

function send(
  request: IncomingMessage,
  response: ServerResponse,
  { status, body, type }: Extract<Reply, { status: number }>,
): void {
  const text = typeof body === 'string' ? body : `${JSON.stringify(body)}\n`;
  response.writeHead(status, {
    'content-type': type ?? (typeof body === 'string' ? 'text/plain; charset=utf-8' : 'application/json'),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
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
      if (!gone.signal.aborted) response.write(text);
    }, gone.signal);
  } catch (error) {
    if (!gone.signal.aborted) response.write(`${JSON.stringify(errorBody(toPossyncError(error)))}\n`);
  }
  response.end();
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > BODY_LIMIT_BYTES) throw new PossyncError('PS-TOO-LARGE', 'the request is too large');
    chunks.push(chunk);
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
