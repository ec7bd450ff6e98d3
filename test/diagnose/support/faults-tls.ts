/** Faults of TLS, and of the clock that look like faults of TLS. */
import { makeCertificate } from './certificates.ts';
import type { Fault } from './faults.ts';
import type { HqWish } from './hq.ts';
import { certificate, HOST, labAuthority, type Situation } from './lab.ts';
import { startRaw } from './raw.ts';

const DAY_MS = 86_400_000;

function inDays(days: number): Date {
  return new Date(Date.now() + days * DAY_MS);
}

/** HQ with something odd about its TLS. */
function tlsFault(
  what: string,
  code: Fault['code'],
  how: string,
  wish: () => HqWish,
  situation: () => Partial<Situation> = () => ({}),
): Fault {
  return { what, code, how, arrange: async (lab) => ({ hqUrl: await lab.hq(wish()), ...situation() }) };
}

function rawFault(
  what: string,
  code: Fault['code'],
  how: string,
  onConnection: Parameters<typeof startRaw>[0],
): Fault {
  return {
    what,
    code,
    how,
    async arrange(lab) {
      const { port } = await lab.use(startRaw(onConnection));
      return { hqUrl: `wss://${HOST}:${port}` };
    },
  };
}

export const TLS_FAULTS: readonly Fault[] = [
  {
    what: 'HQ speaks plain HTTP on its TLS port',
    code: 'PS-TLS-PLAINTEXT',
    how: 'HTTP server',
    async arrange(lab) {
      const { port } = await lab.plainHq();
      return { hqUrl: `wss://${HOST}:${port}` };
    },
  },
  tlsFault('HQ allows only TLS 1.1', 'PS-TLS-VERSION', 'maxVersion TLSv1.1', () => ({
    tls: { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' },
  })),
  rawFault('TLS is cut at the greeting (RST)', 'PS-TLS-CUT', 'reset on first data', (socket) => {
    socket.once('data', () => socket.resetAndDestroy());
  }),
  rawFault('TLS is cut at the greeting (FIN)', 'PS-TLS-CUT', 'end on first data', (socket) => {
    socket.once('data', () => socket.end());
  }),
  rawFault('TLS gets no answer', 'PS-TLS-SILENT', 'accept and stay silent', (socket) => {
    socket.resume();
  }),
  tlsFault('HQ uses a self-signed certificate', 'PS-TLS-SELFSIGNED', 'leaf signed by itself', () => ({
    certificate: makeCertificate({ common: HOST, names: [HOST] }),
  })),
  tlsFault(
    'the authority of HQ is not trusted here',
    'PS-TLS-UNTRUSTED',
    'another authority, sent along',
    () => {
      const other = makeCertificate({ common: 'Other Root', organisation: 'Other', authority: true });
      return { certificate: certificate({ issuer: other }), intermediates: [other] };
    },
  ),
  tlsFault('a security box inspects TLS', 'PS-TLS-INSPECTED', 'leaf of "Zscaler Intermediate"', () => {
    const box = makeCertificate({
      common: 'Zscaler Intermediate Root CA',
      organisation: 'Zscaler Inc.',
      authority: true,
    });
    return { certificate: certificate({ issuer: box }) };
  }),
  tlsFault(
    'an unknown box replaces the certificate',
    'PS-TLS-INSPECTED',
    'another issuer than in the last good run',
    () => {
      const box = makeCertificate({ common: 'Branch Firewall CA', organisation: 'Branch', authority: true });
      return { certificate: certificate({ issuer: box }) };
    },
    () => ({ memory: { issuer: 'O=Example Chain, CN=Example Root' } }),
  ),
  tlsFault('HQ does not send its intermediate', 'PS-TLS-NOINTERMEDIATE', 'leaf alone, root trusted', () => {
    const middle = makeCertificate({ common: 'Example Issuing CA', authority: true, issuer: labAuthority() });
    return { certificate: certificate({ issuer: middle }) };
  }),
  tlsFault('the certificate is for another name', 'PS-TLS-HOSTNAME', 'SAN hq.other.example', () => ({
    certificate: certificate({ names: ['hq.other.example'] }),
  })),
  tlsFault("HQ's certificate has expired", 'PS-TLS-EXPIRED', 'ended 325 days ago', () => ({
    certificate: certificate({ notBefore: inDays(-690), notAfter: inDays(-325) }),
  })),
  tlsFault('an intermediate has expired', 'PS-TLS-EXPIRED', 'ended yesterday', () => {
    const middle = makeCertificate({
      common: 'Example Issuing CA',
      authority: true,
      issuer: labAuthority(),
      notBefore: inDays(-300),
      notAfter: inDays(-1),
    });
    return { certificate: certificate({ issuer: middle }), intermediates: [middle] };
  }),
  tlsFault("HQ's certificate expires soon", 'PS-TLS-EXPIRING', '12 of 90 days left', () => ({
    certificate: certificate({ notBefore: inDays(-78), notAfter: inDays(12) }),
  })),
  tlsFault("HQ's certificate is not valid yet", 'PS-TLS-NOTYET', 'begins in 10 days', () => ({
    certificate: certificate({ notBefore: inDays(10), notAfter: inDays(375) }),
  })),
  tlsFault(
    "this store's clock is behind, so the certificate looks not valid yet",
    'PS-CLOCK-WRONG',
    'begins in 10 days, HQ says it is in 20',
    () => ({
      certificate: certificate({ notBefore: inDays(10), notAfter: inDays(375) }),
      clockOffsetMs: 20 * DAY_MS,
    }),
  ),
  tlsFault(
    "this store's clock is ahead, so the certificate looks expired",
    'PS-CLOCK-WRONG',
    'ended 10 days ago, HQ says it is 20 days ago',
    () => ({
      certificate: certificate({ notBefore: inDays(-300), notAfter: inDays(-10) }),
      clockOffsetMs: -20 * DAY_MS,
    }),
  ),
  tlsFault("this store's clock is an hour ahead", 'PS-CLOCK-SKEW', 'HQ says it is an hour earlier', () => ({
    clockOffsetMs: -3_600_000,
  })),
  tlsFault("HQ's key is weak", 'PS-TLS-WEAK', 'RSA 1024', () => ({
    certificate: certificate({ rsaBits: 1_024 }),
  })),
  tlsFault(
    'HQ has a certificate of another authority than before',
    'PS-TLS-CHANGED',
    'another, trusted, issuer than in the last good run',
    () => ({}),
    () => ({ memory: { issuer: 'O=Example Chain, CN=Old Root' } }),
  ),
  tlsFault(
    'the CA file holds a private key',
    'PS-TLS-CAFILE',
    'PEM of a key',
    () => ({}),
    () => ({ ca: labAuthority().keyPem }),
  ),
  tlsFault(
    'the CA file is not there',
    'PS-TLS-CAFILE',
    'path without a file',
    () => ({}),
    () => ({ caFile: '/nowhere/ca.pem' }),
  ),
  tlsFault('the server wants a client certificate', 'PS-TLS-CLIENTCERT', 'requestCert', () => ({
    tls: { requestCert: true, ca: labAuthority().pem },
  })),
];
