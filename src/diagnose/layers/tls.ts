/**
 * b.8 TLS: one look at whatever certificate comes, then a judgement of each of its properties.
 *
 * The look accepts anything and sends nothing. OpenSSL names only the first fault it finds, so dates, name and
 * strength are read from the certificates themselves; a wrong clock of this machine is told apart from a wrong
 * certificate by the time that HQ says (clock.skew).
 */
import { createHash, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import tls from 'node:tls';
import { codeOf } from '../../core/classify.ts';
import { fail, pass, warn, type Check, type Finding, type Probe } from '../check.ts';
import { connectHq, connectTls, StepTimeout, targetOf, within } from '../dial.ts';

export const TLS: readonly Check[] = [
  {
    id: 'tls.ca_file',
    layer: 'tls',
    title: 'the CA file holds certificates',
    dependsOn: ['cfg.hq_url'],
    run: checkCaFile,
  },
  {
    id: 'tls.handshake',
    layer: 'tls',
    title: 'HQ speaks TLS',
    dependsOn: ['tcp.connect', 'proxy.connect', 'tls.ca_file'],
    limitMs: 9_000,
    run: checkHandshake,
  },
  {
    id: 'tls.chain',
    layer: 'tls',
    title: "HQ's certificate authority is trusted",
    dependsOn: ['tls.handshake'],
    run: checkChain,
  },
  {
    id: 'tls.hostname',
    layer: 'tls',
    title: "HQ's certificate is for its name",
    dependsOn: ['tls.handshake'],
    run: checkHostname,
  },
  {
    id: 'tls.expiry',
    layer: 'tls',
    title: "HQ's certificate has not expired",
    dependsOn: ['tls.handshake'],
    after: ['clock.skew'],
    run: checkExpiry,
  },
  {
    id: 'tls.notyet',
    layer: 'tls',
    title: "HQ's certificate is valid already",
    dependsOn: ['tls.handshake'],
    after: ['clock.skew'],
    run: checkNotYet,
  },
  {
    id: 'tls.strength',
    layer: 'tls',
    title: "HQ's key and protocol are strong",
    dependsOn: ['tls.handshake'],
    run: checkStrength,
  },
  {
    id: 'tls.changed',
    layer: 'tls',
    title: "HQ's certificate is the one seen before",
    dependsOn: ['tls.handshake'],
    run: checkChanged,
  },
  {
    id: 'tls.client',
    layer: 'tls',
    title: 'HQ asks for no client certificate',
    dependsOn: ['tls.handshake'],
    run: checkClient,
  },
];

/** Checks of later layers that need every certificate question answered well. */
export const TLS_TRUST = ['tls.chain', 'tls.hostname', 'tls.expiry', 'tls.notyet', 'tls.client'] as const;

const PLAIN = 'not needed: the address of HQ is http://';

async function checkCaFile({ subject, facts, machine }: Probe): Promise<Finding> {
  const { caFile } = subject;
  if (caFile === undefined) return pass("the system's authorities are used");
  const detail = { target: caFile };
  let text: string;
  try {
    text = await readFile(caFile, 'utf8');
  } catch (error) {
    return fail('PS-TLS-CAFILE', `${caFile} cannot be read (${codeOf(error) ?? 'unknown'})`, detail);
  }
  const parts = text.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? [];
  if (parts.length === 0) {
    const found = text.includes('PRIVATE KEY') ? 'found a private key' : 'found no PEM certificate';
    return fail('PS-TLS-CAFILE', `${caFile} is not a certificate (${found})`, detail);
  }
  let certificates: X509Certificate[];
  try {
    certificates = parts.map((part) => new X509Certificate(part));
  } catch {
    return fail('PS-TLS-CAFILE', `${caFile} holds a damaged certificate`, detail);
  }
  const now = machine.clock.now();
  const dead = certificates.find((certificate) => Date.parse(certificate.validTo) < now);
  if (dead !== undefined && certificates.length === 1)
    return fail('PS-TLS-CAFILE', `the authority in ${caFile} expired on ${day(dead.validTo)}`, detail);
  facts.ca = parts;
  return pass(`${parts.length} in ${caFile}`);
}

async function checkHandshake(probe: Probe): Promise<Finding> {
  const target = targetOf(probe);
  const name = `${target.host}:${target.port}`;
  if (!target.secure) return pass(PLAIN);
  try {
    const socket = await connectTls(probe, { verify: false });
    const chain = chainOf(socket);
    const { authorizationError } = socket;
    probe.facts.tls = {
      protocol: socket.getProtocol(),
      // Node's types say Error; what arrives is OpenSSL's code.
      authorizationError: socket.authorized ? undefined : String(authorizationError),
      chain,
      verified: socket.authorized,
    };
    socket.destroy();
    return pass(`${socket.getProtocol() ?? 'TLS'}, ${chain[0]?.subject.replaceAll('\n', ', ') ?? name}`);
  } catch (error) {
    return handshakeFailure(probe, error, name);
  }
}

async function handshakeFailure(probe: Probe, error: unknown, target: string): Promise<Finding> {
  const code = codeOf(error) ?? '';
  const detail = { target, evidence: { errno: code } };
  if (error instanceof StepTimeout)
    return fail('PS-TLS-SILENT', 'connected, but no reply to the TLS greeting', detail);
  if (code === 'ECONNRESET' || code === 'EPIPE')
    return fail('PS-TLS-CUT', 'the connection is cut exactly when encryption starts', detail);
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'ERR_SSL_PACKET_LENGTH_TOO_LONG') {
    const heard = await firstWords(probe);
    return fail(
      'PS-TLS-PLAINTEXT',
      `${target} answers without TLS${heard === '' ? '' : ` (${heard})`}`,
      detail,
    );
  }
  if (/PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL/.test(code))
    return fail('PS-TLS-VERSION', 'HQ or a box on the way allows only TLS 1.1 or older', detail);
  if (/HANDSHAKE_FAILURE|NO_SHARED_CIPHER|NO_SUITABLE/.test(code))
    return fail('PS-TLS-CIPHER', 'HQ and this store have no cipher in common', detail);
  return fail('PS-TLS-CUT', `TLS cannot be set up (${code})`, detail);
}

