/** b.7 TCP and firewalls: every address of HQ, and what kind of "no" each gives. */
import { once } from 'node:events';
import net from 'node:net';
import { codeOf } from '../../core/classify.ts';
import type { ErrorCode } from '../../core/errors.ts';
import { fail, pass, warn, type Check, type Finding, type Probe } from '../check.ts';
import { connectTcp, StepTimeout, targetOf } from '../dial.ts';
import type { Address, Attempt } from '../facts.ts';

export const TCP: readonly Check[] = [
  {
    id: 'tcp.connect',
    layer: 'tcp',
    title: 'the port of HQ can be reached',
    dependsOn: ['dns.resolve', 'dns.sane'],
    limitMs: 6_000,
    run: checkConnect,
  },
  {
    id: 'tcp.portscope',
    layer: 'tcp',
    title: 'only that port is concerned',
    dependsOn: ['dns.resolve'],
    after: ['tcp.connect'],
    run: checkOtherPorts,
  },
  {
    id: 'tcp.v6',
    layer: 'tcp',
    title: 'every family of addresses works',
    dependsOn: ['tcp.connect'],
    run: checkFamilies,
  },
  {
    id: 'tcp.rtt',
    layer: 'tcp',
    title: 'HQ is not far away',
    dependsOn: ['tcp.connect'],
    slow: true,
    run: checkRtt,
  },
  {
    id: 'tcp.intercept',
    layer: 'tcp',
    title: 'nobody else answers for HQ',
    dependsOn: ['tcp.connect'],
    deep: true,
    run: checkIntercept,
  },
];

/** After the connection stands: a firewall that accepts in order to cut does it at once. */
const LINGER_MS = 120;

async function checkConnect(probe: Probe): Promise<Finding> {
  const { facts, subject } = probe;
  if (subject.proxy !== undefined) return pass('not needed: a proxy is used');
  const { port } = targetOf(probe);
  const attempts = await Promise.all((facts.addresses ?? []).map((address) => attempt(probe, address, port)));
  facts.attempts = attempts;
  const evidence = {
    attempts: attempts.map(({ address, ms, code }) => ({ address: address.address, ms, code: code ?? null })),
  };
  const working = attempts.filter(({ code }) => code === undefined).sort((a, b) => a.ms - b.ms)[0];
  if (working !== undefined) {
    facts.reachable = working.address;
    facts.connectMs = working.ms;
    return pass(`connect ${working.ms} ms`, evidence);
  }
  // IPv4 is what most stores have; its answer says more than "no IPv6 here".
  const worst = attempts.find(({ address }) => address.family === 4) ?? attempts[0];
  if (worst === undefined) return fail('PS-DNS-NODATA', 'there is no address to connect to');
  return refused(worst, port, evidence);
}

async function attempt(probe: Probe, address: Address, port: number): Promise<Attempt> {
  const startedAt = performance.now();
  const elapsed = (): number => Math.round(performance.now() - startedAt);
  try {
    const socket = await connectTcp(probe, address, port);
    const ms = elapsed();
    const cut = await cutAtOnce(probe, socket);
    socket.destroy();
    return { address, ms, code: cut ? 'ECONNRESET' : undefined };
  } catch (error) {
    const code = error instanceof StepTimeout ? 'ETIMEDOUT' : (codeOf(error) ?? 'EUNKNOWN');
    return { address, ms: elapsed(), code };
  }
}

/** Closed by the other side before anything was said. */
async function cutAtOnce({ machine }: Probe, socket: net.Socket): Promise<boolean> {
  const quiet = new AbortController();
  socket.resume(); // the end of a socket that nobody reads is never told
  const closed = once(socket, 'close', { signal: quiet.signal }).then(
    () => true,
    () => false,
  );
  const lives = machine.clock.sleep(LINGER_MS, quiet.signal).then(() => false);
  const cut = await Promise.race([closed, lives]);
  quiet.abort();
  return cut;
}

const BY_CODE: Readonly<Record<string, readonly [ErrorCode, string]>> = {
  ECONNREFUSED: ['PS-TCP-REFUSED', 'the machine is up, but nothing listens there, or a firewall rejects it'],
  ETIMEDOUT: ['PS-TCP-DROPPED', 'packets are silently dropped'],
  ECONNRESET: ['PS-TCP-RESET', 'the connection is cut at once by something on the path'],
  EHOSTUNREACH: ['PS-TCP-UNREACH', "a router reports that HQ's network cannot be reached"],
  ENETUNREACH: ['PS-TCP-NOROUTE', 'this machine has no way there'],
  EINVAL: ['PS-TCP-NOROUTE', 'this machine has no way there'],
  EACCES: ['PS-TCP-LOCALPOLICY', "this machine's own firewall blocks possync"],
  EPERM: ['PS-TCP-LOCALPOLICY', "this machine's own firewall blocks possync"],
  EADDRNOTAVAIL: ['PS-TCP-LOCAL', 'this machine has no port left'],
  EMFILE: ['PS-TCP-LOCAL', 'this process has no file left to open'],
};

