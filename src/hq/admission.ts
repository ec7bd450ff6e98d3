/**
 * Connections and requests in hand, bounded so that slow ones cannot take the place of quick ones.
 *
 *   connection without a whole request yet ─▶ too many: the oldest is cut (a store's own is there for a millisecond)
 *   requests of one store, from head to the last byte of the answer ─▶ too many: its own oldest is cut
 *   bytes of bodies being read, of all together ─▶ too many: PS-HQ-BUSY
 *
 * Cutting the oldest and not the newest: after a line was cut, HQ still holds the dead request while the store is
 * already back with the next one.
 */
import type { Socket } from 'node:net';
import type { ServerResponse } from 'node:http';
import { busy } from './gate.ts';

/** Connections whose first request is not there yet, TLS handshakes included; after a restart the kernel hands us thousands. */
export const FRESH_MAX = 4_000;
/** One push, one pull, one small request, one of a command; twice that while a store rotates or reconnects. */
const REQUESTS_PER_STORE = 8;
/** Before anybody has shown a credential: enrolments being read. */
const REQUESTS_PER_ADDRESS = 16;
/** Of requests that are being read; a batch is a megabyte at most and mostly a hundredth. */
const BODY_BYTES_MAX = 512 * 1024 * 1024;

export class FreshConnections {
  readonly #fresh = new Map<string, Socket>();
  readonly #max: number;

  constructor(max = FRESH_MAX) {
    this.#max = max;
  }

  get size(): number {
    return this.#fresh.size;
  }

  opened(socket: Socket): void {
    const key = keyOf(socket);
    this.#fresh.set(key, socket);
    socket.once('close', () => {
      if (this.#fresh.get(key) === socket) this.#fresh.delete(key);
    });
    if (this.#fresh.size <= this.#max) return;
    const [oldest] = this.#fresh;
    if (oldest === undefined) return;
    // Now, and not when it says that it is closed: until then the next one over the limit would cut the same one again.
    this.#fresh.delete(oldest[0]);
    oldest[1].destroy();
  }

  /** Its first request is whole. */
  spoke(socket: Socket): void {
    this.#fresh.delete(keyOf(socket));
  }
}

/** The same for a TLS socket and the TCP socket under it. */
function keyOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress ?? '?'} ${remotePort ?? 0}`;
}

export class RequestsInHand {
  readonly #held = new Map<string, Set<ServerResponse>>();
  #bodyBytes = 0;

  get bodyBytes(): number {
    return this.#bodyBytes;
  }

  /** From here on this request counts as one of that store. */
  ofStore(storeId: number, response: ServerResponse): void {
    this.#hold(`store ${storeId}`, response, REQUESTS_PER_STORE);
  }

  ofAddress(address: string, response: ServerResponse): void {
    this.#hold(`address ${address}`, response, REQUESTS_PER_ADDRESS);
  }

  /** Counts the bytes of one body, in memory until its request is over; the counter throws PS-HQ-BUSY. */
  body(response: ServerResponse): (bytes: number) => void {
    let mine = 0;
    response.once('close', () => {
      this.#bodyBytes -= mine;
      mine = 0;
    });
    return (bytes) => {
      if (response.destroyed || this.#bodyBytes + bytes > BODY_BYTES_MAX) throw busy();
      mine += bytes;
      this.#bodyBytes += bytes;
    };
  }

  #hold(key: string, response: ServerResponse, max: number): void {
    if (response.destroyed) return;
    const held = this.#held.get(key) ?? new Set<ServerResponse>();
    this.#held.set(key, held);
    held.add(response);
    response.once('close', () => {
      held.delete(response);
      if (held.size === 0 && this.#held.get(key) === held) this.#held.delete(key);
    });
    if (held.size <= max) return;
    const [oldest] = held;
    if (oldest === undefined) return;
    held.delete(oldest); // as above: those that come at once must each cut another one
    oldest.destroy();
  }
}