/** What the other side says to a plain HTTP request: names the box that answers. */
async function firstWords(probe: Probe): Promise<string> {
  try {
    const socket = await connectHq(probe);
    socket.write(`GET / HTTP/1.0\r\nHost: ${targetOf(probe).host}\r\n\r\n`);
    const [data] = (await within(probe, 'plain', 1_000, once(socket, 'data'))) as [Buffer];
    socket.destroy();
    const text = data.toString('latin1', 0, 2_000);
    const server = /^server: *([^\r\n]{1,60})/im.exec(text)?.[1];
    const first =
      text
        .split('\r\n', 1)[0]
        ?.replace(/[^\x20-\x7e]/g, '?')
        .slice(0, 60) ?? '';
    return `first words: ${first}${server === undefined ? '' : `, Server: ${server}`}`;
  } catch {
    return ''; // it only makes the message richer
  }
}

function chainOf(socket: tls.TLSSocket): X509Certificate[] {
  const chain: X509Certificate[] = [];
  let current: tls.DetailedPeerCertificate | undefined = socket.getPeerCertificate(true);
  // Node closes a chain with a certificate that is its own issuer.
  while (current?.raw !== undefined && chain.length < 10) {
    chain.push(new X509Certificate(current.raw));
    const next: tls.DetailedPeerCertificate | undefined = current.issuerCertificate;
    current = next === current ? undefined : next;
  }
  return chain;
}

/** Makers of boxes and programs that inspect TLS, as they name their authorities. */
const INSPECTORS =
  /zscaler|fortinet|fortigate|sophos|palo alto|umbrella|cisco|netskope|eset|kaspersky|bitdefender|avast|avg|checkpoint|check point|watchguard|sonicwall|barracuda|bluecoat|blue coat|mitmproxy|squid|untangle|inspection/i;

