/** Bodies of requests to HQ: read with a limit on both sides of the compression; answers compressed where it pays. */
import type { IncomingMessage } from 'node:http';
import { promisify } from 'node:util';
import zlib from 'node:zlib';
import * as z from 'zod';
import { PossyncError } from '../core/errors.ts';
import { COMPRESS_FROM_BYTES } from '../protocol/http.ts';
import { parseJson, type JsonBounds } from './json-input.ts';

const brotliCompress = promisify(zlib.brotliCompress);
const brotliDecompress = promisify(zlib.brotliDecompress);
const gzip = promisify(zlib.gzip);
const gunzip = promisify(zlib.gunzip);

export interface BodyLimits extends JsonBounds {
  /** As it comes over the wire. */
  readonly wireBytes: number;
  /** Unpacked: 200 MB of zeros are 194 kB of gzip. */
  readonly plainBytes: number;
}

/** The JSON value of the body; throws PS-TOO-LARGE or PS-PROTOCOL and reads no further. */
export async function readJson(
  request: IncomingMessage,
  limits: BodyLimits,
  count?: CountBytes,
): Promise<unknown> {
  return await parseBody(await readBytes(request, limits.wireBytes, count), request, limits);
}

/** Told of every piece as it comes; throws where all bodies together would be too much. */
export type CountBytes = (bytes: number) => void;

/** The body as it came; reads no further than the limit. */
export async function readBytes(
  request: IncomingMessage,
  limitBytes: number,
  count: CountBytes = () => undefined,
): Promise<Buffer> {
  const declared = Number(request.headers['content-length'] ?? 0);
  if (declared > limitBytes) throw tooLarge(limitBytes);
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of request as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > limitBytes) throw tooLarge(limitBytes);
      count(chunk.length);
      chunks.push(chunk);
    }
  } catch (error) {
    if (error instanceof PossyncError) throw error;
    // The other end is gone, or its line is: nobody will read the answer.
    throw new PossyncError('PS-PROTOCOL', 'the body ended in the middle', { cause: error });
  }
  return Buffer.concat(chunks);
}

/** `readJson` in two steps, for bodies whose unpacking and parsing has to wait for its turn. */
export async function parseBody(
  bytes: Buffer,
  request: IncomingMessage,
  limits: BodyLimits,
): Promise<unknown> {
  return parseJson(await unpacked(bytes, request, limits.plainBytes), limits);
}

async function unpacked(bytes: Buffer, request: IncomingMessage, maxOutputLength: number): Promise<Buffer> {
  const encoding = request.headers['content-encoding'] ?? 'identity';
  try {
    if (encoding === 'br') return await brotliDecompress(bytes, { maxOutputLength });
    if (encoding === 'gzip') return await gunzip(bytes, { maxOutputLength });
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ERR_BUFFER_TOO_LARGE')
      throw tooLarge(maxOutputLength);
    throw new PossyncError('PS-PROTOCOL', 'the body cannot be unpacked', { cause: error });
  }
  if (encoding !== 'identity')
    throw new PossyncError('PS-PROTOCOL', 'the body must be plain, gzip or br', { details: { encoding } });
  if (bytes.length > maxOutputLength) throw tooLarge(maxOutputLength);
  return bytes;
}

function tooLarge(limitBytes: number): PossyncError {
  return new PossyncError('PS-TOO-LARGE', `the body is larger than ${limitBytes} bytes`);
}

export interface PackedBody {
  readonly bytes: Buffer<ArrayBuffer>;
  readonly encoding: 'br' | 'gzip' | undefined;
}

/** Brotli at quality 4 where the client takes it: gzip 6's size in half its time; the default 11 takes seconds. */
export async function packed(text: string, acceptEncoding: string | undefined): Promise<PackedBody> {
  const bytes = Buffer.from(text);
  if (bytes.length <= COMPRESS_FROM_BYTES) return { bytes, encoding: undefined };
  const accepted = new Set((acceptEncoding ?? '').split(',').map((part) => part.trim().split(';')[0]));
  if (accepted.has('br')) {
    const params = {
      [zlib.constants.BROTLI_PARAM_QUALITY]: 4,
      [zlib.constants.BROTLI_PARAM_SIZE_HINT]: bytes.length,
    };
    return { bytes: await brotliCompress(bytes, { params }), encoding: 'br' };
  }
  if (accepted.has('gzip')) return { bytes: await gzip(bytes), encoding: 'gzip' };
  return { bytes, encoding: undefined };
}

/** What a request says, if it says it as the protocol does; throws PS-PROTOCOL. */
export function parse<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new PossyncError('PS-PROTOCOL', 'the request breaks the protocol', {
    why: z.prettifyError(result.error).slice(0, 500),
  });
}
