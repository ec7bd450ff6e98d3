/** Random values that can be had again: everything derives from the seed of the run and the name of the test. */
import { createHash, randomInt } from 'node:crypto';

export const runSeed: number = readSeed(process.env.POSSYNC_TEST_SEED);

function readSeed(text: string | undefined): number {
  if (text === undefined || text === '') return randomInt(1, 2 ** 31);
  const seed = Number(text);
  if (!Number.isSafeInteger(seed) || seed < 0)
    throw new RangeError(`POSSYNC_TEST_SEED is no number: ${text}`);
  return seed;
}

export interface Random {
  /** 0 … n-1. */
  int(n: number): number;
  /** One of them. */
  pick<T>(from: readonly T[]): T;
  /** True with that probability (0 … 1). */
  chance(probability: number): boolean;
  /** A version 4 UUID. */
  uuid(): string;
  /** The same elements in another order. */
  shuffle<T>(from: readonly T[]): T[];
  /** A generator of its own, so that one part of a test does not shift the values of another. */
  fork(name: string): Random;
}

/** The generator of one test: the same seed and name give the same values, whichever other tests run. */
export function randomFor(name: string, seed: number = runSeed): Random {
  const next = sfc32(createHash('sha256').update(`${seed}:${name}`).digest());
  const int = (n: number): number => {
    if (!Number.isSafeInteger(n) || n < 1) throw new RangeError(`no number below ${n}`);
    return Math.floor((next() / 2 ** 32) * n);
  };
  const at = <T>(from: readonly T[], index: number): T => {
    if (index >= from.length) throw new RangeError('nothing to pick from');
    return from[index] as T; // the line above has checked it, and T itself may include undefined
  };
  return {
    int,
    pick: (from) => at(from, from.length === 0 ? 0 : int(from.length)),
    chance: (probability) => next() / 2 ** 32 < probability,
    uuid() {
      const bytes = Buffer.alloc(16);
      for (let offset = 0; offset < 16; offset += 4) bytes.writeUInt32BE(next(), offset);
      bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x40, 6);
      bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
      return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
    },
    shuffle(from) {
      const rest = [...from];
      const result = [];
      while (rest.length > 0) result.push(...rest.splice(int(rest.length), 1));
      return result;
    },
    fork: (part) => randomFor(`${name}/${part}`, seed),
  };
}

/** "Small fast counter" with 128 bits of state: passes the usual batteries and is a few lines long. */
function sfc32(seed: Buffer): () => number {
  let a = seed.readInt32LE(0);
  let b = seed.readInt32LE(4);
  let c = seed.readInt32LE(8);
  let counter = seed.readInt32LE(12);
  return () => {
    const sum = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return sum >>> 0;
  };
}