function refused({ address, ms, code }: Attempt, port: number, evidence: Record<string, unknown>): Finding {
  const target = `${net.isIPv6(address.address) ? `[${address.address}]` : address.address}:${port}`;
  const [named, words] =
    BY_CODE[code ?? ''] ?? (['PS-HQ-UNREACHABLE', `it cannot be reached (${code ?? '?'})`] as const);
  const silence = named === 'PS-TCP-DROPPED' ? `no answer in ${(ms / 1_000).toFixed(1)} s; ` : '';
  return fail(named, `${target}: ${silence}${words}`, {
    target,
    evidence: { ...evidence, elapsed_ms: ms, errno: code ?? null },
  });
}

async function checkOtherPorts(probe: Probe): Promise<Finding> {
  const { facts } = probe;
  if (facts.reachable !== undefined || probe.subject.proxy !== undefined) return pass('not needed');
  const [address] = facts.addresses ?? [];
  if (address === undefined) return pass('no address to ask');
  const tried = await Promise.all(
    [443, 22].map(async (port) => {
      try {
        (await connectTcp(probe, address, port, 1_000)).destroy();
        return { port, answers: true };
      } catch (error) {
        // A refusal is an answer too: the machine is up and packets reach it.
        return { port, answers: codeOf(error) === 'ECONNREFUSED' };
      }
    }),
  );
  const answering = tried.filter(({ answers }) => answers).map(({ port }) => port);
  const evidence = { ports: tried };
  return answering.length > 0
    ? pass(
        `port ${answering.join(' and ')} on the same address answers: only the port of HQ is concerned`,
        evidence,
      )
    : pass('no other port answers either', evidence);
}

function checkFamilies({ facts }: Probe): Finding {
  const attempts = facts.attempts ?? [];
  const works = (family: 4 | 6): boolean | undefined => {
    const mine = attempts.filter(({ address }) => address.family === family);
    return mine.length === 0 ? undefined : mine.some(({ code }) => code === undefined);
  };
  const [v4, v6] = [works(4), works(6)];
  if (v4 === true && v6 === false)
    return warn('PS-TCP-V6BROKEN', "HQ's IPv6 address does not answer; possync uses IPv4");
  if (v6 === true && v4 === false)
    return warn('PS-TCP-V6BROKEN', "HQ's IPv4 address does not answer; possync uses IPv6", {
      hint: 'correct the A record of HQ or the way to it',
    });
  return pass(
    [v4 === true ? 'IPv4' : '', v6 === true ? 'IPv6' : ''].filter((word) => word !== '').join(' and ') ||
      'through the proxy',
  );
}

const RTT_TRIES = 5;
/** Other Node programs give each address only 250 ms. */
const RTT_SLOW_MS = 250;

async function checkRtt(probe: Probe): Promise<Finding> {
  const { reachable } = probe.facts;
  if (reachable === undefined) return pass('not needed: a proxy is used');
  const { port } = targetOf(probe);
  const samples: number[] = [];
  for (let index = 0; index < RTT_TRIES; index++) {
    const startedAt = performance.now();
    try {
      (await connectTcp(probe, reachable, port, 900)).destroy();
      samples.push(performance.now() - startedAt);
    } catch {
      // A lost one shows in the number of samples.
    }
  }
  samples.sort((a, b) => a - b);
  const median = samples[Math.floor(samples.length / 2)];
  const evidence = {
    tries: RTT_TRIES,
    answered: samples.length,
    samples_ms: samples.map((ms) => Math.round(ms * 10) / 10),
  };
  if (median === undefined)
    return warn('PS-TCP-SLOW', 'HQ takes more than 0.9 s to answer a connection', { evidence });
  const text = `${median < 10 ? median.toFixed(1) : Math.round(median)} ms`;
  return median > RTT_SLOW_MS
    ? warn('PS-TCP-SLOW', `HQ is ${text} away`, { evidence })
    : pass(`round trip ${text}`, evidence);
}

/** Ports on which a server of any kind is improbable: discard, finger, and two that nobody was given. */
const SILENT_PORTS = [9, 79, 4, 6];

async function checkIntercept(probe: Probe): Promise<Finding> {
  const { reachable } = probe.facts;
  if (reachable === undefined) return pass('not needed: a proxy is used');
  const tried = await Promise.all(
    SILENT_PORTS.map(async (port) => {
      try {
        (await connectTcp(probe, reachable, port, 1_500)).destroy();
        return port;
      } catch {
        return undefined;
      }
    }),
  );
  const open = tried.filter((port) => port !== undefined);
  return open.length === SILENT_PORTS.length
    ? warn('PS-TCP-TRANSPARENT', 'a transparent proxy on this network answers every port in the name of HQ', {
        evidence: { ports: open },
      })
    : pass('only HQ answers');
}
