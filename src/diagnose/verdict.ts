/**
 * One cause, one action: which of everything that is not well is the root of the rest.
 *
 * First what failed, then what only warns. Among those the earlier on the way: no cable before no DNS, a wrong clock
 * before a certificate that only looks wrong, TCP before TLS, HQ before the token. A warning wins over a failure
 * only where it explains it: a line in the hosts file that sends possync to a machine which then refuses it.
 */
import type { ErrorCode } from '../core/errors.ts';
import type { CheckResult, Layer } from './check.ts';
import type { Facts } from './facts.ts';
import type { Machine } from './machine.ts';

export interface Verdict {
  /** null = everything works. */
  readonly code: ErrorCode | null;
  /** The check that found it. */
  readonly check: string | null;
  readonly cause: string;
  readonly action: string;
  /** Ready to paste into a mail to the network team, where they are the ones to act. */
  readonly networkRequest: string | null;
}

/** Prefixes or whole codes, root first; the longest match decides. */
const RANKS: readonly string[] = [
  'PS-CFG-',
  'PS-HOST-NODE',
  'PS-HOST-CABLE',
  'PS-HOST-NOIP',
  'PS-HOST-NOROUTE',
  'PS-HOST-GATEWAY',
  'PS-CLOCK-',
  'PS-DNS-',
  'PS-TCP-',
  'PS-PROXY-',
  'PS-TLS-',
  'PS-HTTP-',
  'PS-HQ-',
  'PS-VER-',
  'PS-TOKEN-',
  'PS-STORE-',
  'PS-WS-',
  'PS-PATH-',
  'PS-HOST-DISK',
  'PS-HOST-INODES',
  'PS-DB-',
  'PS-DAEMON-',
  'PS-LOG-',
  'PS-QUEUE-',
  'PS-UP-',
  'PS-DOWN-',
  'PS-HOST-',
  'PS-',
];

/** Warnings that explain failures further on, and in which layers. */
const EXPLAINS: Readonly<Partial<Record<ErrorCode, readonly Layer[]>>> = {
  'PS-HOST-GATEWAY': ['dns', 'tcp'],
  'PS-DNS-HOSTS': ['tcp', 'tls', 'http', 'ws'],
  'PS-DNS-SPLIT': ['tcp', 'tls', 'http', 'ws'],
  'PS-DNS-V6ONLY': ['tcp'],
  'PS-DNS-BLOCKPAGE': ['tcp', 'tls', 'http', 'ws'],
  'PS-PROXY-ENV': ['dns', 'tcp'],
  'PS-TCP-TRANSPARENT': ['tls', 'http', 'ws'],
};

function rankOf(code: ErrorCode): number {
  let best = RANKS.length;
  let length = 0;
  for (const [index, prefix] of RANKS.entries()) {
    if (code.startsWith(prefix) && prefix.length > length) [best, length] = [index, prefix.length];
  }
  return best;
}

type Named = CheckResult & { readonly code: ErrorCode };

function isNamed(result: CheckResult): result is Named {
  return result.code !== undefined;
}

/** The root of what is not well; undefined = all is. */
export function rootOf(results: readonly CheckResult[]): Named | undefined {
  const first = (list: readonly Named[]): Named | undefined =>
    [...list].sort((a, b) => rankOf(a.code) - rankOf(b.code))[0]; // stable: path order among equals
  const named = results.filter(isNamed);
  const failed = first(named.filter(({ status }) => status === 'fail'));
  const warnings = named.filter(({ status }) => status === 'warn');
  if (failed === undefined) return first(warnings);
  // A refusal came from the machine itself: no missing proxy explains it.
  const reached = failed.code === 'PS-TCP-REFUSED';
  const explaining = first(
    warnings.filter(
      ({ code }) => EXPLAINS[code]?.includes(failed.layer) === true && !(reached && code === 'PS-PROXY-ENV'),
    ),
  );
  return explaining ?? failed;
}

export function verdictOf(
  results: readonly CheckResult[],
  facts: Facts,
  machine: Pick<Machine, 'clock' | 'interfaces'>,
  /** Only some checks were asked for: nothing is said of the others. */
  partial = false,
): Verdict {
  const root = rootOf(results);
  if (root === undefined) {
    const broken = results.find(({ status }) => status === 'error');
    if (broken !== undefined)
      return {
        code: null,
        check: broken.id,
        cause: `Nothing found, but ${broken.id} could not be checked.`,
        action: 'run it again; if it repeats, report it',
        networkRequest: null,
      };
    const unfinished = results.filter(({ status }) => status === 'skip');
    if (unfinished.length > 0)
      return {
        code: null,
        check: null,
        cause: `Nothing found in the time given; ${unfinished.length} checks did not get their turn.`,
        action: 'run it again without --quick',
        networkRequest: null,
      };
    if (partial)
      return {
        code: null,
        check: null,
        cause: 'What you asked for is well.',
        action: '',
        networkRequest: null,
      };
    const queue = facts.queued === undefined ? '' : `, ${facts.queued} queued`;
    const light = facts.connected === undefined ? '' : facts.connected ? ` CONNECTED${queue}.` : '';
    return { code: null, check: null, cause: `Everything works.${light}`, action: '', networkRequest: null };
  }
  return {
    code: root.code,
    check: root.id,
    cause: sentence(root.message),
    action: root.hint ?? '',
    networkRequest: networkRequest(root, facts, machine),
  };
}

