/**
 * JSON from outside, judged before it is parsed: a megabyte of `[[],[],…` unpacks from a hundred bytes of brotli, and
 * becomes a hundred times its size in objects, or a million faults for the schema to list.
 *
 *   bytes ─▶ UTF-8? ─▶ one pass: depth · number of values · \u0000 · half surrogate pairs ─▶ JSON.parse ─▶ schema
 *
 * What PostgreSQL cannot keep in a text (NUL, half a surrogate pair) is refused here, where it is the sender's fault,
 * and not there, where it would look like HQ's.
 */
import { isUtf8 } from 'node:buffer';
import { PossyncError } from '../core/errors.ts';

export interface JsonBounds {
  /** Messages of the protocol are at most five deep. */
  readonly depth: number;
  /** Commas, braces and brackets outside of strings. */
  readonly tokens: number;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** The value of a JSON text; throws PS-PROTOCOL. */
export function parseJson(bytes: Buffer, bounds: JsonBounds): unknown {
  if (!isUtf8(bytes)) throw broken('is not UTF-8');
  judge(bytes, bounds);
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch (error) {
    throw new PossyncError('PS-PROTOCOL', 'the body is not JSON', { cause: error });
  }
}

/** One pass over the bytes; strings are skipped but for their escapes. Whether it is JSON at all, JSON.parse says. */
function judge(bytes: Buffer, { depth: maxDepth, tokens: maxTokens }: JsonBounds): void {
  let depth = 0;
  let tokens = 0;
  for (let at = 0; at < bytes.length; at += 1) {
    switch (bytes[at]) {
      case QUOTE:
        at = endOfString(bytes, at + 1);
        break;
      case 0x5b: // [
      case 0x7b: // {
        depth += 1;
        tokens += 1;
        if (depth > maxDepth) throw broken(`is nested deeper than ${maxDepth}`);
        break;
      case 0x5d: // ]
      case 0x7d: // }
        depth -= 1;
        break;
      case 0x2c: // ,
        tokens += 1;
        break;
      case undefined:
      default:
    }
    if (tokens > maxTokens) throw broken(`has more than ${maxTokens} parts`);
  }
}

/** Where the string that begins at `from` ends; the end of the text if it does not. */
function endOfString(bytes: Buffer, from: number): number {
  let high = false;
  for (let at = from; at < bytes.length; at += 1) {
    const byte = bytes[at];
    if (byte === BACKSLASH) {
      at += 1;
      if (bytes[at] === 0x75) {
        const unit = unitAt(bytes, at + 1);
        at += 4;
        if (unit === 0) throw broken('holds a NUL');
        const low = unit >= 0xdc00 && unit <= 0xdfff;
        if (low !== high) throw broken('holds half a surrogate pair');
        high = unit >= 0xd800 && unit <= 0xdbff;
        continue;
      }
    }
    if (high) throw broken('holds half a surrogate pair');
    if (byte === QUOTE) return at;
  }
  return bytes.length;
}

/** Four hex digits; others give a number that JSON.parse refuses to see anyway. */
function unitAt(bytes: Buffer, at: number): number {
  let unit = 0;
  for (let index = at; index < at + 4; index += 1) {
    const byte = bytes[index] ?? 0;
    // Digits are 0x30-0x39; letters of either case have their value minus 9 in the low four bits.
    unit = unit * 16 + (byte & 0x0f) + (byte > 0x39 ? 9 : 0);
  }
  return unit;
}

function broken(what: string): PossyncError {
  return new PossyncError('PS-PROTOCOL', `the body ${what}`);
}
