/**
 * The echo socket of `possync diagnose`: proves that frames pass, of every size and for a while, without a token and
 * without touching the connection of the store's daemon. Few at once, each for two minutes at most.
 */
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { WebSocketServer } from 'ws';
import type { Clock } from '../core/clock.ts';
import { PossyncError } from '../core/errors.ts';
import { addressKey } from './buckets.ts';
import { CLOSE, DIAG_SOCKET_MS, DIAG_SUBPROTOCOL, FRAME_LIMIT_BYTES, HQ_HEADER } from '../protocol/http.ts';

/** Enough for every technician of a chain at once; too few to hurt the stores. */
const SOCKETS_MAX = 50;
/** Of one address, so that nobody takes them all. */
const SOCKETS_PER_ADDRESS = 10;
/** A full run sends some thirty, pings included; a peer that sends without end is none of ours. */
const FRAMES_MAX = 1_000;
/** Echoes that nobody reads: the largest frame a few times. */
const UNREAD_MAX_BYTES = 512 * 1024;
const FRAGMENTS_MAX = 64;
/** For the peer to read why. */
const CLOSE_WAIT_MS = 1_000;

export class DiagSockets {
  readonly #clock: Clock;
  readonly #wss: WebSocketServer;
  readonly #byAddress = new Map<string, number>();

  constructor(hqId: string, clock: Clock) {
    this.#clock = clock;
    this.#wss = new WebSocketServer({
      noServer: true,
      perMessageDeflate: false,
      maxPayload: FRAME_LIMIT_BYTES,
      maxFragments: FRAGMENTS_MAX,
      autoPong: false,
      handleProtocols: () => DIAG_SUBPROTOCOL,
    });
    this.#wss.on('headers', (headers) => {
      headers.push(`${HQ_HEADER}: ${hqId}`);
    });
  }

  /** A probe asks for the test protocol and nothing else; a store never does. */
  static isFor(request: IncomingMessage): boolean {
    return request.headers['sec-websocket-protocol'] === DIAG_SUBPROTOCOL;
  }

  /** Throws PS-HQ-BUSY when there are too many. */
  accept(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const address = addressKey(request.socket.remoteAddress);
    const mine = this.#byAddress.get(address) ?? 0;
    if (this.#wss.clients.size >= SOCKETS_MAX || mine >= SOCKETS_PER_ADDRESS)
      throw new PossyncError('PS-HQ-BUSY', 'too many probes', { details: { retryMs: 5_000 } });
    this.#wss.handleUpgrade(request, socket, head, (ws) => {
      this.#byAddress.set(address, (this.#byAddress.get(address) ?? 0) + 1);
      ws.once('close', () => {
        const left = (this.#byAddress.get(address) ?? 1) - 1;
        if (left === 0) this.#byAddress.delete(address);
        else this.#byAddress.set(address, left);
      });
      let frames = 0;
      let cancel = this.#clock.after(DIAG_SOCKET_MS, () => {
        end(CLOSE.bye);
      });
      ws.once('close', () => {
        cancel();
      });
      /** Nothing more is read; who does not close is cut. */
      const end = (code: number): void => {
        if (ws.readyState !== ws.OPEN) return;
        ws.pause();
        ws.close(code);
        cancel();
        cancel = this.#clock.after(CLOSE_WAIT_MS, () => {
          ws.terminate();
        });
      };
      const answered = (send: () => void): void => {
        frames += 1;
        if (ws.bufferedAmount > UNREAD_MAX_BYTES) ws.terminate();
        else if (frames > FRAMES_MAX) end(CLOSE.slowDown);
        else if (ws.readyState === ws.OPEN) send();
      };
      ws.on('error', () => undefined); // a broken probe is the probe's news
      ws.on('message', (data, isBinary) => {
        answered(() => {
          ws.send(data, { binary: isBinary });
        });
      });
      ws.on('ping', (data) => {
        answered(() => {
          ws.pong(data);
        });
      });
    });
  }

  /** Probes do not keep a server from stopping. */
  close(): void {
    for (const ws of this.#wss.clients) ws.terminate();
  }
}
