/** A store on loopback for one fault: real files, real sockets, a real DNS server, and what is wrong with them. */
import dns from 'node:dns';
import { once } from 'node:events';
import http from 'node:http';
import { chmod, mkdir, mkdtemp, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { formatCredential, newSecret } from '../../../src/core/secret.ts';
import { diagnose, type Report } from '../../../src/diagnose/diagnose.ts';
import type { Patience } from '../../../src/diagnose/check.ts';
import type { Address } from '../../../src/diagnose/facts.ts';
import { createMachine, type MachineOptions } from '../../../src/diagnose/machine.ts';
import type { Memory } from '../../../src/diagnose/memory.ts';
import type { ConfigFacts, Subject } from '../../../src/diagnose/subject.ts';
import { makeCertificate, type CertificateWish, type MadeCertificate } from './certificates.ts';
import { startDns, type DnsWish } from './dns.ts';
import { HQ_ID, startHq, STORE, type HqWish } from './hq.ts';

/** Never leaves the machine, whatever DNS says: names under .localhost are loopback by their RFC. */
export const HOST = 'hq.localhost';
export const KID = 'ABCDEFGH';

/** What a fault changes of a healthy store. */
export interface Situation {
  hqUrl?: string | undefined;
  dnsServers?: readonly string[];
  /** Files under /etc, /proc, /sys and /run; undefined = not there. */
  files?: Readonly<Record<string, string | undefined>>;
  machine?: Omit<MachineOptions, 'root' | 'lookup' | 'dnsServers'>;
  /** PEM text, or a path that does not exist. */
  ca?: string | undefined;
  caFile?: string;
  proxy?: string;
  env?: Readonly<Record<string, string>>;
  config?: Partial<ConfigFacts>;
  /** Text of the credential file; null = no file. */
  credential?: string | null;
  credentialMode?: number;
  /** Extra files in the state directory, with their age. */
  state?: Readonly<Record<string, { text: string; ageMs?: number }>>;
  memory?: Partial<Memory>;
  patience?: Partial<Patience>;
  only?: readonly string[];
  deep?: boolean;
  subject?: Partial<Subject>;
}

const HEALTHY_FILES: Readonly<Record<string, string>> = {
  '/etc/resolv.conf': 'nameserver 127.0.0.1\n',
  '/etc/hosts': '127.0.0.1 localhost\n',
  '/proc/net/route':
    'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n' +
    'eth0\t00000000\t012A140A\t0003\t0\t0\t0\t00000000\n',
  '/proc/net/arp':
    'IP address       HW type     Flags       HW address            Mask     Device\n' +
    '10.20.42.1       0x1         0x2         02:00:00:00:00:05     *        eth0\n',
  '/sys/class/net/eth0/carrier': '1\n',
  '/sys/class/net/eth0/mtu': '1500\n',
  '/run/systemd/timesync/synchronized': '',
};

const GIB = 1024 ** 3;
const HEALTHY_MACHINE: MachineOptions = {
  nodeVersion: '20.20.2',
  interfaces: [{ name: 'eth0', address: '10.20.42.10', family: 4 }],
  space: { freeBytes: 80 * GIB, totalBytes: 100 * GIB, freeFiles: 900_000, totalFiles: 1_000_000 },
  load: { average: 0.2, cores: 2, freeBytes: GIB },
};

/** Long enough for a busy machine, short enough for sixty faults. */
const LAB_PATIENCE: Patience = { connectMs: 1_500, replyMs: 1_500, holdMs: 250, dnsMs: 500, idleMs: 700 };

let authority: MadeCertificate | undefined;

/** The chain's own authority, made once. */
export function labAuthority(): MadeCertificate {
  authority ??= makeCertificate({ common: 'Example Root', organisation: 'Example Chain', authority: true });
  return authority;
}

export function certificate(wish: Partial<CertificateWish> = {}): MadeCertificate {
  return makeCertificate({ common: HOST, names: [HOST], issuer: labAuthority(), ...wish });
}

export class Lab {
  readonly #closers: (() => Promise<void>)[] = [];

  /** Closes with the lab. */
  async use<T extends { close(): Promise<void> }>(starting: Promise<T>): Promise<T> {
    const started = await starting;
    this.#closers.push(() => started.close());
    return started;
  }

  async dns(wish: DnsWish): Promise<string> {
    return (await this.use(startDns(wish))).address;
  }

  /** HQ over TLS; its address for `hqUrl`. */
  async hq(wish: HqWish = {}): Promise<string> {
    const { port } = await this.use(startHq({ certificate: certificate(), ...wish }));
    return `wss://${HOST}:${port}`;
  }

  /** HQ over plain HTTP, for boxes that look into the bytes. */
  async plainHq(wish: HqWish = {}): Promise<{ port: number; url: string }> {
    const { port } = await this.use(startHq(wish));
    return { port, url: `ws://${HOST}:${port}` };
  }

  /** A daemon's socket that answers with this status document. */
  async daemon(status: object): Promise<string> {
    const folder = await mkdtemp(join(tmpdir(), 'possync-lab-daemon-'));
    const socketPath = join(folder, 'store.sock');
    const server = http.createServer((_request, response) => {
      response.end(JSON.stringify(status));
    });
    await once(server.listen(socketPath), 'listening');
    this.#closers.push(async () => {
      server.close();
      server.closeAllConnections();
      await rm(folder, { recursive: true });
    });
    return socketPath;
  }

  async close(): Promise<void> {
    await Promise.all(this.#closers.splice(0).map((close) => close()));
  }

  async run(situation: Situation): Promise<Report> {
    const folder = await mkdtemp(join(tmpdir(), 'possync-lab-'));
    this.#closers.push(() => rm(folder, { recursive: true, force: true }));
    const root = join(folder, 'root');
    const files = { ...HEALTHY_FILES, ...situation.files };
    for (const [path, text] of Object.entries(files)) {
      if (text === undefined) continue;
      await mkdir(dirname(join(root, path)), { recursive: true });
      await writeFile(join(root, path), text);
    }
    const patience = { ...LAB_PATIENCE, ...situation.patience };
    const dnsServers = situation.dnsServers ?? [await this.dns({ v4: ['127.0.0.1'] })];
    const machine = createMachine({
      ...HEALTHY_MACHINE,
      ...situation.machine,
      root,
      dnsServers,
      lookup: (host) => lookup(host, files['/etc/hosts'] ?? '', dnsServers, patience.dnsMs),
    });
    const subject = await makeSubject(folder, situation);
    return diagnose({
      subject,
      machine,
      patience,
      only: situation.only ?? [],
      // A second of its own, needed only where buffering is the fault.
      skip: situation.only === undefined ? ['path.proxybuffer', 'daemon', 'db', 'queue'] : [],
      deep: situation.deep === true,
      budgetMs: 15_000,
    });
  }
}

