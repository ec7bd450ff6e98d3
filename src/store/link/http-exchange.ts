/** One HTTP request to HQ and its whole answer: bounded, compressed both ways, every failure named. */
import http from 'node:http';
import https from 'node:https';
import { setDefaultAutoSelectFamilyAttemptTimeout } from 'node:net';
import { promisify } from 'node:util';
import zlib from 'node:zlib';
import { PossyncError } from '../../core/errors.ts';
import { networkError } from '../../core/network-error.ts';
import { COMPRESS_FROM_BYTES } from '../../protocol/http.ts';

const brotliCompress = promisify(zlib.brotliCompress);
const brotliDecompress = promisify(zlib.brotliDecompress);
const gunzip = promisify(zlib.gunzip);

export interface Exchange {
  readonly method: 'GET' | 'POST';
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Of the answer, uncompressed. */
  readonly limitBytes: number;
  /** Longest silence on the socket once it is connected: HQ may have to seal or apply first. */
  readonly idleMs: number;
  readonly signal?: AbortSignal;
}

export interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: Buffer;
  /** Bodies in both directions as they went over the wire. */
  readonly bytes: number;
}

/** The kernel sends three SYNs in it; a longer wait would keep the light uncertain. */
export const CONNECT_MS = 5_000;

/**
 * For every socket of this process, also a proxy's or a WebSocket's: Node gives up on an address after 250 ms, which is
 * the right one where the line is slow.
 */
export function allowSlowAddresses(): void {
  setDefaultAutoSelectFamilyAttemptTimeout(CONNECT_MS);
}

/**
 * Sends it, and sends it a second time where the socket was reused and HQ had closed it meanwhile: every request of
 * the protocol may be repeated.
 */
export async function exchange(agent: http.Agent, request: Exchange): Promise<Answer> {
  const body = request.body === undefined ? undefined : await encoded(request.body);
  try {
    return await once(agent, request, body);
  } catch (error) {
    if (!(error instanceof StaleSocket)) throw error;
    return await once(agent, request, body);
  }
}

class StaleSocket extends Error {}

interface EncodedBody {
  readonly bytes: Buffer;
  readonly encoding: 'br' | undefined;
}

/** Brotli at quality 4: as small as gzip 6 and twice as fast; the default quality 11 takes a second. */
async function encoded(text: string): Promise<EncodedBody> {
  const bytes = Buffer.from(text);
  if (bytes.length < COMPRESS_FROM_BYTES) return { bytes, encoding: undefined };
  const compressed = await brotliCompress(bytes, {
    params: {
      [zlib.constants.BROTLI_PARAM_QUALITY]: 4,
      [zlib.constants.BROTLI_PARAM_SIZE_HINT]: bytes.length,
    },
  });
  return { bytes: compressed, encoding: 'br' };
}

function once(agent: http.Agent, request: Exchange, body: EncodedBody | undefined): Promise<Answer> {
  const { method, url, limitBytes, idleMs, signal } = request;
  const secure = url.protocol === 'https:';
  const headers: Record<string, string | number> = { ...request.headers, 'accept-encoding': 'br, gzip' };
  if (body !== undefined) {
    headers['content-type'] = 'application/json';
    headers['content-length'] = body.bytes.length;
    if (body.encoding !== undefined) headers['content-encoding'] = body.encoding;
  }
  return new Promise<Answer>((resolve, reject) => {
    let handshaking = false;
    const outgoing = (secure ? https : http).request(url, {
      method,
      agent,
      headers,
      timeout: idleMs,
      ...(signal === undefined ? {} : { signal }),
    });
    const fail = (error: unknown): void => {
      if (outgoing.reusedSocket && isCut(error)) reject(new StaleSocket());
      else if (signal?.aborted === true)
        reject(new PossyncError('PS-HQ-UNREACHABLE', 'the request was given up', { cause: error }));
      else reject(networkError(error, handshaking));
    };
    outgoing.once('socket', (socket) => {
      if (!socket.connecting) return;
      const limit = setTimeout(() => {
        outgoing.destroy(timedOut('no connection'));
      }, CONNECT_MS);
      socket.once('connect', () => {
        handshaking = secure;
        if (!secure) clearTimeout(limit);
      });
      socket.once('secureConnect', () => {
        handshaking = false;
        clearTimeout(limit);
      });
      socket.once('close', () => {
        clearTimeout(limit);
      });
    });
    outgoing.once('timeout', () => {
      outgoing.destroy(timedOut(`no byte for ${idleMs} ms`));
    });
    outgoing.once('error', fail);
    outgoing.once('response', (response) => {
      collect(response, limitBytes).then(({ plain, bytes }) => {
        const { statusCode: status = 0, headers: received } = response;
        resolve({ status, headers: received, body: plain, bytes: bytes + (body?.bytes.length ?? 0) });
      }, fail);
    });
    outgoing.end(body?.bytes);
  });
}

function isCut(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
}

function timedOut(what: string): Error {
  return Object.assign(new Error(what), { code: 'ETIMEDOUT' });
}

/** The answer unpacked; ends the connection as soon as it is larger than allowed, compressed or not. */
async function collect(
  response: http.IncomingMessage,
  limitBytes: number,
): Promise<{ plain: Buffer; bytes: number }> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > limitBytes) throw tooLarge(limitBytes);
      chunks.push(chunk);
    }
  } catch (error) {
    if (error instanceof PossyncError) throw error;
    throw new PossyncError('PS-HTTP-CUT', 'the answer of HQ ended in the middle', { cause: error });
  }
  const bytes = Buffer.concat(chunks);
  const encoding = response.headers['content-encoding'];
  try {
    const options = { maxOutputLength: limitBytes };
    const plain =
      encoding === 'br'
        ? await brotliDecompress(bytes, options)
        : encoding === 'gzip'
          ? await gunzip(bytes, options)
          : bytes;
    return { plain, bytes: bytes.length };
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ERR_BUFFER_TOO_LARGE')
      throw tooLarge(limitBytes);
    throw new PossyncError('PS-HTTP-CUT', 'the answer of HQ cannot be unpacked', { cause: error });
  }
}

function tooLarge(limitBytes: number): PossyncError {
  return new PossyncError('PS-TOO-LARGE', `the answer of HQ is larger than ${limitBytes} bytes`);
}
