/** One WebSocket to HQ, from the attempt to its end: named failures, parsed frames, heartbeat; no decision. */
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { WebSocket } from 'ws';
import type { Clock } from '../../core/clock.ts';
import { PossyncError } from '../../core/errors.ts';
import { Heartbeat } from '../../core/heartbeat.ts';
import { networkError } from '../../core/network-error.ts';
import type { Secret } from '../../core/secret.ts';
import { CLOSE, FRAME_LIMIT_BYTES, HQ_HEADER, RENEW_REASON, ROUTES } from '../../protocol/http.ts';
import { hqFrameSchema, type HqFrame, type StoreFrame } from '../../protocol/messages.ts';
import { ClockSkewMeter, type ClockSkew } from './clock-skew.ts';
import { closeFailure, failureOf } from './failure.ts';
import { CONNECT_MS } from './http-exchange.ts';
import { checkIdentity, refusal, type HqClient } from './hq-client.ts';
import type { CertificateLife } from './link-snapshot.ts';
import type { Failure } from './state.ts';

export interface SocketEvents {
  readonly opened: () => void;
  /** Every frame but heartbeats. */
  readonly frame: (frame: HqFrame) => void;
  /** Anything came in. */
  readonly life: () => void;
  /** HQ answered the last ping. */
  readonly answered?: (rttMs: number) => void;
  readonly failed: (failure: Failure) => void;
  readonly closed: (failure: Failure) => void;
  readonly silent: () => void;
}

/** A refused upgrade explains itself in a small JSON body; a block page of a proxy is longer and not read. */
const REFUSAL_BYTES = 16 * 1024;

export class HqSocket {
  readonly #ws: WebSocket;
  readonly #clock: Clock;
  readonly #events: SocketEvents;
  readonly #heartbeat: Heartbeat;
  readonly #skew = new ClockSkewMeter();
  readonly #cancelAttempt: () => void;
  /** `http`: whatever comes next is an answer to our request; where TLS is used, it has been set up. */
  #reached: 'nothing' | 'tcp' | 'http' | 'open' = 'nothing';
  #authenticated: (taken: boolean) => void = () => undefined;
  #greeted = false;
  #certificate: CertificateLife | null = null;
  #over = false;

