/** Hostile forms of a good message, from a seeded generator: values of the wrong kind and size, broken JSON, broken bytes. */
import { brotliCompressSync, gzipSync } from 'node:zlib';
import type { Random } from '../../support/random.ts';

const SQL = [
  `'; drop table public.sales; --`,
  `1); delete from possync.tokens; select (1`,
  `$1`,
  `\\'; select pg_sleep(10); --`,
  `{"a":1}'::jsonb; update public.stores set active = false; --`,
  `%s %I %L %%`,
];

const PATHS = [
  '../../../etc/passwd',
  '..%2f..%2fsecret',
  '/dev/zero',
  'C:\\\\windows',
  '\u202e',
  'a\r\nx: y',
];

/** A raw text in place of a value: what JSON.stringify would not write. */
const RAW = [
  '1e400',
  '-1e400',
  '9'.repeat(400),
  '0.1e-400',
  '"\\u0000"',
  '"\\ud800"',
  '"\\udc00\\ud800"',
  'NaN',
  '01',
  '{"__proto__":{"admin":true}}',
  '{"constructor":{"prototype":{}}}',
  `${'['.repeat(10_000)}${']'.repeat(10_000)}`,
  `${'{"a":'.repeat(10_000)}1${'}'.repeat(10_000)}`,
  `[${'0,'.repeat(20_000)}0]`,
];

function hostileValue(random: Random): unknown {
  return random.pick<() => unknown>([
    () => null,
    () => true,
    () => -1,
    () => 0,
    () => 2 ** 31,
    () => 2 ** 53,
    () => 1.5,
    () => '',
    () => 'x'.repeat(1 + random.int(70_000)),
    () => random.pick(SQL),
    () => random.pick(PATHS),
    () => [],
    () => ({}),
    () => [[[[]]]],
    () => '2026-13-45T99:99:99Z',
    () => random.uuid(),
    () => 'ſ\u0130\uFEFF\uFFFF',
  ])();
}

/** Where in a message something can be changed: every key and every element. */
function places(
  value: unknown,
  found: { holder: Record<string, unknown>; key: string }[] = [],
): typeof found {
  if (typeof value !== 'object' || value === null) return found;
  for (const key of Object.keys(value)) {
    const holder = value as Record<string, unknown>;
    found.push({ holder, key });
    places(holder[key], found);
  }
  return found;
}

const MARK = 'replaced-by-a-raw-text';

/** The text of a message with one to three things wrong in it. */
export function mutateJson(message: object, random: Random): string {
  const copy = structuredClone(message);
  let raw: string | undefined;
  for (let count = 1 + random.int(3); count > 0; count -= 1) {
    const all = places(copy);
    if (all.length === 0) break;
    const { holder, key } = random.pick(all);
    if (random.chance(0.15)) Reflect.deleteProperty(holder, key);
    else if (raw === undefined && random.chance(0.2)) {
      holder[key] = MARK;
      raw = random.pick(RAW);
    } else if (random.chance(0.1)) holder[`extra ${random.int(10)}`] = hostileValue(random);
    else holder[key] = hostileValue(random);
  }
  const text = JSON.stringify(copy);
  return raw === undefined ? text : text.replace(`"${MARK}"`, () => raw);
}

/** The bytes of a text with something wrong in them. */
export function mutateBytes(text: string, random: Random): Buffer {
  const bytes = Buffer.from(text);
  return random.pick<() => Buffer>([
    () => bytes.subarray(0, random.int(bytes.length + 1)),
    () => {
      for (let count = 1 + random.int(8); count > 0 && bytes.length > 0; count -= 1)
        bytes.writeUInt8(random.int(256), random.int(bytes.length));
      return bytes;
    },
    () => Buffer.concat([bytes, Buffer.from([0xc3, 0x28, 0xff])]),
    () => Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), bytes]),
    () => Buffer.concat([bytes, bytes]),
    () => Buffer.alloc(random.int(100_000), random.int(256)),
    () => Buffer.from(text.replaceAll('"', "'")),
    () => Buffer.from(text, 'utf16le'),
  ])();
}

/** A body as it goes over the wire, packed in one way or another, or said to be. */
export function packBody(bytes: Buffer, random: Random): { bytes: Buffer; encoding: string | undefined } {
  return random.pick<() => { bytes: Buffer; encoding: string | undefined }>([
    () => ({ bytes, encoding: undefined }),
    () => ({ bytes, encoding: undefined }),
    () => ({ bytes: brotliCompressSync(bytes, { params: { 1: 2 } }), encoding: 'br' }),
    () => ({ bytes: gzipSync(bytes), encoding: 'gzip' }),
    () => ({ bytes, encoding: random.pick(['br', 'gzip', 'deflate', 'zstd', 'gzip, br', 'x'.repeat(300)]) }),
    () => {
      const whole = gzipSync(bytes);
      return { bytes: whole.subarray(0, random.int(whole.length)), encoding: 'gzip' };
    },
  ])();
}
