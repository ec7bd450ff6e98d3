/** An HQ that speaks the diagnosis part of the protocol, with a handle for every way it can go wrong. */
import { once } from 'node:events';
import http from 'node:http';
import https from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { WebSocketServer } from 'ws';
import { sleep } from './sleep.ts';
import { DIAG_SUBPROTOCOL, HQ_HEADER, ROUTES } from '../../../src/protocol/http.ts';
import { OLDEST_SERVED, PROTOCOL_VERSION } from '../../../src/protocol/version.ts';
import type { MadeCertificate } from './certificates.ts';

export const HQ_ID = '01890000-0000-7000-8000-000000000001';
export const STORE = { id: 42, code: 'NYC-042', name: 'Elm Street' };

export interface HqWish {
  readonly certificate?: MadeCertificate;
  /** Sent behind the leaf. */
  readonly intermediates?: readonly MadeCertificate[];
  readonly tls?: Pick<https.ServerOptions, 'maxVersion' | 'minVersion' | 'requestCert' | 'ca' | 'ciphers'>;
  /** Answers instead of HQ, for requests it wants. */
  readonly intercept?: (request: http.IncomingMessage, response: http.ServerResponse) => boolean;
  /** Takes the upgrade instead of HQ. */
  readonly upgrade?: (request: http.IncomingMessage, socket: Duplex) => boolean;
  readonly hqId?: string;
  readonly clockOffsetMs?: number;
  readonly protocol?: { readonly version: number; readonly oldest: number };
  readonly software?: string;
  /** Adds to what HQ says it received. */
  readonly seenHeaders?: Readonly<Record<string, string>>;
  readonly ready?: { readonly status: number; readonly code: string };
  readonly token?: { readonly status: number; readonly code: string };
  readonly whoami?: Readonly<Record<string, unknown>>;
  readonly connections?: number;
  /** The pieces of a reply arrive together, as behind a proxy that collects them. */
  readonly buffered?: boolean;
  /** What happens on the echo socket. */
  readonly echo?: 'swallow' | 'kill' | 'garbage' | 'limit' | 'late';
}

export interface RunningHq {
  readonly port: number;
  close(): Promise<void>;
}

export async function startHq(wish: HqWish = {}): Promise<RunningHq> {
  const handler = (request: http.IncomingMessage, response: http.ServerResponse): void => {
    if (wish.intercept?.(request, response) === true) return;
    response.setHeader(HQ_HEADER, wish.hqId ?? HQ_ID);
    void answer(wish, request, response);
  };
  const server =
    wish.certificate === undefined
      ? http.createServer(handler)
      : https.createServer(
          {
            ...wish.tls,
            cert: [wish.certificate, ...(wish.intermediates ?? [])].map(({ pem }) => pem).join(''),
            key: wish.certificate.keyPem,
          },
          handler,
        );
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => sockets.delete(socket));
  });
  const echo = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    maxPayload: wish.echo === 'limit' ? 1_400 : 100_000,
    handleProtocols: (offered) => (offered.has(DIAG_SUBPROTOCOL) ? DIAG_SUBPROTOCOL : false),
  });
  server.on('upgrade', (request: http.IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on('error', () => undefined);
    if (wish.upgrade?.(request, socket) === true) return;
    echo.handleUpgrade(request, socket, head, (ws) => {
      ws.on('error', () => undefined);
      if (wish.echo === 'kill') setTimeout(() => socket.destroy(), 30);
      ws.on('message', (data: Buffer) => {
        if (wish.echo === 'swallow') return;
        if (wish.echo === 'garbage') socket.write(Buffer.from('this is no frame'));
        else if (wish.echo === 'late')
          setTimeout(() => {
            ws.send(data);
          }, 30);
        else ws.send(data);
      });
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      echo.close();
      server.close();
      for (const socket of sockets) socket.destroy();
      await once(server, 'close');
    },
  };
}

async function answer(
  wish: HqWish,
  request: http.IncomingMessage,
  response: http.ServerResponse,
): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://hq');
  const hq = {
    id: wish.hqId ?? HQ_ID,
    software: wish.software ?? 'possync 0.1.0',
    now: new Date(Date.now() + (wish.clockOffsetMs ?? 0)).toISOString(),
  };
  switch (url.pathname) {
    case ROUTES.diagPing: {
      const headers = Object.fromEntries(
        Object.entries(request.headers).map(([name, value]) => [name, String(value)]),
      );
      json(response, 200, {
        service: 'possync-hq',
        hq,
        protocol: wish.protocol ?? { version: PROTOCOL_VERSION, oldest: OLDEST_SERVED },
        client: { address: request.socket.remoteAddress ?? '' },
        headers: { ...headers, ...wish.seenHeaders },
      });
      return;
    }
    case ROUTES.ready:
      if (wish.ready === undefined) json(response, 200, { status: 'pass' });
      else json(response, wish.ready.status, failure(wish.ready.code));
      return;
    case ROUTES.whoami:
      if (wish.token !== undefined) json(response, wish.token.status, failure(wish.token.code));
      else
        json(response, 200, {
          store: STORE,
          kid: 'ABCDEFGH',
          hq,
          connections: wish.connections ?? 1,
          ...wish.whoami,
        });
      return;
    case ROUTES.diagSink: {
      let bytes = 0;
      for await (const chunk of request as AsyncIterable<Buffer>) bytes += chunk.length;
      json(response, 200, { bytes });
      return;
    }
    case ROUTES.diagSource: {
      const bytes = Number(url.searchParams.get('bytes'));
      const chunks = Number(url.searchParams.get('chunks') ?? 1);
      response.writeHead(200, { 'content-type': 'application/octet-stream' });
      for (let index = 0; index < chunks; index++) {
        if (index > 0 && wish.buffered !== true) await sleep(200);
        response.write(Buffer.alloc(Math.floor(bytes / chunks), 1));
      }
      response.end();
      return;
    }
    case ROUTES.socket:
      json(response, 426, {
        error: { code: 'PS-WS-NO-UPGRADE', message: 'this path is a WebSocket' },
        saw: {
          upgrade: request.headers.upgrade !== undefined,
          connection: request.headers.connection ?? null,
          via: request.headers.via ?? null,
        },
      });
      return;
    case ROUTES.ping:
      response.end('OK');
      return;
    default:
      json(response, 404, failure('PS-USAGE'));
  }
}

function failure(code: string): unknown {
  return { error: { code, message: 'as the test wishes' } };
}

function json(response: http.ServerResponse, status: number, body: unknown): void {
  const text = JSON.stringify(body);
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
  });
  response.end(text);
}