  constructor(client: HqClient, clock: Clock, events: SocketEvents) {
    this.#clock = clock;
    this.#events = events;
    this.#heartbeat = new Heartbeat({
      clock,
      ping: (n) => {
        this.send({ type: 'ping', n });
      },
      silent: () => {
        this.#finish(() => {
          events.silent();
        });
      },
    });
    this.#cancelAttempt = clock.after(CONNECT_MS, () => {
      this.#fail(
        this.#reached === 'nothing'
          ? new PossyncError('PS-TCP-DROPPED', 'HQ did not answer in time')
          : new PossyncError('PS-WS-SILENT', 'HQ was reached, but the upgrade to WebSocket got no answer'),
        this.#reached === 'http',
      );
    });
    const secure = client.url.startsWith('https:');
    const agent = client.tunnels();
    this.#ws = new WebSocket(`${client.url.replace(/^http/, 'ws')}${ROUTES.socket}`, {
      headers: { ...client.headers },
      perMessageDeflate: false,
      maxPayload: FRAME_LIMIT_BYTES,
      ...(client.ca === undefined ? {} : { ca: client.ca }),
      ...(agent === undefined ? {} : { agent }),
      finishRequest: (request) => {
        request.once('socket', (socket) => {
          if (agent !== undefined) {
            // Through a proxy it comes ready: connected, and where TLS is used, secured.
            this.#reached = 'http';
            this.#certificate = lifeOf(socket);
          }
          socket.once('connect', () => {
            this.#reached = secure ? 'tcp' : 'http';
          });
          socket.once('secureConnect', () => {
            this.#reached = 'http';
            this.#certificate = lifeOf(socket);
          });
        });
        request.end();
      },
    });
    this.#listen(client.hqId);
  }

  /** The link is green: from here on an end is an end of a good connection. */
  greeted(): void {
    this.#greeted = true;
  }

  get rttMs(): number | null {
    return this.#heartbeat.rttMs;
  }

  /** HQ's clock against ours; null until HQ has told its time. */
  get skew(): ClockSkew | null {
    return this.#skew.best;
  }

  /** HQ's; null without TLS. */
  get certificate(): CertificateLife | null {
    return this.#certificate;
  }

  send(frame: StoreFrame): void {
    if (this.#ws.readyState === WebSocket.OPEN) this.#ws.send(JSON.stringify(frame));
  }

  /** HQ takes nothing before hello, so heartbeats start with it. */
  hello(frame: Extract<StoreFrame, { type: 'hello' }>): void {
    this.send(frame);
    this.#heartbeat.start();
  }

  /** Goes on under another credential of this store; false = HQ did not take it, or said nothing in time. */
  async authenticate(token: Secret): Promise<boolean> {
    return await new Promise<boolean>((resolve) => {
      const cancel = this.#clock.after(AUTH_MS, () => {
        resolve(false);
      });
      this.#authenticated = (taken) => {
        cancel();
        resolve(taken);
      };
      this.send({ type: 'auth', token: token.reveal() });
    });
  }

  /** Ends it without any further event. */
  drop(why: 'bye' | 'silent' | 'renew'): void {
    this.#finish(
      () => undefined,
      why === 'silent' ? CLOSE.silent : CLOSE.bye,
      why === 'renew' ? RENEW_REASON : '',
    );
  }

  #listen(hqId: string | undefined): void {
    const ws = this.#ws;
    ws.on('upgrade', (response) => {
      try {
        checkIdentity(response.headers[HQ_HEADER], hqId, 101, response.headers.server);
      } catch (error) {
        this.#fail(networkError(error));
      }
    });
    ws.on('open', () => {
      this.#reached = 'open';
      this.#cancelAttempt();
      if (!this.#over) this.#events.opened();
    });
    ws.on('unexpected-response', (_request, response) => {
      void this.#refused(response, hqId);
    });
    ws.on('message', (data, isBinary) => {
      this.#message(data as Buffer, isBinary);
    });
    ws.on('ping', () => {
      this.#alive();
    });
    ws.on('error', (error) => {
      // An open socket reports its end by 'close'; before that, this is all there is.
      if (this.#reached !== 'open')
        this.#fail(upgradeError(error, this.#reached === 'tcp'), this.#reached === 'http');
    });
    ws.on('close', (code, reason) => {
      this.#finish(() => {
        this.#events.closed(closeFailure(code, reason.toString('utf8'), this.#greeted));
      });
    });
  }

  #alive(): void {
    if (this.#over) return;
    this.#heartbeat.frame();
    this.#events.life();
  }

  #message(data: Buffer, isBinary: boolean): void {
    if (this.#over) return;
    this.#alive();
    const frame = isBinary ? undefined : decode(data);
    if (frame === undefined) {
      // A newer HQ may say more than we know; what we must understand is in the protocol version.
      return;
    }
    if (frame.type === 'ping') this.send({ type: 'pong', n: frame.n });
    else if (frame.type === 'pong') this.#pong(frame);
    else if (frame.type === 'authenticated') this.#authenticated(frame.code === null);
    else this.#events.frame(frame);
  }

  #pong({ n, at }: Extract<HqFrame, { type: 'pong' }>): void {
    const rttMs = this.#heartbeat.pong(n);
    if (rttMs === undefined) return;
    if (at !== undefined) this.#skew.sample(at, this.#clock.now(), rttMs);
    this.#events.answered?.(rttMs);
  }

  /** HQ or something on the path answered the upgrade like any HTTP request. */
  async #refused(response: IncomingMessage, hqId: string | undefined): Promise<void> {
    const status = response.statusCode ?? 0;
    let text = '';
    try {
      for await (const chunk of response as AsyncIterable<Buffer>) {
        text += chunk.toString('utf8');
        if (text.length > REFUSAL_BYTES) break;
      }
    } catch {
      // Half an answer is enough: the status and the headers are there.
    }
    try {
      checkIdentity(response.headers[HQ_HEADER], hqId, status, response.headers.server);
    } catch (error) {
      const named = networkError(error);
      this.#fail(
        named.code === 'PS-HTTP-NOTHQ'
          ? new PossyncError('PS-WS-REFUSED', 'something on the path refused the upgrade to WebSocket', {
              why: `it answered ${status}`,
            })
          : named,
        true,
      );
      return;
    }
    if (status === 426)
      this.#fail(
        new PossyncError('PS-WS-STRIPPED', 'something on the path removes the WebSocket upgrade'),
        true,
      );
    else this.#fail(refusal({ status, body: Buffer.from(text) }));
  }

  #fail(error: PossyncError, httpMayWork = false): void {
    this.#finish(() => {
      this.#events.failed(failureOf(error, httpMayWork));
    });
  }

  /** Exactly one end is told, whichever comes first. */
  #finish(tell: () => void, code: number = CLOSE.bye, reason = ''): void {
    if (this.#over) return;
    this.#over = true;
    this.#cancelAttempt();
    this.#heartbeat.stop();
    this.#authenticated(false);
    this.#ws.on('error', () => undefined); // ending an attempt that is still connecting reports an error
    if (this.#ws.readyState === WebSocket.OPEN) this.#ws.close(code, reason);
    // A close frame goes out if it can; nobody waits for the answer of a line that may be dead.
    this.#clock.after(CLOSE_WAIT_MS, () => {
      this.#ws.terminate();
    });
    if (this.#ws.readyState === WebSocket.CONNECTING) this.#ws.terminate();
    tell();
  }
}

const CLOSE_WAIT_MS = 1_000;
/** HQ looks a credential up in its database. */
const AUTH_MS = 5_000;

function upgradeError(error: Error, handshaking: boolean): PossyncError {
  const named = networkError(error, handshaking);
  // ws reports a damaged handshake without any code.
  return named.code === 'PS-HQ-UNREACHABLE' && !('code' in error)
    ? new PossyncError('PS-WS-REFUSED', 'the upgrade to WebSocket failed', {
        why: error.message,
        cause: error,
      })
    : named;
}

function lifeOf(socket: Socket): CertificateLife | null {
  if (!(socket instanceof TLSSocket)) return null;
  const { valid_from: from, valid_to: to } = socket.getPeerCertificate();
  const life = { notBeforeMs: Date.parse(from), notAfterMs: Date.parse(to) };
  return Number.isNaN(life.notBeforeMs) || Number.isNaN(life.notAfterMs) ? null : life;
}

function decode(data: Buffer): HqFrame | undefined {
  let value: unknown;
  try {
    value = JSON.parse(data.toString('utf8'));
  } catch {
    return undefined;
  }
  return hqFrameSchema.safeParse(value).data;
}
