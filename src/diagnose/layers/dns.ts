/**
 * b.6 DNS: what each configured server says, and what this machine makes of it.
 *
 * The daemon uses the machine's own lookup (hosts file, then DNS), so that decides; the servers are asked one by one
 * only to say which of them is to blame. c-ares knows nothing of the hosts file: a difference shows an entry there.
 */
import dns from 'node:dns';
import net from 'node:net';
import { codeOf } from '../../core/classify.ts';
import type { ErrorCode } from '../../core/errors.ts';
import { fail, pass, warn, type Check, type Finding, type Probe } from '../check.ts';
import { connectTcp, StepTimeout, targetOf, within } from '../dial.ts';
import type { Address, DnsAnswer } from '../facts.ts';
import { isLoopbackName } from './configuration.ts';

export const DNS: readonly Check[] = [
  {
    id: 'dns.servers',
    layer: 'dns',
    title: 'a DNS server is configured',
    dependsOn: ['cfg.hq_url'],
    run: checkServers,
  },
  {
    id: 'dns.resolve',
    layer: 'dns',
    title: 'the name of HQ has an address',
    dependsOn: ['dns.servers'],
    run: resolve,
  },
  {
    id: 'dns.family',
    layer: 'dns',
    title: 'HQ has an address of a family that this machine has',
    dependsOn: ['dns.resolve'],
    run: checkFamily,
  },
  {
    id: 'dns.hosts',
    layer: 'dns',
    title: 'the hosts file says nothing else',
    dependsOn: ['dns.resolve'],
    run: checkHosts,
  },
  {
    id: 'dns.agree',
    layer: 'dns',
    title: 'all DNS servers agree',
    dependsOn: ['dns.resolve'],
    run: checkAgreement,
  },
  {
    id: 'dns.sane',
    layer: 'dns',
    title: 'the address can be that of HQ',
    dependsOn: ['dns.resolve'],
    run: checkSanity,
  },
  {
    id: 'dns.latency',
    layer: 'dns',
    title: 'DNS answers quickly',
    dependsOn: ['dns.resolve'],
    run: checkLatency,
  },
  {
    id: 'dns.lastgood',
    layer: 'dns',
    title: 'without DNS, HQ is where it was',
    dependsOn: ['cfg.hq_url'],
    after: ['dns.resolve'],
    run: checkLastGood,
  },
];

/** Nothing to look up: an address, or a proxy that looks names up itself. */
function notNeeded({ facts, subject }: Probe): Finding | undefined {
  if (facts.target?.literal === true) return pass('not needed: the address of HQ is no name');
  if (subject.proxy !== undefined) return pass('not needed: the proxy looks names up');
  return undefined;
}

async function checkServers(probe: Probe): Promise<Finding> {
  const known = notNeeded(probe);
  if (known !== undefined) return known;
  const servers = probe.machine.dnsServers();
  const resolvConf = await probe.machine.systemFile('/etc/resolv.conf');
  const named = resolvConf === undefined || /^\s*nameserver\s+\S/m.test(resolvConf);
  // Without any, the resolver library assumes one on this machine.
  if (servers.length === 0 || !named) {
    if (isLoopbackName(targetOf(probe).host)) return pass('no DNS server, and none needed');
    return fail('PS-DNS-NOSERVER', 'no DNS server is configured', { target: '/etc/resolv.conf' });
  }
  return pass(servers.join(', '), { servers });
}

async function resolve(probe: Probe): Promise<Finding> {
  const { host, literal } = targetOf(probe);
  const { facts, machine, subject } = probe;
  if (literal) facts.addresses = [{ address: host, family: net.isIPv6(host) ? 6 : 4 }];
  if (literal || subject.proxy !== undefined) return notNeeded(probe) ?? pass('not needed');
  const [answers, looked] = await Promise.all([
    Promise.all(machine.dnsServers().map((server) => ask(probe, server, host))),
    // getaddrinfo alone may take ten seconds and cannot be stopped.
    within(probe, 'lookup', 4_500, machine.lookup(host)).catch((error: unknown) => error),
  ]);
  facts.answers = answers;
  const evidence = { answers };
  if (Array.isArray(looked) && looked.length > 0) {
    facts.addresses = looked as readonly Address[];
    const from = answers.find(({ addresses }) => addresses.length > 0);
    const list = facts.addresses.map(({ address }) => address).join(', ');
    return pass(
      `${host} → ${list}${from === undefined ? '' : ` (from ${from.server}, ${from.ms} ms)`}`,
      evidence,
    );
  }
  return unresolved(host, answers, looked);
}