function checkChain(probe: Probe): Finding {
  const { facts } = probe;
  const seen = facts.tls;
  if (seen === undefined) return pass(PLAIN);
  const [leaf] = seen.chain;
  const issuer = oneLine(leaf?.issuer ?? '');
  const evidence = { error: seen.authorizationError ?? null, issuer, certificates: seen.chain.length };
  const detail = { target: targetOf(probe).host, evidence };
  switch (seen.authorizationError) {
    case 'DEPTH_ZERO_SELF_SIGNED_CERT':
      return fail('PS-TLS-SELFSIGNED', 'HQ uses a self-signed certificate that is not trusted here', detail);
    case 'SELF_SIGNED_CERT_IN_CHAIN':
    case 'UNABLE_TO_VERIFY_LEAF_SIGNATURE':
    case 'UNABLE_TO_GET_ISSUER_CERT':
    case 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY':
    case 'CERT_SIGNATURE_FAILURE':
    case 'CERT_UNTRUSTED':
    case 'INVALID_CA':
      break;
    default:
      return pass(`issued by ${issuer}`, evidence);
  }
  const maker = INSPECTORS.exec(seen.chain.map((part) => `${part.issuer} ${part.subject}`).join(' '))?.[0];
  const remembered = facts.memory?.issuer;
  if (maker !== undefined || (remembered !== undefined && remembered !== null && remembered !== issuer)) {
    const host = `${targetOf(probe).host}:${targetOf(probe).port}`;
    return fail(
      'PS-TLS-INSPECTED',
      `a security box replaces HQ's certificate with its own (issuer: ${issuer})`,
      {
        ...detail,
        hint: `ask for a bypass of TLS inspection for ${host}, or set SYNC_TLS_CA_FILE to its CA`,
      },
    );
  }
  // Alone, with an issuer that an earlier run or our own CA file knows: the piece between is missing.
  const trusted = (facts.ca ?? tls.rootCertificates).length;
  const known =
    remembered === issuer || (seen.chain.length === 1 && facts.ca !== undefined && knowsRoot(facts.ca, leaf));
  if (known && seen.chain.length === 1)
    return fail('PS-TLS-NOINTERMEDIATE', `HQ does not send its intermediate certificate (${issuer})`, detail);
  return fail('PS-TLS-UNTRUSTED', `HQ's certificate authority is not trusted here (${issuer})`, {
    ...detail,
    evidence: { ...evidence, trusted_authorities: trusted },
  });
}

/** The organisation that issued the leaf is one whose root we trust, so only a certificate between is missing. */
function knowsRoot(ca: readonly string[], leaf: X509Certificate | undefined): boolean {
  const organisation = /^O=(.+)$/m.exec(leaf?.issuer ?? '')?.[1];
  if (organisation === undefined) return false;
  return ca.some((text) => new X509Certificate(text).subject.split('\n').includes(`O=${organisation}`));
}

function checkHostname(probe: Probe): Finding {
  const [leaf] = probe.facts.tls?.chain ?? [];
  if (leaf === undefined) return pass(PLAIN);
  const { host, literal } = targetOf(probe);
  const fits = literal ? leaf.checkIP(host) : leaf.checkHost(host);
  if (fits !== undefined) return pass(host);
  const names = (leaf.subjectAltName ?? leaf.subject).replaceAll(/(DNS|IP Address):/g, '');
  return fail('PS-TLS-HOSTNAME', `HQ's certificate is for ${names}, not for ${host}`, {
    target: host,
    evidence: { names },
  });
}

const DAY_MS = 86_400_000;
const EXPIRY_FAIL_MS = 3 * DAY_MS;
const EXPIRY_WARN_MS = 30 * DAY_MS;

function checkExpiry(probe: Probe): Finding {
  const chain = probe.facts.tls?.chain ?? [];
  const [first] = [...chain].sort((a, b) => Date.parse(a.validTo) - Date.parse(b.validTo));
  if (first === undefined) return pass(PLAIN);
  const end = Date.parse(first.validTo);
  const life = end - Date.parse(first.validFrom);
  const now = probe.machine.clock.now();
  const left = end - now;
  const evidence = { not_after: new Date(end).toISOString(), days_left: Math.floor(left / DAY_MS) };
  const detail = { target: targetOf(probe).host, evidence };
  const whose = first === chain[0] ? "HQ's certificate" : `the intermediate ${oneLine(first.subject)}`;
  if (left < 0) {
    const skew = probe.facts.skewMs ?? 0;
    if (end > now + skew) return clockWrong(probe, detail);
    return fail('PS-TLS-EXPIRED', `${whose} expired ${days(-left)} ago (${day(first.validTo)})`, detail);
  }
  if (left < Math.min(EXPIRY_FAIL_MS, life / 10))
    return fail('PS-TLS-EXPIRING', `${whose} expires in ${days(left)}`, detail);
  // A third of a 90-day certificate is when renewals normally happen; later is late.
  if (left <= Math.min(EXPIRY_WARN_MS, life / 3))
    return warn('PS-TLS-EXPIRING', `${whose} expires in ${days(left)}`, detail);
  return pass(`${days(left)} left`, evidence);
}

