/** How the text of a setting becomes its value: one codec per kind, each with the rule it holds people to. */

import { parseProxy } from '../core/proxy.ts';

export interface Codec<T> {
  /** What a value must look like; completes "must be …". */
  readonly rule: string;
  /** undefined = the text breaks the rule. */
  parse(text: string): T | undefined;
}

export const text: Codec<string> = {
  rule: 'some text',
  parse: (value) => (value === '' ? undefined : value),
};

export function integer(min: number, max: number): Codec<number> {
  return {
    rule: `a whole number from ${min} to ${max}`,
    parse(value) {
      if (!/^\d{1,15}$/.test(value)) return undefined;
      const number = Number(value);
      return number >= min && number <= max ? number : undefined;
    },
  };
}

const UNIT_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** `90s`, `10m`, `24h`, `7d`, `250ms`; a bare number is seconds. Milliseconds, or undefined. */
export function parseDuration(value: string): number | undefined {
  const [, digits, unit] = /^(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)?$/.exec(value.trim()) ?? [];
  if (digits === undefined) return undefined;
  return Math.round(Number(digits) * (UNIT_MS[unit ?? 's'] ?? 1_000));
}

export function duration(minMs: number, maxMs: number): Codec<number> {
  return {
    rule: `a duration such as 90s, 10m or 24h, from ${shortDuration(minMs)} to ${shortDuration(maxMs)}`,
    parse(value) {
      const ms = parseDuration(value);
      return ms !== undefined && ms >= minMs && ms <= maxMs ? ms : undefined;
    },
  };
}

/** A duration, or `off` for none. */
export function durationOrOff(minMs: number, maxMs: number): Codec<number | 'off'> {
  const codec = duration(minMs, maxMs);
  return {
    rule: `${codec.rule}, or off`,
    parse: (value) => (value.toLowerCase() === 'off' ? 'off' : codec.parse(value)),
  };
}

function shortDuration(ms: number): string {
  for (const unit of ['d', 'h', 'm', 's'] as const) {
    const size = UNIT_MS[unit] ?? 1;
    if (ms >= size && ms % size === 0) return `${ms / size}${unit}`;
  }
  return `${ms}ms`;
}

const YES = new Set(['1', 'true', 'yes', 'on']);
const NO = new Set(['0', 'false', 'no', 'off', '']);

export const yesNo: Codec<boolean> = {
  rule: '1 or 0 (true, false, yes, no, on, off)',
  parse(value) {
    const word = value.toLowerCase();
    if (YES.has(word)) return true;
    return NO.has(word) ? false : undefined;
  },
};

export function choice<const T extends string>(...words: readonly T[]): Codec<T> {
  return {
    rule: `one of ${words.join(', ')}`,
    parse: (value) => words.find((word) => word === value.toLowerCase()),
  };
}

/** http(s):// or ws(s)://, as people write the address of HQ; always returned as http(s) without a trailing slash. */
export const hqUrl: Codec<string> = {
  rule: 'an address such as https://hq.example.com:3001 (http, https, ws or wss)',
  parse: (value) => normalizeHqUrl(value),
};

/** The http(s) form of HQ's address with its port spelled out; undefined if it is none. */
export function normalizeHqUrl(value: string): string | undefined {
  const match = /^(https?|wss?):\/\/([^/?#@\s]+)\/?$/i.exec(value.trim());
  const [, scheme, authority] = match ?? [];
  if (scheme === undefined || authority === undefined) return undefined;
  const secure = /^(https|wss)$/i.test(scheme);
  // Judged from the text: URL drops a port that is its scheme's default, and ":443" must stay what was asked for.
  const given = /:(\d{1,5})$/.exec(authority)?.[1];
  let url: URL;
  try {
    url = new URL(`${secure ? 'https' : 'http'}://${authority}`);
  } catch {
    return undefined;
  }
  if (url.hostname === '') return undefined;
  return `${url.protocol}//${url.hostname}:${given ?? 3001}`;
}

export const httpProxy: Codec<string> = {
  rule: 'the address of an HTTP proxy such as http://proxy.example.com:8080',
  parse: (value) => (parseProxy(value.trim()) === undefined ? undefined : value.trim()),
};

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/** `host:port`, a bare port, or `off`. */
export const listenAddress: Codec<ListenAddress | 'off'> = {
  rule: 'host:port, a port, or off',
  parse(value) {
    if (value.toLowerCase() === 'off') return 'off';
    const [, host, digits] = /^(?:(\[[0-9a-fA-F:]+\]|[^:\s]+):)?(\d{1,5})$/.exec(value) ?? [];
    const port = Number(digits);
    if (digits === undefined || port > 65_535) return undefined;
    return { host: (host ?? '127.0.0.1').replace(/^\[|\]$/g, ''), port };
  },
};
