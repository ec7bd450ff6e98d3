/** b.2 This machine: program, disk, cable, address, gateway, clock service, load. */
import { fail, pass, warn, type Check, type Finding, type Probe } from '../check.ts';
import { environmentProxy, isExempt, parseProxy } from '../../core/proxy.ts';
import { isLoopbackName } from './configuration.ts';

export const MACHINE: readonly Check[] = [
  { id: 'host.runtime', layer: 'host', title: 'Node is new enough', run: checkRuntime },
  { id: 'host.disk', layer: 'host', title: 'the disk has room', run: checkDisk },
  {
    id: 'host.link',
    layer: 'host',
    title: 'the network is connected',
    after: ['tcp.connect'],
    run: checkLink,
  },
  {
    id: 'host.gateway',
    layer: 'host',
    title: 'the router answers',
    after: ['tcp.connect'],
    run: checkGateway,
  },
  {
    id: 'host.proxyenv',
    layer: 'host',
    title: 'a proxy of the environment is used or not meant',
    run: checkProxyEnvironment,
  },
  { id: 'host.time_sync', layer: 'host', title: 'the clock is synchronised', run: checkTimeSync },
  { id: 'host.load', layer: 'host', title: 'the machine is not overloaded', run: checkLoad },
];

const NODE_MIN = [20, 19] as const;

function checkRuntime({ machine }: Probe): Finding {
  const [major = 0, minor = 0] = machine.nodeVersion.split('.').map(Number);
  const enough = major > NODE_MIN[0] || (major === NODE_MIN[0] && minor >= NODE_MIN[1]);
  return enough
    ? pass(`Node ${machine.nodeVersion}`)
    : fail(
        'PS-HOST-NODE',
        `Node ${machine.nodeVersion} is too old; possync needs ${NODE_MIN.join('.')} or newer`,
      );
}

const MIB = 1024 * 1024;
/** Below this a busy store fills the rest within hours. */
const DISK_FAIL_BYTES = 200 * MIB;
const DISK_WARN_BYTES = 2_048 * MIB;

async function checkDisk({ subject, machine }: Probe): Promise<Finding> {
  const places: string[] = [];
  for (const path of new Set([subject.stateDir, subject.logDir])) {
    if ((await machine.stat(path)) !== undefined) places.push(path);
  }
  if (places.length === 0) places.push('.');
  let worst = pass('');
  for (const path of places) {
    const { freeBytes, totalBytes, freeFiles, totalFiles } = await machine.space(path);
    const percent = totalBytes === 0 ? 0 : Math.round(100 - (100 * freeBytes) / totalBytes);
    const detail = { target: path, evidence: { free_bytes: freeBytes, used_percent: percent } };
    const text = `${Math.floor(freeBytes / MIB)} MiB left for ${path} (${percent} % full)`;
    if (freeBytes < DISK_FAIL_BYTES) return fail('PS-HOST-DISK', text, detail);
    if (totalFiles > 0 && freeFiles < Math.max(100, totalFiles / 1_000))
      return fail('PS-HOST-INODES', `room for only ${freeFiles} more files at ${path}`, detail);
    const low = freeBytes < DISK_WARN_BYTES || freeBytes < totalBytes / 10;
    if (low) worst = warn('PS-HOST-DISK', text, detail);
    else if (worst.code === undefined) worst = pass(`disk ${percent} % full`, detail.evidence);
  }
  return worst;
}

/** HQ answers or lies on this machine: whatever looks odd about the network does not matter. */
function networkProven({ facts, subject }: Probe): boolean {
  return (
    facts.reachable !== undefined || isLoopbackName(facts.target?.host ?? '') || subject.proxy !== undefined
  );
}

async function checkLink(probe: Probe): Promise<Finding> {
  const { machine } = probe;
  const interfaces = machine.interfaces();
  const evidence = { interfaces };
  const [first] = interfaces;
  if (networkProven(probe))
    return pass(first === undefined ? 'HQ is on this machine' : `${first.name} ${first.address}`, evidence);
  const names = (await machine.systemDirectory('/sys/class/net')).filter((name) =>
    /^(en|eth|wl|ww|usb)/.test(name),
  );
  const carriers = await Promise.all(
    names.map(async (name) => ({
      name,
      up: (await machine.systemFile(`/sys/class/net/${name}/carrier`))?.trim() === '1',
    })),
  );
  if (carriers.length > 0 && carriers.every(({ up }) => !up)) {
    const unplugged = carriers.map(({ name }) => name).join(', ');
    return fail('PS-HOST-CABLE', `the network cable is unplugged (no carrier on ${unplugged})`, { evidence });
  }
  if (first === undefined) return fail('PS-HOST-NOIP', 'this machine has no network address', { evidence });
  if ((await gatewayOf(probe)) === undefined && !(await hasV6Route(probe)))
    return fail('PS-HOST-NOROUTE', 'this machine has no default gateway', { evidence });
  return pass(`${first.name} ${first.address}`, evidence);
}

