/** The chain that proves two histories equal: both ends and the store's database compute it the same way. */
import { createHash } from 'node:crypto';

/** chain(n) = sha256(chain(n-1) || n as 8 bytes, big-endian || body as UTF-8); in hex, '' before the first entry. */
export function nextChain(prev: string, seq: number, body: string): string {
  const number = Buffer.alloc(8);
  number.writeBigInt64BE(BigInt(seq));
  return createHash('sha256').update(Buffer.from(prev, 'hex')).update(number).update(body).digest('hex');
}