const BY_CODE: Readonly<Record<string, readonly [ErrorCode, (host: string, server: string) => string]>> = {
  ENOTFOUND: ['PS-DNS-NXDOMAIN', (host, server) => `the name ${host} does not exist according to ${server}`],
  ENODATA: ['PS-DNS-NODATA', (host, server) => `the name ${host} has no address according to ${server}`],
  ESERVFAIL: [
    'PS-DNS-SERVFAIL',
    (host, server) => `the DNS server ${server} could not find ${host} (SERVFAIL)`,
  ],
  EREFUSED: ['PS-DNS-REFUSED', (_, server) => `the DNS server ${server} refuses to answer this store`],
  ETIMEOUT: ['PS-DNS-TIMEOUT', (_, server) => `the DNS server ${server} does not answer`],
  ECONNREFUSED: ['PS-DNS-SERVER-DOWN', (_, server) => `nothing answers DNS at ${server}`],
};
/** Codes that a server gave beat silence: they say what is wrong. */
const TELLING = ['ENOTFOUND', 'ENODATA', 'EREFUSED', 'ESERVFAIL', 'ECONNREFUSED', 'ETIMEOUT'];

function unresolved(host: string, answers: readonly DnsAnswer[], looked: unknown): Finding {
  const evidence = { answers, lookup: codeOf(looked) ?? null };
  for (const code of TELLING) {
    const answer = answers.find((candidate) => candidate.code === code);
    const known = BY_CODE[code];
    if (answer === undefined || known === undefined) continue;
    return fail(known[0], known[1](host, answer.server), { target: host, evidence });
  }
  if (looked instanceof StepTimeout)
    return fail('PS-DNS-TIMEOUT', `looking up ${host} takes too long`, { target: host, evidence });
  return fail('PS-DNS-TEMP', `${host} cannot be looked up here (${codeOf(looked) ?? 'no answer'})`, {
    target: host,
    evidence,
  });
}

async function ask({ patience, signal }: Probe, server: string, host: string): Promise<DnsAnswer> {
  const resolver = new dns.promises.Resolver({ timeout: patience.dnsMs, tries: 2 });
  resolver.setServers([server]);
  const cancel = (): void => {
    resolver.cancel();
  };
  signal.addEventListener('abort', cancel, { once: true });
  const startedAt = performance.now();
  const codeFrom = (error: unknown): { code: string } => ({ code: codeOf(error) ?? 'EUNKNOWN' });
  const [v4, v6] = await Promise.all([
    resolver.resolve4(host).catch(codeFrom),
    resolver.resolve6(host).catch(codeFrom),
  ]);
  signal.removeEventListener('abort', cancel);
  const addresses = [v4, v6].flatMap((part) => (Array.isArray(part) ? part : []));
  const code = addresses.length > 0 || Array.isArray(v4) ? undefined : v4.code;
  return { server, addresses, code, ms: Math.round(performance.now() - startedAt) };
}

function checkFamily(probe: Probe): Finding {
  const known = notNeeded(probe);
  if (known !== undefined) return known;
  const families = new Set((probe.facts.addresses ?? []).map(({ family }) => family));
  const words = [...families].map((family) => `IPv${family}`).join(' and ');
  const hasV6 = probe.machine.interfaces().some(({ family }) => family === 6);
  if (families.has(6) && !families.has(4) && !hasV6 && !isLoopbackName(targetOf(probe).host))
    return warn('PS-DNS-V6ONLY', 'HQ has only an IPv6 address and this machine has none');
  return pass(words);
}

