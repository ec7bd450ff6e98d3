/**
 * Token buckets by key, in bounded memory: each key has `burst` at once and `perSecond` after that.
 *
 * The oldest keys are forgotten first when there are too many. A forgotten key starts full, so whoever invents keys
 * gains nothing by it but what the bucket of all keys together (see login-guard.ts) still takes away.
 */
import type { Clock } from '../core/clock.ts';

export interface BucketOptions {
  readonly burst: number;
  readonly perSecond: number;
  readonly clock: Clock;
  /** Keys that are remembered at most. */
  readonly keys?: number;
}

const KEYS_DEFAULT = 10_000;

interface Bucket {
  level: number;
  atMs: number;
}

export class Buckets {
  readonly #options: BucketOptions;
  readonly #keys: number;
  /** Insertion order is the order of last use. */
  readonly #buckets = new Map<string, Bucket>();

  constructor(options: BucketOptions) {
    this.#options = options;
    this.#keys = options.keys ?? KEYS_DEFAULT;
  }

  get size(): number {
    return this.#buckets.size;
  }

  /** 0: it may; else how long to stay away. Nothing is taken then. */
  take(key: string): number {
    const bucket = this.#look(key);
    if (bucket.level < 1) return Math.ceil(((1 - bucket.level) / this.#options.perSecond) * 1_000);
    bucket.level -= 1;
    return 0;
  }

  /** What was taken turned out to be in order. */
  giveBack(key: string): void {
    const bucket = this.#look(key);
    bucket.level = Math.min(this.#options.burst, bucket.level + 1);
  }

  #look(key: string): Bucket {
    const { burst, perSecond, clock } = this.#options;
    const nowMs = clock.now();
    const known = this.#buckets.get(key);
    this.#buckets.delete(key);
    const passedMs = known === undefined ? 0 : Math.max(0, nowMs - known.atMs);
    const level = known === undefined ? burst : Math.min(burst, known.level + (passedMs / 1_000) * perSecond);
    const bucket = { level, atMs: nowMs };
    this.#buckets.set(key, bucket);
    if (this.#buckets.size > this.#keys) {
      const [oldest] = this.#buckets.keys();
      if (oldest !== undefined) this.#buckets.delete(oldest);
    }
    return bucket;
  }
}

/** An address as a key: an IPv6 customer has a whole /64 and would never be met twice under one address. */
export function addressKey(address: string | undefined): string {
  if (address === undefined) return '?';
  const plain = address.replace(/^::ffff:(?=\d+\.)/i, '').replace(/%.*$/, '');
  if (!plain.includes(':')) return plain;
  const [head = '', tail] = plain.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const gap = tail === undefined ? 0 : Math.max(0, 8 - left.length - right.length);
  const groups = [...left, ...Array<string>(gap).fill('0'), ...right];
  return `${groups.slice(0, 4).join(':')}::/64`;
}
