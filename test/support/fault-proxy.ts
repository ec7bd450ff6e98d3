/** A TCP relay between a store and HQ that fails in every way a line fails, on demand. */
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/**
 * `pass` relays · `refuse` is not there (connections are refused) · `reset` accepts and cuts with RST ·
 * `black-hole` accepts and relays nothing, without a word · `half-close` relays what the store sends and ends HQ's
 * side towards the store
 */
export type Fault = 'pass' | 'refuse' | 'reset' | 'black-hole' | 'half-close';

export interface Target {
  readonly host: string;
  readonly port: number;
}

interface Pair {
  readonly near: Socket;
  readonly far: Socket;
}

export class FaultProxy {
  readonly #target: () => Target;
  readonly #pairs = new Set<Pair>();
  #server: Server | undefined;
  #port = 0;
  #fault: Fault = 'pass';
  #delayMs = 0;
  #dropAnswerOf: RegExp | undefined;
  #repeat: RegExp | undefined;
  /** Answers of HQ that never reached the store. */
  dropped = 0;
  /** Requests that HQ got a second time. */
  repeated = 0;
  /** Connections that stores have tried. */
  attempts = 0;

  /** A function is asked at each connection, as a load balancer would be. */
  constructor(target: Target | (() => Target)) {
    this.#target = typeof target === 'function' ? target : () => target;
  }

  get port(): number {
    return this.#port;
  }

  async open(): Promise<void> {
    const server = createServer((near) => {
      this.#plug(near);
    });
    server.listen(this.#port, '127.0.0.1');
    await once(server, 'listening');
    this.#server = server;
    this.#port = (server.address() as AddressInfo).port;
  }

  /** From now on for new connections, and for those that are open where that makes sense. */
  async set(fault: Fault): Promise<void> {
    const before = this.#fault;
    this.#fault = fault;
    if (fault === 'refuse') await this.#unlisten();
    else if (before === 'refuse') await this.open();
    if (fault === 'reset') for (const { near } of this.#pairs) near.resetAndDestroy();
    if (fault === 'half-close') for (const { near } of this.#pairs) near.end();
    if (fault === 'pass') {
      // What a black hole swallowed is gone: such connections are of no use any more.
      if (before === 'black-hole') this.cut();
    }
  }

  /** Each piece of data arrives so much later. */
  delay(ms: number): void {
    this.#delayMs = ms;
  }

  /** The next request whose head matches reaches HQ whole; its answer does not come back, the connection is cut. */
  dropNextAnswer(head: RegExp): void {
    this.#dropAnswerOf = head;
  }

  /** The next request whose head matches reaches HQ twice; the second answer goes nowhere. */
  repeatNext(head: RegExp): void {
    this.#repeat = head;
  }

  /** Cuts every open connection; new ones are served as set. */
  cut(): void {
    for (const { near, far } of this.#pairs) {
      near.destroy();
      far.destroy();
    }
  }

  async close(): Promise<void> {
    this.cut();
    await this.#unlisten();
  }

  async #unlisten(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    this.cut();
    if (server === undefined) return;
    const closed = once(server, 'close');
    server.close();
    await closed;
  }

  #plug(near: Socket): void {
    this.attempts += 1;
    near.on('error', () => undefined);
    if (this.#fault === 'reset') {
      near.resetAndDestroy();
      return;
    }
    const far = connect(this.#target());
    far.on('error', () => near.destroy());
    const pair: Pair = { near, far };
    this.#pairs.add(pair);
    let swallow = false;
    let request: Buffer | undefined;
    near.on('data', (data) => {
      if (request !== undefined) request = Buffer.concat([request, data]);
      else if (this.#repeat?.test(data.toString('latin1')) === true) request = data;
      if (request !== undefined && isWhole(request)) {
        this.#repeat = undefined;
        this.#sendAgain(request);
        request = undefined;
      }
      if (this.#dropAnswerOf?.test(data.toString('latin1')) === true) {
        this.#dropAnswerOf = undefined;
        swallow = true;
      }
      this.#relay(data, far);
    });
    far.on('data', (data) => {
      if (!swallow) {
        this.#relay(data, near);
        return;
      }
      this.dropped += 1;
      near.resetAndDestroy();
      far.destroy();
    });
    near.on('end', () => far.end());
    far.on('end', () => near.end());
    const over = (): void => {
      this.#pairs.delete(pair);
      near.destroy();
      far.destroy();
    };
    near.on('close', over);
    far.on('close', over);
  }

  #sendAgain(request: Buffer): void {
    const again = connect(this.#target());
    again.on('error', () => undefined);
    again.once('data', () => {
      this.repeated += 1;
      again.destroy();
    });
    again.setTimeout(10_000, () => again.destroy());
    again.write(request);
  }

  #relay(data: Buffer, to: Socket): void {
    if (this.#fault === 'black-hole') return;
    if (this.#delayMs === 0) to.write(data);
    else
      setTimeout(() => {
        to.write(data);
      }, this.#delayMs);
  }
}

/** Head and body of a request, as far as its Content-Length says. */
function isWhole(request: Buffer): boolean {
  const end = request.indexOf('\r\n\r\n');
  if (end < 0) return false;
  const length = /^content-length: *(\d+)/im.exec(request.subarray(0, end).toString('latin1'))?.[1];
  return request.length >= end + 4 + Number(length ?? 0);
}