/** The IPv4 gateway in /proc/net/route, which writes addresses as little-endian hex. */
async function gatewayOf({ machine }: Probe): Promise<string | undefined> {
  const routes = (await machine.systemFile('/proc/net/route'))?.split('\n').slice(1) ?? [];
  for (const line of routes) {
    const [, destination, gateway = ''] = line.split(/\s+/);
    if (destination === '00000000' && /^[0-9A-F]{8}$/i.test(gateway) && gateway !== '00000000')
      return [...Buffer.from(gateway, 'hex')].reverse().join('.');
  }
  return undefined;
}

async function hasV6Route({ machine }: Probe): Promise<boolean> {
  const text = (await machine.systemFile('/proc/net/ipv6_route')) ?? '';
  return text.split('\n').some((line) => /^0{32} 00 .* (?!lo$)\S+$/.test(line.trim()));
}

async function checkGateway(probe: Probe): Promise<Finding> {
  const gateway = await gatewayOf(probe);
  if (gateway === undefined || networkProven(probe))
    return pass(gateway === undefined ? 'no gateway to ask' : `gateway ${gateway}`);
  const table = (await probe.machine.systemFile('/proc/net/arp')) ?? '';
  const flags = table
    .split('\n')
    .map((line) => line.split(/\s+/))
    .find(([address]) => address === gateway)?.[2];
  // 0x0 = asked and never answered; a machine without an entry has not asked lately.
  if (flags === '0x0') {
    return warn('PS-HOST-GATEWAY', `the router ${gateway} does not answer on the local network`, {
      target: gateway,
    });
  }
  return pass(`gateway ${gateway}${flags === undefined ? '' : ' answers'}`);
}

function checkProxyEnvironment({ subject, facts }: Probe): Finding {
  const { env, proxy } = subject;
  const { target } = facts;
  const secure = target?.secure ?? true;
  const found = environmentProxy({ secure }, env);
  // One of the other kind: HTTP_PROXY and an HQ with TLS, or HTTPS_PROXY and one without.
  const other = environmentProxy({ secure: !secure }, env);
  const name = found?.name ?? other?.name;
  if (name === undefined) return pass(proxy === undefined ? 'no proxy in the environment' : FROM_SETTINGS);
  if (proxy === undefined && (found === undefined || (target !== undefined && isExempt(target, env))))
    return pass(`${name} does not apply to HQ`);
  if (found === undefined) return pass(FROM_SETTINGS);
  if (proxy === undefined) return warn('PS-PROXY-ENV', `${found.name} is set, but is no HTTP proxy`);
  return pass(proxy === parseProxy(found.value)?.href ? `the proxy of ${found.name} is used` : FROM_SETTINGS);
}

const FROM_SETTINGS = 'the proxy of POSSYNC_PROXY is used';

async function checkTimeSync({ machine }: Probe): Promise<Finding> {
  if ((await machine.systemFile('/run/systemd/timesync/synchronized')) !== undefined)
    return pass('clock synchronised by systemd-timesyncd');
  const run = await machine.systemDirectory('/run');
  const other = ['chrony', 'chronyd.pid', 'ntpd.pid', 'ntpsec'].find((name) => run.includes(name));
  if (other !== undefined) return pass(`clock kept by ${other.replace('.pid', '')}`);
  // A container or a virtual machine has its clock from its host; only systemd's own silence says something.
  const directory = await machine.systemDirectory('/run/systemd/timesync');
  if (directory.length === 0) return pass('no time service seen here; see clock.skew');
  return warn('PS-HOST-NTP', 'the clock is not synchronised');
}

function checkLoad({ machine }: Probe): Finding {
  const { average, cores, freeBytes } = machine.load();
  const evidence = { load: average, cores, free_bytes: freeBytes };
  const text = `load ${average.toFixed(1)} on ${cores} cores`;
  // For information: a burst of other work is no fault of sync, but it explains a slow one.
  return average > 4 * cores
    ? { ...pass(`the machine is busy (${text}); sync may be slow`, evidence), code: 'PS-HOST-LOAD' }
    : pass(text, evidence);
}