async function makeSubject(folder: string, situation: Situation): Promise<Subject> {
  const stateDir = join(folder, 'state');
  await mkdir(stateDir, { mode: 0o700 });
  const token = formatCredential({ kid: KID, secret: newSecret(KID) });
  const credentialFile = join(stateDir, 'credential');
  if (situation.credential !== null) {
    await writeFile(credentialFile, situation.credential ?? JSON.stringify({ token: token.reveal() }));
    await chmod(credentialFile, situation.credentialMode ?? 0o600);
  }
  for (const [name, { text, ageMs = 0 }] of Object.entries(situation.state ?? {})) {
    await writeFile(join(stateDir, name), text);
    const at = new Date(Date.now() - ageMs);
    await utimes(join(stateDir, name), at, at);
  }
  const caFile = situation.caFile ?? join(folder, 'ca.pem');
  if (situation.caFile === undefined) await writeFile(caFile, situation.ca ?? labAuthority().pem);
  if (situation.memory !== undefined) {
    const { hostname, port } = new URL((situation.hqUrl ?? '').replace(/^ws/, 'http'));
    const memory: Memory = {
      host: hostname,
      port: Number(port),
      address: '127.0.0.1',
      issuer: null,
      key: null,
      at: new Date().toISOString(),
      ...situation.memory,
    };
    await writeFile(join(stateDir, 'last-good.json'), JSON.stringify(memory));
  }
  return {
    hqUrl: situation.hqUrl,
    hqUrlSource: 'credential',
    bare: false,
    config: { file: undefined, faults: [], given: [], overridden: [], warnings: [], ...situation.config },
    stateDir,
    logDir: stateDir,
    socketPath: join(stateDir, 'store.sock'),
    databaseUrl: undefined,
    caFile,
    proxy: situation.proxy,
    env: situation.env ?? {},
    credentialFile,
    credential: situation.credential === null ? undefined : { kid: KID, token },
    store: STORE,
    hqId: HQ_ID,
    ...situation.subject,
  };
}

/** As the system does it: the hosts file, then DNS; one error for all that can go wrong. */
async function lookup(
  host: string,
  hosts: string,
  servers: readonly string[],
  dnsMs: number,
): Promise<readonly Address[]> {
  for (const line of hosts.split('\n')) {
    const [address, ...names] = line.trim().split(/\s+/);
    if (address !== undefined && names.includes(host))
      return [{ address, family: address.includes(':') ? 6 : 4 }];
  }
  const resolver = new dns.promises.Resolver({ timeout: dnsMs, tries: 2 });
  resolver.setServers([...servers]);
  const [v4, v6] = await Promise.all([
    resolver.resolve4(host).catch(() => []),
    resolver.resolve6(host).catch(() => []),
  ]);
  const found = [
    ...v4.map((address) => ({ address, family: 4 }) as const),
    ...v6.map((address) => ({ address, family: 6 }) as const),
  ];
  if (found.length === 0) throw Object.assign(new Error('lookup failed'), { code: 'EAI_AGAIN' });
  return found;
}
