/** X.509 certificates with any dates, names, keys and issuers, made in a millisecond without any other program. */
import { createSign, generateKeyPairSync, randomBytes, type KeyObject } from 'node:crypto';

export interface MadeCertificate {
  readonly pem: string;
  readonly keyPem: string;
  readonly key: KeyObject;
  readonly subject: Name;
}

interface Name {
  readonly organisation: string;
  readonly common: string;
}

export interface CertificateWish {
  readonly common: string;
  readonly organisation?: string;
  /** DNS names and IPv4 addresses. */
  readonly names?: readonly string[];
  readonly issuer?: MadeCertificate;
  readonly authority?: boolean;
  readonly notBefore?: Date;
  readonly notAfter?: Date;
  readonly rsaBits?: number;
}

const DAY_MS = 86_400_000;

export function makeCertificate(wish: CertificateWish): MadeCertificate {
  const { publicKey, privateKey } =
    wish.rsaBits === undefined
      ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
      : generateKeyPairSync('rsa', { modulusLength: wish.rsaBits });
  const subject = { organisation: wish.organisation ?? 'Example Chain', common: wish.common };
  const signer = wish.issuer?.key ?? privateKey;
  const algorithm =
    signer.asymmetricKeyType === 'rsa'
      ? sequence(oid('1.2.840.113549.1.1.11'), tagged(0x05, Buffer.alloc(0)))
      : sequence(oid('1.2.840.10045.4.3.2'));
  const now = Date.now();
  const serial = randomBytes(8);
  serial[0] = 0x40;
  const body = sequence(
    tagged(0xa0, integer(Buffer.from([2]))),
    integer(serial),
    algorithm,
    nameOf(wish.issuer?.subject ?? subject),
    sequence(
      time(wish.notBefore ?? new Date(now - DAY_MS)),
      time(wish.notAfter ?? new Date(now + 365 * DAY_MS)),
    ),
    nameOf(subject),
    publicKey.export({ type: 'spki', format: 'der' }),
    tagged(0xa3, sequence(...extensions(wish))),
  );
  const signature = createSign('sha256').update(body).sign(signer);
  const der = sequence(body, algorithm, tagged(0x03, Buffer.concat([Buffer.from([0]), signature])));
  return {
    pem: `-----BEGIN CERTIFICATE-----\n${(der.toString('base64').match(/.{1,64}/g) ?? []).join('\n')}\n-----END CERTIFICATE-----\n`,
    keyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
    key: privateKey,
    subject,
  };
}

function extensions({ authority, names = [] }: CertificateWish): Buffer[] {
  const made = [
    sequence(
      oid('2.5.29.19'),
      tagged(0x01, Buffer.from([0xff])),
      octets(authority === true ? sequence(tagged(0x01, Buffer.from([0xff]))) : sequence()),
    ),
  ];
  if (names.length > 0) {
    const parts = names.map((name) =>
      /^\d+\.\d+\.\d+\.\d+$/.test(name)
        ? tagged(0x87, Buffer.from(name.split('.').map(Number)))
        : tagged(0x82, Buffer.from(name)),
    );
    made.push(sequence(oid('2.5.29.17'), octets(sequence(...parts))));
  }
  return made;
}

function nameOf({ organisation, common }: Name): Buffer {
  const part = (type: string, text: string): Buffer =>
    tagged(0x31, sequence(oid(type), tagged(0x0c, Buffer.from(text))));
  return sequence(part('2.5.4.10', organisation), part('2.5.4.3', common));
}

/** DER: a tag, the length, the content. */
function tagged(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const head =
    length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...head]), content]);
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return tagged(0x30, Buffer.concat(parts));
}

function octets(content: Buffer): Buffer {
  return tagged(0x04, content);
}

function integer(value: Buffer): Buffer {
  return tagged(0x02, value);
}

function time(date: Date): Buffer {
  const text = date.toISOString().replace(/[-:T]|\.\d+/g, '');
  // GeneralizedTime from 2050 on, UTCTime before, as RFC 5280 asks.
  return date.getUTCFullYear() >= 2050
    ? tagged(0x18, Buffer.from(text))
    : tagged(0x17, Buffer.from(text.slice(2)));
}

function oid(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number);
  const bytes = [first * 40 + second];
  for (const value of rest) {
    const groups: number[] = [];
    let left = value;
    do {
      groups.unshift((left & 0x7f) | (groups.length > 0 ? 0x80 : 0));
      left = Math.floor(left / 128);
    } while (left > 0);
    bytes.push(...groups);
  }
  return tagged(0x06, Buffer.from(bytes));
}