function checkNotYet(probe: Probe): Finding {
  const chain = probe.facts.tls?.chain ?? [];
  const [last] = [...chain].sort((a, b) => Date.parse(b.validFrom) - Date.parse(a.validFrom));
  if (last === undefined) return pass(PLAIN);
  const start = Date.parse(last.validFrom);
  const now = probe.machine.clock.now();
  const detail = { target: targetOf(probe).host, evidence: { not_before: new Date(start).toISOString() } };
  if (start <= now) return pass(`since ${day(last.validFrom)}`);
  if (start <= now + (probe.facts.skewMs ?? 0)) return clockWrong(probe, detail);
  return fail('PS-TLS-NOTYET', `HQ's certificate is valid only from ${day(last.validFrom)}`, detail);
}

/** With HQ's time the certificate is fine: it is this machine's clock that is wrong. */
function clockWrong(probe: Probe, detail: { target: string; evidence: Record<string, unknown> }): Finding {
  const says = new Date(probe.machine.clock.now()).toISOString().slice(0, 10);
  return fail(
    'PS-CLOCK-WRONG',
    `this store's clock says ${says}; nothing is wrong with HQ's certificate`,
    detail,
  );
}

const RSA_MIN_BITS = 2_048;

function checkStrength(probe: Probe): Finding {
  const seen = probe.facts.tls;
  const [leaf] = seen?.chain ?? [];
  if (seen === undefined || leaf === undefined) return pass(PLAIN);
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = leaf.publicKey;
  const bits = details?.modulusLength;
  const evidence = { key: type, bits: bits ?? null, protocol: seen.protocol };
  if (type === 'rsa' && bits !== undefined && bits < RSA_MIN_BITS)
    return warn('PS-TLS-WEAK', `HQ's key is only RSA ${bits}; newer systems will refuse it`, { evidence });
  if (seen.protocol === 'TLSv1' || seen.protocol === 'TLSv1.1')
    return warn('PS-TLS-WEAK', `HQ speaks only ${seen.protocol}`, { evidence });
  return pass(`${type ?? 'key'}${bits === undefined ? '' : ` ${bits}`}, ${seen.protocol ?? 'TLS'}`, evidence);
}

/** SHA-256 of the public key: stays the same over renewals that keep the key. */
export function keyFingerprint(certificate: X509Certificate): string {
  return createHash('sha256')
    .update(certificate.publicKey.export({ type: 'spki', format: 'der' }))
    .digest('hex');
}

function checkChanged({ facts }: Probe): Finding {
  const [leaf] = facts.tls?.chain ?? [];
  if (leaf === undefined) return pass(PLAIN);
  const { memory } = facts;
  if (memory?.issuer === undefined || memory.issuer === null) return pass('no earlier certificate is known');
  const issuer = oneLine(leaf.issuer);
  if (issuer !== memory.issuer)
    return warn('PS-TLS-CHANGED', `HQ's certificate now comes from ${issuer} (was ${memory.issuer})`, {
      hint: 'ask HQ whether its authority changed; if not, suspect interception',
    });
  return pass(keyFingerprint(leaf) === memory.key ? 'the same key' : 'a new key of the same authority');
}

/** With TLS 1.3 the refusal comes after the handshake: only a byte that was read proves that it did not. */
async function checkClient(probe: Probe): Promise<Finding> {
  const target = targetOf(probe);
  if (!target.secure) return pass(PLAIN);
  const socket = await connectTls(probe, { verify: false });
  try {
    const heard = Promise.race([
      once(socket, 'data').then(() => 'data' as const),
      once(socket, 'end').then(() => 'end' as const),
    ]);
    socket.write(`GET /ping HTTP/1.1\r\nHost: ${target.host}\r\nConnection: close\r\n\r\n`);
    await within(probe, 'first byte', probe.patience.replyMs, heard);
    return pass('none asked for');
  } catch (error) {
    const code = codeOf(error) ?? '';
    if (/CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE|BAD_CERTIFICATE/.test(code))
      return fail('PS-TLS-CLIENTCERT', 'the server wants a client certificate', {
        target: target.host,
        evidence: { errno: code },
      });
    return pass('none asked for'); // silence or a cut is for the HTTP checks to name
  } finally {
    socket.destroy();
  }
}

export function oneLine(name: string): string {
  return name.split('\n').join(', ');
}

function day(text: string): string {
  return new Date(Date.parse(text)).toISOString().slice(0, 10);
}

function days(ms: number): string {
  const count = Math.floor(ms / DAY_MS);
  return count === 1 ? '1 day' : `${count} days`;
}
