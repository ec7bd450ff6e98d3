/** The chain of a run: HQ with its processes, stores with their daemons and lines, each on a machine of its own. */
import { appendFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { choosePort } from '../../src/demo/postgres/port.ts';
import { FaultProxy } from '../../test/support/fault-proxy.ts';
import { runPossync, type Ended } from '../../test/support/process.ts';
import { until } from '../../test/support/until.ts';
import { Machine } from './machine.ts';
import { furnish } from './office.ts';
import { Oracle } from './oracle.ts';
import { lastLines, Program } from './programs.ts';

export interface Violation {
  readonly kind: string;
  readonly what: string;
}

export interface Site {
  readonly code: string;
  readonly id: number;
  readonly machine: Machine;
  readonly daemon: Program;
  readonly line: FaultProxy;
  readonly stateDir: string;
  /** Raised when its database goes back: what was read before does not bind any more. */
  era: number;
}

export interface WorldOptions {
  readonly runDir: string;
  readonly stores: readonly string[];
  readonly servers: number;
  readonly smallDisk: boolean;
  readonly say: (line: string) => void;
}

/** More of one kind says nothing new. */
const MOST_OF_A_KIND = 20;

export class World {
  readonly runDir: string;
  readonly hq: Machine;
  readonly servers: readonly Program[];
  readonly sites: readonly Site[];
  readonly oracle: Oracle;
  readonly violations: Violation[] = [];
  readonly #say: (line: string) => void;
  hqEra = 0;

  private constructor(
    runDir: string,
    hq: Machine,
    servers: readonly Program[],
    sites: readonly Site[],
    oracle: Oracle,
    say: (line: string) => void,
  ) {
    this.runDir = runDir;
    this.hq = hq;
    this.servers = servers;
    this.sites = sites;
    this.oracle = oracle;
    this.#say = say;
  }

  static async open({ runDir, stores, servers, smallDisk, say }: WorldOptions): Promise<World> {
    await mkdir(runDir, { recursive: true, mode: 0o755 });
    const machines = await Promise.all(['HQ', ...stores].map((name) => Machine.start(name, runDir)));
    const [hq, ...own] = machines;
    if (hq === undefined) throw new Error('a chain has a head office');
    if (smallDisk) await own.at(-1)?.useSmallDisk();
    const early: Violation[] = [];
    const holder: { world?: World } = {};
    const fault = (what: string): void => {
      if (holder.world === undefined) early.push({ kind: 'program', what });
      else holder.world.violate('program', what);
    };
    await possync(hq, runDir, ['hq', 'init']);
    await furnish(hq.pool);
    await installWitness(hq);
    const ports: number[] = [];
    for (let n = 0; n < servers; n += 1) ports.push(await choosePort());
    const programs = ports.map(
      (port, n) =>
        new Program(
          `hq serve ${n + 1}`,
          ['hq', 'serve', '--port', String(port)],
          {
            ...hq.environment,
            DATABASE_URL: hq.url,
            LOG_DIR: join(runDir, `log-hq-${n + 1}`),
            POSSYNC_METRICS_LISTEN: 'off',
          },
          runDir,
          fault,
        ),
    );
    for (const program of programs) await program.start();
    await until(() => programs.every(({ output }) => output.includes('"event":"ready"')), {
      what: 'the servers of HQ listened',
      timeoutMs: 60_000,
    });
    const sites: Site[] = [];
    for (const [n, code] of stores.entries()) {
      const machine = own[n];
      if (machine !== undefined) sites.push(await openSite({ runDir, hq, machine, code, ports, fault }));
    }
    const world = new World(runDir, hq, programs, sites, new Oracle(join(runDir, 'oracle.log')), say);
    holder.world = world;
    for (const { kind, what } of early) world.violate(kind, what);
    return world;
  }

  violate(kind: string, what: string): void {
    const same = this.violations.filter((violation) => violation.kind === kind);
    if (same.length >= MOST_OF_A_KIND || same.some((violation) => violation.what === what)) return;
    this.violations.push({ kind, what });
    this.note(`VIOLATION ${kind}: ${what}`);
    this.#say(`VIOLATION ${kind}: ${what}`);
  }

  /** Into the journal of the run. */
  note(line: string): void {
    appendFileSync(join(this.runDir, 'journal.log'), `${new Date().toISOString()} ${line}\n`);
  }

  site(code: string): Site {
    const site = this.sites.find((candidate) => candidate.code === code);
    if (site === undefined) throw new Error(`there is no store ${code}`);
    return site;
  }

  machine(name: string): Machine {
    return name === 'HQ' ? this.hq : this.site(name).machine;
  }

  /** Runs a command of possync at HQ or in a store, as a person would. */
  async command(where: Site | 'HQ', args: readonly string[]): Promise<Ended> {
    const env =
      where === 'HQ'
        ? { DATABASE_URL: this.hq.url, LOG_DIR: join(this.runDir, 'log-commands') }
        : where.daemon.env;
    const ended = await runPossync(args, { env, cwd: this.runDir });
    this.note(
      `possync ${args.join(' ')} (${where === 'HQ' ? 'HQ' : where.code}): ${ended.code ?? ended.signal ?? ''}`,
    );
    return ended;
  }

  async close(): Promise<void> {
    for (const { daemon } of this.sites) await daemon.stop();
    for (const server of this.servers) await server.stop();
    await this.abandon();
  }

  /** Without the programs' own farewell. */
  async abandon(): Promise<void> {
    for (const program of [...this.sites.map(({ daemon }) => daemon), ...this.servers]) await program.kill();
    for (const { line } of this.sites) await line.close();
    for (const machine of [this.hq, ...this.sites.map((site) => site.machine)]) await machine.stop();
  }
}

/** A trigger of the bench at HQ: every step of an inbox, in the transaction that made it (invariants 16, 20). */
async function installWitness(hq: Machine): Promise<void> {
  await hq.pool.query(`
    create schema torture;
    create table torture.steps (
      n bigint generated always as identity, store_id integer not null,
      from_epoch integer not null, from_seq bigint not null, to_epoch integer not null, to_seq bigint not null);
    create function torture.note_step() returns trigger language plpgsql as $$
    begin
      insert into torture.steps (store_id, from_epoch, from_seq, to_epoch, to_seq)
      values (new.store_id, old.epoch, old.seq, new.epoch, new.seq);
      return null;
    end $$;
    create trigger note_step after update on possync.inbox for each row
      when ((old.epoch, old.seq) is distinct from (new.epoch, new.seq)) execute function torture.note_step();`);
}

async function possync(
  machine: Machine,
  runDir: string,
  args: readonly string[],
  more: { env?: Record<string, string>; input?: string } = {},
): Promise<string> {
  const { code, stdout, stderr } = await runPossync(args, {
    env: { DATABASE_URL: machine.url, LOG_DIR: join(runDir, 'log-commands'), ...more.env },
    cwd: runDir,
    ...(more.input === undefined ? {} : { input: more.input }),
  });
  if (code !== 0)
    throw new Error(`possync ${args.join(' ')} ended with ${code ?? 'a signal'}: ${lastLines(stderr)}`);
  return stdout;
}

async function openSite(options: {
  runDir: string;
  hq: Machine;
  machine: Machine;
  code: string;
  ports: readonly number[];
  fault: (what: string) => void;
}): Promise<Site> {
  const { runDir, hq, machine, code, ports, fault } = options;
  const added = await possync(hq, runDir, [
    'stores',
    'add',
    code,
    '--name',
    `Store ${code}`,
    '--time-zone',
    'Europe/Berlin',
    '--json',
  ]);
  const id = (JSON.parse(added) as { stores: { id: number }[] }).stores[0]?.id ?? 0;
  // Connections go to the processes of HQ in turn, as through a load balancer.
  let turn = id;
  const line = new FaultProxy(() => {
    turn += 1;
    return { host: '127.0.0.1', port: ports[turn % ports.length] ?? 0 };
  });
  await line.open();
  const token = await possync(hq, runDir, [
    'token',
    'issue',
    code,
    '--hq-url',
    `http://127.0.0.1:${line.port}`,
  ]);
  const stateDir = join(runDir, `state-${code}`);
  await possync(machine, runDir, ['store', 'init', '--token-file', '-'], {
    env: { POSSYNC_STATE_DIR: stateDir },
    input: token,
  });
  const daemon = new Program(
    `daemon ${code}`,
    ['store', 'daemon'],
    {
      ...machine.environment,
      DATABASE_URL: machine.url,
      POSSYNC_STATE_DIR: stateDir,
      POSSYNC_STATUS_LISTEN: 'off',
      POSSYNC_METRICS_LISTEN: 'off',
      SYNC_PUSH_INTERVAL: '1s',
      LOG_DIR: join(runDir, `log-${code}`),
    },
    runDir,
    fault,
  );
  await daemon.start();
  return { code, id, machine, daemon, line, stateDir, era: 0 };
}