function sentence(text: string): string {
  const upper = `${text.charAt(0).toUpperCase()}${text.slice(1)}`;
  return /[.!?]$/.test(upper) ? upper : `${upper}.`;
}

/** What to ask for, by code; `{…}` are filled in. */
const REQUESTS: Readonly<Partial<Record<ErrorCode, string>>> = {
  'PS-TCP-DROPPED':
    'Please allow outbound TCP {port} from {from} to {to}, {what}, idle timeout of 60 s or more.',
  'PS-TCP-RESET': 'Please stop cutting TCP {port} from {from} to {to}, {what}.',
  'PS-TCP-REFUSED': 'Please check whether a firewall rejects TCP {port} from {from} to {to}, {what}.',
  'PS-TCP-UNREACH': 'Please check the route or VPN from {from} to {to}, TCP {port}.',
  'PS-TCP-TRANSPARENT': 'Please exempt {to}, TCP {port}, from the transparent proxy for {from}.',
  'PS-DNS-NXDOMAIN': 'Please make the DNS servers of {from} resolve {host}.',
  'PS-DNS-NODATA': 'Please make the DNS servers of {from} give an address for {host}.',
  'PS-DNS-SERVFAIL': 'Please check why the DNS servers of {from} cannot resolve {host}.',
  'PS-DNS-TIMEOUT': 'Please check why the DNS servers of {from} do not answer.',
  'PS-DNS-SERVER-DOWN': 'Please check why the DNS servers of {from} are down.',
  'PS-DNS-BLOCKPAGE': 'Please take {host} off the DNS filter for {from}.',
  'PS-DNS-REFUSED': 'Please allow {from} to use the DNS server.',
  'PS-DNS-SPLIT': 'Please make the DNS servers agree on {host}.',
  'PS-PROXY-DENIED': 'Please allow CONNECT {host}:{port} from {from} through the proxy.',
  'PS-PROXY-AUTH': 'Please let {from} use the proxy for {host}:{port} without a password.',
  'PS-PROXY-NOCONNECT': 'Please allow CONNECT {host}:{port} from {from} through the proxy.',
  'PS-PROXY-UPSTREAM': 'Please check why the proxy cannot reach {host}:{port}.',
  'PS-TLS-INSPECTED': 'Please exempt {host}:{port} from TLS inspection for {from}.',
  'PS-TLS-CUT': 'Please stop cutting TLS from {from} to {to}, TCP {port}, and exempt it from TLS inspection.',
  'PS-TLS-SILENT': 'Please check why TLS from {from} to {to}, TCP {port}, gets no answer.',
  'PS-HTTP-BLOCKED': 'Please take {host}:{port} off the web filter for {from}.',
  'PS-HTTP-PORTAL': 'Please let {from} reach {host}:{port} without the login page.',
  'PS-WS-STRIPPED':
    'Please allow WebSocket (RFC 6455, HTTP upgrade) from {from} to {host}:{port}, or exempt it from web filtering.',
  'PS-WS-BLOCKED': 'Please allow WebSocket (RFC 6455) from {from} to {host}:{port}.',
  'PS-WS-NOANSWER': 'Please allow WebSocket (RFC 6455) from {from} to {host}:{port}; the upgrade is held.',
  'PS-WS-CUT': 'Please allow WebSocket (RFC 6455) from {from} to {host}:{port}; the upgrade is cut.',
  'PS-WS-MANGLED': 'Please exempt {host}:{port} from whatever rewrites WebSocket traffic for {from}.',
  'PS-WS-DEAD':
    'Please let WebSocket frames through from {from} to {host}:{port}, after the upgrade as well.',
  'PS-WS-KILLED': 'Please do not cut WebSocket connections from {from} to {host}:{port} after they open.',
  'PS-WS-IDLE': 'Please raise the idle timeout for {host}:{port} to 120 s or more.',
  'PS-WS-TOOBIG': 'Please allow WebSocket frames of up to 64 KiB to {host}:{port}.',
  'PS-PATH-MTU': 'Please clamp TCP MSS to 1360 towards {to}, or allow ICMP "fragmentation needed".',
  'PS-PATH-BUFFERED': 'Please switch off response buffering for {host}:{port}.',
};

function networkRequest(
  { code, message, evidence }: Named,
  { target, reachable, addresses }: Facts,
  { clock, interfaces }: Pick<Machine, 'clock' | 'interfaces'>,
): string | null {
  const form = REQUESTS[code];
  if (form === undefined || target === undefined) return null;
  const address = (reachable ?? addresses?.[0])?.address;
  const words: Readonly<Record<string, string>> = {
    host: target.host,
    port: String(target.port),
    from: interfaces()[0]?.address ?? 'this store',
    to: address === undefined || target.literal ? target.host : `${target.host} (${address})`,
    what: target.secure ? 'TLS + WebSocket (RFC 6455), no TLS inspection' : 'HTTP + WebSocket (RFC 6455)',
  };
  const asked = form.replace(/\{(\w+)\}/g, (_, name: string) => words[name] ?? '');
  const seenAt = new Date(clock.now()).toISOString().slice(0, 19).replace('T', ' ');
  const errno = evidence?.errno;
  return `${asked}\nSeen ${seenAt} UTC: ${message}${typeof errno === 'string' && errno !== '' ? ` (${errno})` : ''}.`;
}
