/**
 * One store's WebSocket at HQ: frames in and out, heartbeat, and what its row in live_links says.
 *
 * A store sends a frame every few seconds and reads what it is sent. One that sends hundreds a second, or lets HQ's
 * frames pile up, is closed before it costs what the others need.
 */
import { randomUUID } from 'node:crypto';
import type { WebSocket } from 'ws';
import type { Clock } from '../../core/clock.ts';
import { Heartbeat } from '../../core/heartbeat.ts';
import { CLOSE } from '../../protocol/http.ts';
import {
  storeFrameSchema,
  type Hello,
  type HqFrame,
  type RotationReport,
  type StatFrame,
  type StoreFrame,
} from '../../protocol/messages.ts';
import { JSON_MAX_DEPTH, JSON_MAX_TOKENS } from '../../protocol/http.ts';
import { Buckets } from '../buckets.ts';
import type { Caller } from '../http-routes.ts';
import { parseJson } from '../json-input.ts';
import { returnReason } from './link-rules.ts';
import type { LinkRow } from './live.ts';

export interface SocketEvents {
  /** The first frame. */
  readonly hello: (socket: StoreSocket, hello: Hello) => void;
  readonly stat: (socket: StoreSocket, stat: StatFrame) => void;
  /** Another credential for the same connection. */
  readonly auth: (socket: StoreSocket, token: string) => void;
  /** What came of an order to rotate. */
  readonly rotation: (socket: StoreSocket, report: RotationReport) => void;
  readonly closed: (socket: StoreSocket) => void;
}

/** A close frame that nobody answers must not hold the socket. */
const CLOSE_TIMEOUT_MS = 2_000;
/** RFC 6455: a reason is at most 123 bytes. */
const REASON_BYTES = 123;
/** Frames and pings of one store: some each ten seconds, and a burst of answers when somebody asks. */
const FRAMES = { burst: 200, perSecond: 20 } as const;
const SLOW_DOWN_MS = 30_000;
/** Hints and pings that the store does not read; its kernel and ours hold as much again. */
const UNREAD_MAX_BYTES = 256 * 1024;
const JSON_BOUNDS = { depth: JSON_MAX_DEPTH, tokens: JSON_MAX_TOKENS };

export class StoreSocket {
  readonly remote: string;
  readonly id = randomUUID();
  #caller: Caller;
  readonly #ws: WebSocket;
  readonly #clock: Clock;
  readonly #events: SocketEvents;
  readonly #heartbeat: Heartbeat;
  readonly #sinceMs: number;
  #lastFrameMs: number;
  #hello: Hello | undefined;
  #fence: string | undefined;
  #stat: StatFrame | null = null;
  #statMs: number | null = null;
  #closeCode: number | null = null;
  #closeReason: string | null = null;
  #ended = false;
  readonly #frames: Buckets;

