/**
 * The echo socket of `possync diagnose`: proves that frames pass, of every size and for a while, without a token and
 * without touching the connection of the store's daemon. Few at once, each for two minutes at most.
 */
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { WebSocketServer } from 'ws';
import type { Clock } from '../core/clock.ts';
import { PossyncError } from '../core/errors.ts';
import { CLOSE, DIAG_SOCKET_MS, DIAG_SUBPROTOCOL, FRAME_LIMIT_BYTES, HQ_HEADER } from '../protocol/http.ts';

/** Enough for every technician of a chain at once; too few to hurt the stores. */
const SOCKETS_MAX = 50;
/** A full run sends some thirty; a peer that sends without end is none of ours. */
const FRAMES_MAX = 1_000;

export class DiagSockets {
  readonly #clock: Clock;
  readonly #wss: WebSocketServer;

  constructor(hqId: string, clock: Clock) {
    this.#clock = clock;
    this.#wss = new WebSocketServer({
      noServer: true,
      perMessageDeflate: false,
      maxPayload: FRAME_LIMIT_BYTES,
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
    if (this.#wss.clients.size >= SOCKETS_MAX)
      throw new PossyncError('PS-HQ-BUSY', 'too many probes', { details: { retryMs: 5_000 } });
    this.#wss.handleUpgrade(request, socket, head, (ws) => {
      let frames = 0;
      const cancel = this.#clock.after(DIAG_SOCKET_MS, () => {
        ws.close(CLOSE.bye);
      });
      ws.once('close', cancel);
      ws.on('error', () => undefined); // a broken probe is the probe's news
      ws.on('message', (data, isBinary) => {
        frames += 1;
        if (frames > FRAMES_MAX) ws.close(CLOSE.slowDown);
        else ws.send(data, { binary: isBinary });
      });
    });
  }

  /** Probes do not keep a server from stopping. */
  close(): void {
    for (const ws of this.#wss.clients) ws.terminate();
  }
}
