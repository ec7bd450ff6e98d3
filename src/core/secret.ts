/**
 * Secrets that cannot be printed, and the text form of tokens.
 *
 *   pst_<kid>_<43 chars base64url of 32 random bytes>_<4 check chars>     a store's credential
 *   pse_<base64url of {v, code, hq, kid, secret}>_<4 check chars>         a one-time enrolment token
 *
 * The kid is public and the only part ever shown. HQ keeps sha256(secret) alone. The check characters catch a
 * token that was not copied completely before anything is sent.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { inspect } from 'node:util';
import { PossyncError } from './errors.ts';

/** Holds a secret text; every way of printing it shows `label` instead. */
export class Secret {
  readonly #value: string;
  readonly label: string;

  constructor(value: string, label = '[secret]') {
    this.#value = value;
    this.label = label;
  }

  /** The secret itself. Call it only where it goes on the wire, into its file, or into a hash. */
  reveal(): string {
    return this.#value;
  }

  toString(): string {
    return this.label;
  }

  toJSON(): string {
    return this.label;
  }

  [inspect.custom](): string {
    return this.label;
  }
}

export interface Credential {
  readonly kid: string;
  /** The 43 random characters; only their SHA-256 is known to HQ. */
  readonly secret: Secret;
}

export interface EnrolmentToken {
  readonly kid: string;
  readonly secret: Secret;
  readonly storeCode: string;
  readonly hqUrl: string;
}

/** Kids avoid I, L, O, 0 and 1: they are read aloud over the phone. */
const KID_ALPHABET = 'ABCDEFGHJKMNPQRSTUVWXYZ23456789';
const KID_LENGTH = 8;

export function newKid(): string {
  return Array.from(randomBytes(KID_LENGTH), (byte) => KID_ALPHABET.charAt(byte % KID_ALPHABET.length)).join(
    '',
  );
}

export function newSecret(kid: string): Secret {
  return new Secret(randomBytes(32).toString('base64url'), `kid:${kid}`);
}

/** SHA-256 of a secret, as kept at HQ. A 256-bit random secret needs no slow hash. */
export function hashSecret(secret: Secret): Buffer {
  return createHash('sha256').update(secret.reveal()).digest();
}

export function sameHash(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

export function formatCredential({ kid, secret }: Credential): Secret {
  const body = `pst_${kid}_${secret.reveal()}`;
  return new Secret(`${body}_${checkChars(body)}`, secret.label);
}

/** Reads `pst_…`; surrounding blanks, CR/LF and a BOM are dropped. Throws PS-TOKEN-GARBLED. */
export function parseCredential(text: string): Credential {
  const match = /^(pst_([A-Z2-9]{4,16})_([A-Za-z0-9_-]{43}))_([A-Za-z0-9_-]{4})$/.exec(cleaned(text));
  const [, body, kid, secret, check] = match ?? [];
  if (body === undefined || kid === undefined || secret === undefined || check !== checkChars(body))
    throw garbled();
  return { kid, secret: new Secret(secret, `kid:${kid}`) };
}

export function formatEnrolmentToken({ kid, secret, storeCode, hqUrl }: EnrolmentToken): Secret {
  const json = JSON.stringify({ v: 1, code: storeCode, hq: hqUrl, kid, secret: secret.reveal() });
  const body = `pse_${Buffer.from(json).toString('base64url')}`;
  return new Secret(`${body}_${checkChars(body)}`, secret.label);
}

/** Reads `pse_…`. Throws PS-TOKEN-GARBLED. */
export function parseEnrolmentToken(text: string): EnrolmentToken {
  const match = /^(pse_([A-Za-z0-9_-]{40,4000}))_([A-Za-z0-9_-]{4})$/.exec(cleaned(text));
  const [, body, payload, check] = match ?? [];
  if (body === undefined || payload === undefined || check !== checkChars(body)) throw garbled();
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8'));
  } catch {
    throw garbled();
  }
  if (!isTokenPayload(value)) throw garbled();
  return {
    kid: value.kid,
    secret: new Secret(value.secret, `kid:${value.kid}`),
    storeCode: value.code,
    hqUrl: value.hq,
  };
}

interface TokenPayload {
  readonly v: 1;
  readonly code: string;
  readonly hq: string;
  readonly kid: string;
  readonly secret: string;
}

function isTokenPayload(value: unknown): value is TokenPayload {
  if (typeof value !== 'object' || value === null) return false;
  const v = value as Record<string, unknown>;
  return (
    v.v === 1 &&
    typeof v.code === 'string' &&
    typeof v.hq === 'string' &&
    typeof v.kid === 'string' &&
    typeof v.secret === 'string'
  );
}

function cleaned(text: string): string {
  return text.replace(/^\uFEFF/, '').trim();
}

function checkChars(body: string): string {
  return createHash('sha256').update(body).digest('base64url').slice(0, 4);
}

function garbled(): PossyncError {
  return new PossyncError('PS-TOKEN-GARBLED', 'the token is damaged', {
    why: 'its checksum does not match: it was not copied completely',
  });
}

/** Blanks what looks like one of our tokens, and user and password in a URL: the last net in front of logs and output. */
export function redact(text: string): string {
  return text
    .replace(/\bps[te]_[A-Za-z0-9_-]{20,}/g, (token) => `${token.slice(0, 4)}…`)
    .replace(/\/\/[^/\s"'@]+@/g, '//…@');
}