  constructor(ws: WebSocket, caller: Caller, remote: string, clock: Clock, events: SocketEvents) {
    this.#ws = ws;
    this.#caller = caller;
    this.remote = remote;
    this.#clock = clock;
    this.#frames = new Buckets({ ...FRAMES, clock, keys: 1 });
    this.#events = events;
    this.#sinceMs = clock.now();
    this.#lastFrameMs = this.#sinceMs;
    this.#heartbeat = new Heartbeat({
      clock,
      ping: (n) => {
        this.send({ type: 'ping', n });
      },
      silent: () => {
        this.close(CLOSE.silent, 'no frame for 10 s');
        this.#ws.terminate();
      },
    });
    ws.on('message', (data, isBinary) => {
      this.#message(data as Buffer, isBinary);
    });
    ws.on('ping', (data) => {
      if (this.#closing || this.#tooMany()) return;
      this.#alive();
      if (this.#read()) ws.pong(data);
    });
    ws.on('pong', () => {
      if (!this.#closing && !this.#tooMany()) this.#alive();
    });
    ws.on('error', () => undefined); // 'close' follows and says it all
    ws.on('close', (code, reason) => {
      this.#end(code, reason.toString('utf8'));
    });
    this.#heartbeat.start();
  }

  /** Whose connection this is, by the credential that counts now. */
  get caller(): Caller {
    return this.#caller;
  }

  /** The connection goes on under a newer credential of the same store. */
  reauthenticate(caller: Caller): void {
    this.#caller = caller;
  }

  /** Without the port. */
  get address(): string {
    return this.remote.slice(0, this.remote.lastIndexOf(':'));
  }

  get storeId(): number {
    return this.caller.storeId;
  }

  get daemon(): string | undefined {
    return this.#hello?.instance.daemon;
  }

  get open(): boolean {
    return !this.#ended && this.#ws.readyState === this.#ws.OPEN;
  }

  /** What the store last said of itself. */
  get stat(): StatFrame | null {
    return this.#stat;
  }

  /** Green: open and welcomed. */
  get welcomed(): boolean {
    return this.#fence !== undefined && this.open;
  }

  /** Of its welcome. */
  get fence(): string | undefined {
    return this.#fence;
  }

  /** From here on the store counts as connected. */
  welcome(fence: string): void {
    this.#fence = fence;
  }

  send(frame: HqFrame): void {
    if (this.open && this.#read()) this.#ws.send(JSON.stringify(frame));
  }

  /** Whether the other end reads; ends the connection of one that does not. */
  #read(): boolean {
    if (this.#ws.bufferedAmount <= UNREAD_MAX_BYTES) return true;
    this.#closeReason ??= 'does not read';
    this.#ws.terminate();
    return false;
  }

  get #closing(): boolean {
    return this.#ended || this.#closeCode !== null;
  }

  #tooMany(): boolean {
    if (this.#frames.take('') === 0) return false;
    this.#ws.pause(); // nothing more is read, not even its answer to the close
    this.close(CLOSE.slowDown, returnReason(SLOW_DOWN_MS));
    return true;
  }

  /** Whether the other end answers a ping now: not whether it did a while ago. */
  async answers(withinMs: number): Promise<boolean> {
    return this.open && (await this.#heartbeat.answers(withinMs));
  }

  close(code: number, reason: string): void {
    if (this.#ended) return;
    this.#closeCode ??= code;
    this.#closeReason ??= reason;
    this.#ws.close(code, cut(reason));
    this.#clock.after(CLOSE_TIMEOUT_MS, () => {
      this.#ws.terminate();
    });
  }

  /** undefined until hello: HQ does not know yet who it is. */
  row(server: string): LinkRow | undefined {
    if (this.#hello === undefined) return undefined;
    return {
      storeId: this.storeId,
      server,
      connection: this.id,
      daemon: this.#hello.instance.daemon,
      kid: this.caller.kid,
      remote: this.remote,
      software: this.#hello.software,
      connected: this.welcomed,
      sinceMs: this.#sinceMs,
      lastFrameMs: this.#lastFrameMs,
      rttMs: this.#heartbeat.rttMs,
      closeCode: this.#closeCode,
      closeReason: this.#closeReason,
      stat: this.#stat,
      statMs: this.#statMs,
    };
  }

  #alive(): void {
    this.#lastFrameMs = this.#clock.now();
    this.#heartbeat.frame();
  }

  #message(data: Buffer, isBinary: boolean): void {
    if (this.#closing || this.#tooMany()) return;
    this.#alive();
    const frame = isBinary ? undefined : decode(data);
    if (frame === undefined) {
      this.close(CLOSE.badFrame, 'not a frame of the protocol');
      return;
    }
    if (
      (frame.type === 'hello' && this.#hello !== undefined) ||
      ((frame.type === 'stat' || frame.type === 'auth' || frame.type === 'rotation') &&
        this.#hello === undefined)
    ) {
      this.close(CLOSE.badFrame, 'frame out of turn');
      return;
    }
    switch (frame.type) {
      case 'hello':
        this.#hello = frame;
        this.#events.hello(this, frame);
        break;
      case 'ping':
        this.send({ type: 'pong', n: frame.n, at: this.#clock.now() });
        break;
      case 'pong':
        this.#heartbeat.pong(frame.n);
        break;
      case 'stat':
        this.#stat = frame;
        this.#statMs = this.#clock.now();
        this.#events.stat(this, frame);
        break;
      case 'auth':
        this.#events.auth(this, frame.token);
        break;
      case 'rotation':
        this.#events.rotation(this, frame);
        break;
    }
  }

  #end(code: number, reason: string): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#heartbeat.stop();
    this.#closeCode ??= code;
    this.#closeReason ??= reason;
    this.#events.closed(this);
  }
}

function decode(data: Buffer): StoreFrame | undefined {
  let value: unknown;
  try {
    value = parseJson(data, JSON_BOUNDS);
  } catch {
    return undefined;
  }
  return storeFrameSchema.safeParse(value).data;
}

function cut(reason: string): string {
  return Buffer.byteLength(reason) <= REASON_BYTES ? reason : reason.slice(0, REASON_BYTES / 3);
}