async function checkHosts(probe: Probe): Promise<Finding> {
  const known = notNeeded(probe);
  if (known !== undefined) return known;
  const { host } = targetOf(probe);
  const lines = ((await probe.machine.systemFile('/etc/hosts')) ?? '').split('\n');
  for (const [index, line] of lines.entries()) {
    const [address, ...names] = line.replace(/#.*/, '').trim().split(/\s+/);
    if (address === undefined || !names.includes(host)) continue;
    const answers = (probe.facts.answers ?? []).flatMap(({ addresses }) => addresses);
    if (answers.length === 0 || answers.includes(address))
      return pass(`/etc/hosts line ${index + 1} names HQ`);
    return warn(
      'PS-DNS-HOSTS',
      `/etc/hosts line ${index + 1} sends ${host} to ${address}, but DNS says ${answers.join(', ')}`,
      { target: '/etc/hosts' },
    );
  }
  return pass('/etc/hosts says nothing of HQ');
}

function checkAgreement(probe: Probe): Finding {
  const known = notNeeded(probe);
  if (known !== undefined) return known;
  const answered = (probe.facts.answers ?? []).filter(({ addresses }) => addresses.length > 0);
  const sets = new Set(answered.map(({ addresses }) => [...addresses].sort().join(',')));
  // Round-robin names give each asker another part of one set: only sets without a common address disagree.
  const common = answered[0]?.addresses.some((address) =>
    answered.every(({ addresses }) => addresses.includes(address)),
  );
  if (sets.size > 1 && common !== true) {
    const words = answered.map(({ server, addresses }) => `${server} → ${addresses.join(', ')}`);
    return warn('PS-DNS-SPLIT', `DNS servers disagree: ${words.join('; ')}`, {
      evidence: { answers: answered },
    });
  }
  return pass(answered.length > 1 ? `${answered.length} servers agree` : 'one server answers');
}

function checkSanity(probe: Probe): Finding {
  const known = notNeeded(probe);
  if (known !== undefined) return known;
  const { host } = targetOf(probe);
  const addresses = (probe.facts.addresses ?? []).map(({ address }) => address);
  const wrong = addresses.find(
    (address) =>
      address === '0.0.0.0' ||
      address === '::' ||
      address.startsWith('169.254.') ||
      isForeignLoopback(host, address),
  );
  if (wrong !== undefined) {
    return fail('PS-DNS-BLOCKPAGE', `${host} resolves to ${wrong}: a DNS filter blocks it`, { target: host });
  }
  const before = probe.facts.memory?.address;
  const [now] = addresses;
  if (before !== undefined && now !== undefined && isPrivate(now) && !isPrivate(before)) {
    return warn('PS-DNS-BLOCKPAGE', `${host} resolves to ${now}, a private address; it was ${before}`, {
      target: host,
    });
  }
  return pass(addresses.join(', '));
}

function isForeignLoopback(host: string, address: string): boolean {
  return !isLoopbackName(host) && isLoopbackName(address);
}

function isPrivate(address: string): boolean {
  return /^(10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|127\.|f[cd])/i.test(address);
}

/** A till waits for no lookup, but every reconnect does. */
const SLOW_MS = 500;

function checkLatency(probe: Probe): Finding {
  const known = notNeeded(probe);
  if (known !== undefined) return known;
  const answered = (probe.facts.answers ?? []).filter(({ addresses }) => addresses.length > 0);
  if (answered.length === 0) return pass('the hosts file answered');
  const ms = Math.min(...answered.map((answer) => answer.ms));
  return ms > SLOW_MS ? warn('PS-DNS-SLOW', `DNS takes ${ms} ms per lookup`) : pass(`${ms} ms`);
}

async function checkLastGood(probe: Probe): Promise<Finding> {
  const { facts } = probe;
  if (facts.addresses !== undefined) return pass('not needed: DNS works');
  const { memory } = facts;
  if (memory === undefined || probe.subject.proxy !== undefined) return pass('no earlier address is known');
  try {
    const family = net.isIPv6(memory.address) ? 6 : 4;
    const socket = await connectTcp(probe, { address: memory.address, family }, memory.port);
    socket.destroy();
  } catch {
    return pass(`the last good address ${memory.address} does not answer either`);
  }
  return pass(`HQ itself answers at ${memory.address}: only the name lookup is broken`, {
    address: memory.address,
  });
}
