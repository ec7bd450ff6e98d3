/**
 * HQ's one port: HTTP routes and WebSocket upgrades, with or without TLS.
 *
 *   connection ─▶ http(s).Server ─┬─ request ─▶ hono routes
 *                                 ├─ upgrade ─▶ authenticate ─▶ ws (noServer) ─▶ sockets.ts
 *                                 └─ upgrade to possync.diag.1 ─▶ echo, no token
 *
 * A credential is checked before the upgrade: a refused store costs one HTTP answer and no socket.
 */
import { once } from 'node:events';
import http, { type IncomingMessage } from 'node:http';
import https from 'node:https';
import { isIP, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { getRequestListener } from '@hono/node-server';
import { WebSocketServer, type WebSocket } from 'ws';
import { codeOf, toPossyncError } from '../core/classify.ts';
import { systemClock } from '../core/clock.ts';
import { PossyncError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Service } from '../core/service.ts';
import { FRAME_LIMIT_BYTES, HQ_HEADER, ROUTES } from '../protocol/http.ts';
import { FreshConnections } from './admission.ts';
import { Arrivals } from './arrivals.ts';
import { DiagSockets } from './diag-socket.ts';
import { bearerOf } from './http-answers.ts';
import { hqApp, type Caller, type RouteOptions } from './http-routes.ts';
import { answerBroken, refuseSocket } from './raw-answers.ts';
import { readTlsFiles, watchTlsFiles, type TlsFiles } from './tls-files.ts';

export interface ServerOptions extends RouteOptions {
  readonly host: string;
  readonly port: number;
  readonly tls: TlsFiles | undefined;
  readonly allowPlaintext: boolean;
  /** A store's socket is open; its hello follows. `answered`: it has its answer, or is gone. */
  readonly onSocket: (socket: WebSocket, caller: Caller, remote: string, answered: () => void) => void;
}

/** A store pushes every 60 s: Node's 5 s would cost it a handshake each time. */
const KEEP_ALIVE_MS = 75_000;
/** Headers take one packet; who needs longer is slow on purpose. */
const HEADERS_MS = 20_000;
/** A megabyte, packed, over the worst line we serve (64 kbit/s) takes half a minute; ten times that. */
const REQUEST_MS = 300_000;
/** A TLS handshake takes two round trips. */
const HANDSHAKE_MS = 20_000;
/** A connection on which nothing moves: whoever asks for a page and does not read it holds it in memory. */
const SILENT_MS = 150_000;
/** Slow heads are looked for this often. */
const LOOK_MS = 5_000;
/** Five thousand stores with a few connections each; the kernel's limit on open files is above it or is met first. */
const CONNECTIONS_MAX = 20_000;
/**
 * Connections that the kernel holds for us while we are busy; it takes net.core.somaxconn if that is less. Of what does not
 * fit the store believes that it is connected, and nobody reads what it sends until the kernel has asked it again.
 */
const BACKLOG = 16_384;
/** Our own frames come in one piece; a megabyte of one-byte fragments costs a hundred times its size. */
const FRAGMENTS_MAX = 64;
const CHUNKS_MAX = 1_024;
/** While stopping: how long a connection that has become idle may linger. */
const IDLE_LOOK_MS = 50;
/** A file is written in several steps; reading between them would log a false alarm. */
const TLS_SETTLE_MS = 200;

export class HqServer implements Service {
  readonly name = 'server';
  readonly #options: ServerOptions;
  readonly #log: Log;
  readonly #wss: WebSocketServer;
  readonly #probes: DiagSockets;
  readonly #arrivals: Arrivals;
  readonly #open = new Set<Duplex>();
  #server: http.Server | https.Server | undefined;
  #unwatch: (() => void) | undefined;
  /** The pair in use, as it was read. */
  #pair = '';
  #life: { readonly notBefore: Date; readonly notAfter: Date } | undefined;

  constructor(options: ServerOptions) {
    this.#options = options;
    this.#log = options.log;
    this.#probes = new DiagSockets(options.hqId, options.clock);
    this.#arrivals = new Arrivals(options.clock);
    // Deflate costs 200 MB for 1,000 sockets and seven times the CPU, for hints of 150 bytes.
    this.#wss = new WebSocketServer({
      noServer: true,
      perMessageDeflate: false,
      maxPayload: FRAME_LIMIT_BYTES,
      maxFragments: FRAGMENTS_MAX,
      maxBufferedChunks: CHUNKS_MAX,
      // The socket answers pings itself, with a look at how many there are and whether anybody reads the answers.
      autoPong: false,
      clientTracking: false,
    });
    this.#wss.on('wsClientError', (error, socket) => {
      refuseSocket(
        socket,
        new PossyncError('PS-PROTOCOL', 'the upgrade is broken', { why: error.message }),
        options.hqId,
      );
    });
    this.#wss.on('headers', (headers) => {
      headers.push(`${HQ_HEADER}: ${options.hqId}`);
    });
  }

  /** Valid while started. */
  get port(): number {
    const address = this.#server?.address();
    return typeof address === 'object' && address !== null ? address.port : this.#options.port;
  }

  /** For programs of this machine. */
  get url(): string {
    const { host } = this.#options;
    return this.#urlOf(host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host);
  }

  /** The address as it was given: whether it leaves this machine is seen here. */
  get listens(): string {
    return this.#urlOf(this.#options.host);
  }

  #urlOf(host: string): string {
    const scheme = this.#options.tls === undefined ? 'http' : 'https';
    return `${scheme}://${isIP(host) === 6 ? `[${host}]` : host}:${this.port}`;
  }

  /** From when to when the certificate in use is good. */
  get certificate(): { readonly notBefore: Date; readonly notAfter: Date } | undefined {
    return this.#life;
  }

  async start(): Promise<void> {
    const { host, port, tls } = this.#options;
    this.#refusePlaintext();
    const { hqId } = this.#options;
    const listener = getRequestListener(hqApp(this.#options).fetch, {
      overrideGlobalObjects: false,
      // An address or a Host header that no URL can be made of never reaches a route.
      errorHandler: () => brokenRequest(hqId),
    });
    const fresh = new FreshConnections();
    const handle = (request: IncomingMessage, response: http.ServerResponse): void => {
      fresh.spoke(request.socket);
      void listener(request, response);
    };
    const limits = {
      keepAliveTimeout: KEEP_ALIVE_MS,
      headersTimeout: HEADERS_MS,
      requestTimeout: REQUEST_MS,
      connectionsCheckingInterval: LOOK_MS,
      noDelay: true,
    };
    if (tls === undefined) {
      this.#server = http.createServer(limits, handle);
    } else {
      const { cert, key, notBefore, notAfter } = readTlsFiles(tls);
      this.#takeLife(notBefore, notAfter);
      this.#pair = cert + key;
      this.#server = https.createServer(
        { ...limits, cert, key, minVersion: 'TLSv1.2', handshakeTimeout: HANDSHAKE_MS },
        handle,
      );
      this.#watch(tls);
    }
    this.#server.maxConnections = CONNECTIONS_MAX;
    this.#server.timeout = SILENT_MS;
    this.#server.on('connection', (socket: Socket) => {
      fresh.opened(socket);
    });
    this.#server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      fresh.spoke(request.socket);
      void this.#upgrade(request, socket, head);
    });
    this.#server.on('connect', (_request: IncomingMessage, socket: Duplex) => {
      refuseSocket(socket, new PossyncError('PS-PROTOCOL', 'HQ is no proxy'), hqId);
    });
    this.#server.on('clientError', (error, socket) => {
      answerBroken(socket, error, hqId);
    });
    this.#server.listen({ port, host, backlog: BACKLOG });
    try {
      await once(this.#server, 'listening');
    } catch (error) {
      this.#unwatch?.();
      throw listenError(error, host, port);
    }
    // Later errors are of single connections (too many open files): they must not end the server for all others.
    this.#server.on('error', (error) => {
      this.#log.error('the port could not take a connection', { err: error });
    });
  }

  #takeLife(notBefore: Date, notAfter: Date): void {
    this.#life = { notBefore, notAfter };
    if (notAfter.getTime() > this.#options.clock.now()) return;
    this.#log.warn('the certificate has expired: no store can connect', {
      code: 'PS-TLS-EXPIRED',
      notAfter: notAfter.toISOString(),
    });
  }

  /** Reads certificate and key again; open sockets keep what they have. A broken pair leaves the old one in use. */
  reloadTls(): void {
    const { tls } = this.#options;
    if (tls === undefined || !(this.#server instanceof https.Server)) return;
    try {
      const { cert, key, notBefore, notAfter, subject } = readTlsFiles(tls);
      // Two files change one after the other, others change beside them, and a SIGHUP may come on top of it.
      if (this.#pair === cert + key) {
        this.#log.debug('certificate and key are as they were');
        return;
      }
      this.#pair = cert + key;
      this.#server.setSecureContext({ cert, key, minVersion: 'TLSv1.2' });
      this.#takeLife(notBefore, notAfter);
      this.#log.info('certificate read', {
        event: 'config.reloaded',
        subject,
        notAfter: notAfter.toISOString(),
      });
    } catch (error) {
      this.#log.error('the new certificate cannot be used; the old one stays', { err: error });
    }
  }

  /** No new connection is taken; requests in hand are finished. Sockets are closed by their owner before. */
  async stop(): Promise<void> {
    this.#unwatch?.();
    const server = this.#server;
    this.#probes.close();
    if (server?.listening !== true) return;
    const ended = new AbortController();
    server.once('close', () => {
      ended.abort();
    });
    server.close();
    // A connection whose request ends now would be kept for the next one; close() has looked for idle ones only once.
    while (!ended.signal.aborted) {
      server.closeIdleConnections();
      await this.#options.clock.sleep(IDLE_LOOK_MS, ended.signal);
    }
  }

  /** Cuts what a graceful stop left over. */
  cut(): void {
    this.#server?.closeAllConnections();
    for (const socket of this.#open) socket.destroy();
  }

  #refusePlaintext(): void {
    const { host, tls, allowPlaintext } = this.#options;
    if (tls !== undefined || allowPlaintext || isLoopback(host)) return;
    throw new PossyncError('PS-CFG-PLAINTEXT', `refusing to listen on ${host} without TLS`, {
      why: 'sales and credentials would cross the network in clear',
    });
  }

  #watch(tls: TlsFiles): void {
    let cancel: (() => void) | undefined;
    this.#unwatch = watchTlsFiles(tls, () => {
      cancel?.();
      cancel = systemClock.after(TLS_SETTLE_MS, () => {
        this.reloadTls();
      });
    });
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    socket.on('error', () => undefined); // a reset before ws takes over
    this.#open.add(socket);
    socket.once('close', () => this.#open.delete(socket));
    let leave: () => void = () => undefined;
    try {
      if (pathOf(request.url) !== ROUTES.socket)
        throw new PossyncError('PS-PROTOCOL', 'no socket at this address');
      if (DiagSockets.isFor(request)) {
        this.#probes.accept(request, socket, head);
        return;
      }
      const bearer = bearerOf(request);
      leave = this.#arrivals.enter(kidIn(bearer));
      socket.once('close', leave);
      const caller = await this.#options.rooms.authenticate(bearer, request.socket.remoteAddress);
      if (socket.destroyed) return;
      this.#wss.handleUpgrade(request, socket, head, (webSocket) => {
        this.#options.onSocket(webSocket, caller, remoteOf(request.socket), leave);
      });
    } catch (error) {
      leave();
      refuseSocket(socket, toPossyncError(error), this.#options.hqId);
    }
  }
}

function remoteOf(socket: Socket): string {
  return `${socket.remoteAddress ?? '?'}:${socket.remotePort ?? 0}`;
}

export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}

function listenError(error: unknown, host: string, port: number): PossyncError {
  const code = codeOf(error);
  const why =
    code === 'EADDRINUSE'
      ? 'another program listens there'
      : code === 'EACCES'
        ? 'the user may not listen on this port'
        : String(error);
  return new PossyncError('PS-LISTEN', `cannot listen on ${host}:${port}`, { why, cause: error });
}

/** What a credential calls itself, unchecked. */
function kidIn(bearer: string | undefined): string {
  return bearer?.split('_', 2).join('_').slice(0, 40) ?? '';
}

/** The path of a request line; undefined for what is no address at all. */
function pathOf(url: string | undefined): string | undefined {
  try {
    return new URL(url ?? '/', 'http://hq').pathname;
  } catch {
    return undefined;
  }
}

function brokenRequest(hqId: string): Response {
  return Response.json(
    { error: { code: 'PS-PROTOCOL', message: 'the address or the Host header of the request is broken' } },
    { status: 400, headers: { [HQ_HEADER]: hqId } },
  );
}
