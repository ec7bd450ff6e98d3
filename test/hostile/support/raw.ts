/** Bytes on a socket, without a client library that would keep to the rules: HTTP by hand and WebSocket frames by hand. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import { errorBodySchema } from '../../../src/protocol/messages.ts';
import { HQ_HEADER } from '../../../src/protocol/http.ts';

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** A connection whose bytes are kept as they come. */
export class Wire {
  readonly socket: net.Socket;
  received = Buffer.alloc(0);
  closed = false;

  constructor(socket: net.Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      // Enough to see what it is; a flood of echoes is not kept.
      if (this.received.length < 1024 * 1024) this.received = Buffer.concat([this.received, chunk]);
    });
    socket.on('error', () => undefined); // being cut is what most of them are for
    socket.on('close', () => {
      this.closed = true;
    });
  }

  static async open(where: number | string, options: { allowHalfOpen?: boolean } = {}): Promise<Wire> {
    const socket =
      typeof where === 'string'
        ? net.connect({ path: where, ...options })
        : net.connect({ port: where, host: '127.0.0.1', ...options });
    await once(socket, 'connect');
    return new Wire(socket);
  }

  send(bytes: Buffer | string): void {
    if (this.socket.writable) this.socket.write(bytes);
  }

  /** Resolves when the other end has closed. */
  async ended(): Promise<void> {
    // Not events.once: being reset is an end like any other.
    if (!this.closed)
      await new Promise<void>((resolve) =>
        this.socket.once('close', () => {
          resolve();
        }),
      );
  }

  /** What came so far as the head of an HTTP answer; undefined while it is not whole. */
  answer(): Answer | undefined {
    const text = this.received.toString('latin1').replace(/^HTTP\/1\.1 100 [^\r]*\r\n\r\n/, '');
    const end = text.indexOf('\r\n\r\n');
    if (end < 0) return undefined;
    const [line = '', ...rest] = text.slice(0, end).split('\r\n');
    const headers = Object.fromEntries(
      rest.map((header) => {
        const at = header.indexOf(':');
        return [header.slice(0, at).toLowerCase(), header.slice(at + 1).trim()];
      }),
    );
    return { status: Number(line.split(' ')[1]), headers, body: text.slice(end + 4) };
  }

  destroy(): void {
    this.socket.destroy();
  }
}

/** Sends it on a connection of its own and waits for the end; the request says `connection: close`, or HQ cuts it. */
export async function exchange(where: number | string, bytes: Buffer | string): Promise<Answer | undefined> {
  const wire = await Wire.open(where);
  wire.send(bytes);
  await wire.ended();
  return wire.answer();
}

export interface RawRequest {
  readonly method?: string;
  readonly path: string;
  readonly headers?: readonly (readonly [string, string])[];
  readonly body?: Buffer;
}

export function rawRequest({ method = 'GET', path, headers = [], body }: RawRequest): Buffer {
  const given = new Set(headers.map(([name]) => name.toLowerCase()));
  const all: (readonly [string, string])[] = [
    ...(given.has('host') ? [] : ([['host', '127.0.0.1']] as const)),
    ...headers,
    ['connection', 'close'],
    ...(body === undefined || given.has('content-length') || given.has('transfer-encoding')
      ? []
      : ([['content-length', String(body.length)]] as const)),
  ];
  const head = `${method} ${path} HTTP/1.1\r\n${all.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`;
  return Buffer.concat([Buffer.from(head, 'latin1'), body ?? Buffer.alloc(0)]);
}

/** The code that a refusal names; undefined where it is no refusal of HQ. */
export function refusalCode(answer: Answer): string | undefined {
  if (answer.headers[HQ_HEADER] === undefined) return undefined;
  try {
    return errorBodySchema.parse(JSON.parse(answer.body)).error.code;
  } catch {
    return undefined;
  }
}

/** The upgrade, up to the first byte of a frame; undefined: refused. */
export async function upgrade(
  port: number,
  path: string,
  headers: readonly (readonly [string, string])[],
): Promise<Wire | undefined> {
  const wire = await Wire.open(port);
  const lines = [
    `GET ${path} HTTP/1.1`,
    'host: 127.0.0.1',
    'connection: Upgrade',
    'upgrade: websocket',
    'sec-websocket-version: 13',
    `sec-websocket-key: ${randomBytes(16).toString('base64')}`,
    ...headers.map(([name, value]) => `${name}: ${value}`),
  ];
  wire.send(`${lines.join('\r\n')}\r\n\r\n`);
  while (wire.answer() === undefined && !wire.closed)
    await Promise.race([once(wire.socket, 'data'), wire.ended()]);
  if (wire.answer()?.status !== 101) {
    wire.destroy();
    return undefined;
  }
  wire.received = wire.received.subarray(wire.received.indexOf('\r\n\r\n') + 4);
  return wire;
}

export interface FrameForm {
  readonly opcode?: number;
  readonly fin?: boolean;
  readonly masked?: boolean;
  readonly rsv?: number;
}

/** A WebSocket frame as a client sends it, or not quite. */
export function frame(
  payload: Buffer | string,
  { opcode = 1, fin = true, masked = true, rsv = 0 }: FrameForm = {},
): Buffer {
  const data = Buffer.from(payload);
  const first = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
  const maskBit = masked ? 0x80 : 0;
  let head: Buffer;
  if (data.length < 126) head = Buffer.from([first, maskBit | data.length]);
  else if (data.length < 65_536) {
    head = Buffer.from([first, maskBit | 126, 0, 0]);
    head.writeUInt16BE(data.length, 2);
  } else {
    head = Buffer.concat([Buffer.from([first, maskBit | 127]), Buffer.alloc(8)]);
    head.writeBigUInt64BE(BigInt(data.length), 2);
  }
  if (!masked) return Buffer.concat([head, data]);
  const mask = randomBytes(4);
  for (let index = 0; index < data.length; index += 1)
    data.writeUInt8(data.readUInt8(index) ^ mask.readUInt8(index % 4), index);
  return Buffer.concat([head, mask, data]);
}

/** The closing code among what HQ has sent; undefined = the connection was cut without one. */
export function closeCode({ received }: Wire): number | undefined {
  let at = 0;
  while (at + 2 <= received.length) {
    const opcode = received.readUInt8(at) & 0x0f;
    let length = received.readUInt8(at + 1) & 0x7f;
    at += 2;
    if (length === 126) {
      if (at + 2 > received.length) return undefined;
      length = received.readUInt16BE(at);
      at += 2;
    } else if (length === 127) {
      if (at + 8 > received.length) return undefined;
      length = Number(received.readBigUInt64BE(at));
      at += 8;
    }
    if (opcode === 8) return length >= 2 && at + 2 <= received.length ? received.readUInt16BE(at) : 1005;
    at += length;
  }
  return undefined;
}
