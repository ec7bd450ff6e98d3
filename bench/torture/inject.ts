/** Carries a plan out: every fault at its time, on its target, and undone when its time is over. */
import { cp, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { randomFor } from '../../test/support/random.ts';
import { startPossync } from '../../test/support/process.ts';
import { readFacts } from './facts.ts';
import { Machine } from './machine.ts';
import type { Entry } from './oracle.ts';
import type { Fault, FaultKind, Plan } from './plan.ts';
import { lastLines, Program } from './programs.ts';
import { readHead, readStore } from './readings.ts';
import { Till } from './till.ts';
import type { Site, World } from './world.ts';

const PUSH = /^POST \/api\/v1\/sync\/push/;
/** Below it a light may rightly still be green. */
const RED_AFTER_MS = 3_000;
/** How long a way back waits until it matters. */
const MORE_MS = 10_000;

export class Injector {
  readonly #world: World;
  readonly #locks = new Map<string, Promise<unknown>>();
  readonly #seed: number;
  /** Faults that happened, by kind. */
  readonly counts: Partial<Record<FaultKind, number>> = {};
  lostAnswers = 0;
  duplicates = 0;
  /** Transactions that some disk took along. */
  gone = 0;

  constructor(world: World, seed: number) {
    this.#world = world;
    this.#seed = seed;
  }

  /** Resolves when every fault of the plan is over. */
  async run(plan: Plan, signal: AbortSignal): Promise<void> {
    const start = performance.now();
    const running: Promise<void>[] = [];
    for (const fault of plan.faults) {
      await pause(Math.max(0, start + fault.atMs - performance.now()));
      if (signal.aborted) break;
      running.push(this.#one(fault));
    }
    await Promise.all(running);
  }

  async #one(fault: Fault): Promise<void> {
    const { kind, target, lastsMs, amount, n } = fault;
    try {
      this.#world.note(`fault ${n} ${kind} ${target} ${lastsMs} ms ${amount}`);
      await this.#carryOut(fault);
      this.counts[kind] = (this.counts[kind] ?? 0) + 1;
      this.#world.note(`fault ${n} ${kind} over`);
    } catch (error) {
      this.#world.violate(
        'bench',
        `fault ${n} ${kind} ${target}: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
  }

  /** Two faults on one thing take turns. */
  async #locked<T>(names: readonly string[], work: () => Promise<T>): Promise<T> {
    const before = names.map(async (name) => this.#locks.get(name));
    const mine = Promise.all(before).then(work);
    const settled = mine.catch(() => undefined);
    for (const name of names) this.#locks.set(name, settled);
    return mine;
  }

  async #carryOut(fault: Fault): Promise<void> {
    const { kind, target, lastsMs, amount } = fault;
    const world = this.#world;
    switch (kind) {
      case 'refuse':
      case 'reset':
      case 'black-hole':
      case 'half-close':
        return this.#breakLine(world.site(target), kind, lastsMs);
      case 'delay':
        return this.#onLine(target, async ({ line }) => {
          line.delay(amount);
          line.cut(); // what was written with another delay must not be overtaken
          await pause(lastsMs);
          line.delay(0);
          line.cut();
        });
      case 'lost-answer':
        return this.#onLine(target, async ({ line }) => {
          const before = line.dropped;
          await whileTime(lastsMs, () => {
            line.dropNextAnswer(PUSH);
          });
          line.dropNextAnswer(/$^/);
          this.lostAnswers += line.dropped - before;
        });
      case 'duplicate':
        return this.#onLine(target, async ({ line }) => {
          const before = line.repeated;
          await whileTime(lastsMs, () => {
            line.repeatNext(PUSH);
          });
          line.repeatNext(/$^/);
          this.duplicates += line.repeated - before;
        });
      case 'kill-daemon':
        return this.#killed(`daemon ${target}`, world.site(target).daemon, lastsMs);
      case 'kill-hq':
        return this.#killed(`server ${amount}`, this.#server(amount), lastsMs);
      case 'freeze-daemon':
        return this.#frozen(`daemon ${target}`, world.site(target).daemon, lastsMs);
      case 'freeze-hq':
        return this.#frozen(`server ${amount}`, this.#server(amount), lastsMs);
      case 'second-daemon':
        return this.#locked([`daemon ${target}`], () => this.#secondDaemon(world.site(target)));
      case 'kill-backend':
        return this.#locked([`machine ${target}`], () => world.machine(target).killBackend());
      case 'pg-fast':
        return this.#locked([`machine ${target}`], () => world.machine(target).restart('fast'));
      case 'pg-immediate':
        return this.#locked([`machine ${target}`], () => world.machine(target).restart('immediate'));
      case 'pg-power':
        return this.#locked([`machine ${target}`], () => world.machine(target).restart('power'));
      case 'clock-step':
        return this.#locked([`clock ${target}`], async () => {
          await world.machine(target).setClock(amount);
          await pause(lastsMs);
          await world.machine(target).setClock(0);
        });
      case 'disk-full':
        return this.#locked([`machine ${target}`], () => this.#diskFull(world.machine(target), lastsMs));
      case 'rewind-store':
        return this.#rewindStore(world.site(target), fault);
      case 'rewind-hq':
        return this.#rewindHq(fault);
      case 'clone-store':
        return this.#cloneStore(world.site(target), fault);
    }
  }

  #server(amount: number): Program {
    const server = this.#world.servers[amount % this.#world.servers.length];
    if (server === undefined) throw new Error('HQ has no server');
    return server;
  }

  async #onLine(target: string, work: (site: Site) => Promise<void>): Promise<void> {
    await this.#locked([`line ${target}`], () => work(this.#world.site(target)));
  }

  async #breakLine(
    site: Site,
    kind: 'refuse' | 'reset' | 'black-hole' | 'half-close',
    lastsMs: number,
  ): Promise<void> {
    await this.#onLine(site.code, async ({ line }) => {
      await line.set(kind);
      await pause(lastsMs);
      const dead = kind === 'refuse' || kind === 'reset';
      if (dead && lastsMs >= RED_AFTER_MS) await this.#mustBeRed(site);
      await line.set('pass');
    });
  }

  /** Green only with a live link: no connection can have survived by now. */
  async #mustBeRed(site: Site): Promise<void> {
    const { code, stdout } = await this.#world.command(site, ['status', '--json']);
    if (code === 69) return; // its database is away: it cannot tell, and says so
    const view = JSON.parse(stdout) as { connection?: { indicator?: string } };
    if (code !== 1 || view.connection?.indicator !== 'red')
      this.#world.violate(
        'light',
        `${site.code}: ${view.connection?.indicator ?? '?'}, exit ${code ?? '?'}, on a dead line`,
      );
  }

  async #killed(lock: string, program: Program, lastsMs: number): Promise<void> {
    await this.#locked([lock], async () => {
      await program.kill();
      await pause(lastsMs);
      await program.start();
    });
  }

  async #frozen(lock: string, program: Program, lastsMs: number): Promise<void> {
    await this.#locked([lock], async () => {
      program.signal('SIGSTOP');
      await pause(lastsMs);
      program.signal('SIGCONT');
    });
  }

  /** It may only stay if the first one has just lost its database. */
  async #secondDaemon(site: Site): Promise<void> {
    const first = site.daemon.pid;
    const second = await startPossync(site.daemon.args, { env: site.daemon.env, cwd: this.#world.runDir });
    await Promise.race([second.ended(30_000).catch(() => undefined), pause(10_000)]);
    const serves = second.running && second.stdout.includes('"event":"ready"');
    await second.stop();
    this.#world.note(`the second daemon of ${site.code} said: ${lastLines(second.stdout + second.stderr)}`);
    if (serves && site.daemon.pid === first && first !== undefined && !site.machine.isDown)
      this.#world.violate('twice', `two daemons serve ${site.code}`);
  }

  async #diskFull(machine: Machine, lastsMs: number): Promise<void> {
    await machine.whileDown(async () => {
      const empty = await machine.fillDisk();
      await pause(lastsMs);
      await empty();
    });
  }

  async #rewindStore(site: Site, { n, lastsMs }: Fault): Promise<void> {
    const world = this.#world;
    const copy = join(world.runDir, `copy-${n}`);
    const seq = await this.#locked([`machine ${site.code}`], async () => {
      await site.machine.copyTo(copy);
      return (await readStore(site.machine.pool)).sealed;
    });
    await pause(lastsMs);
    await this.#untilHqHasMore(site, seq);
    await this.#locked(['history', `machine ${site.code}`, `daemon ${site.code}`], async () => {
      let known = new Set<Entry>();
      await site.daemon.kill();
      await site.machine.whileDown(async () => {
        await site.machine.server.kill('SIGKILL');
        known = new Set(world.oracle.entries);
        site.era += 1;
        await site.machine.goBackTo(copy);
      });
      const own = await readFacts(site.machine.pool, site.id);
      const atHq = await patiently(() => readFacts(world.hq.pool, site.id));
      this.gone += world.oracle.storeWentBack(site.code, known, own, atHq);
      await site.daemon.start();
    });
    await rm(copy, { recursive: true, force: true });
  }

  /** A way back of which HQ has heard nothing is only a power cut: HQ shall have what the copy has not. */
  async #untilHqHasMore(site: Site, seq: number): Promise<void> {
    for (const giveUp = performance.now() + MORE_MS; performance.now() < giveUp;) {
      const inbox = await readHead(this.#world.hq.pool).then(
        ({ inboxes }) => inboxes.find(({ store_id }) => store_id === site.id),
        () => undefined,
      );
      if (inbox !== undefined && inbox.seq > seq) return;
      await pause(200);
    }
  }

  async #rewindHq({ n, lastsMs, amount }: Fault): Promise<void> {
    const world = this.#world;
    const { hq, servers, sites } = world;
    const copy = join(world.runDir, `copy-${n}`);
    await this.#locked(['machine HQ'], () => hq.copyTo(copy));
    await pause(lastsMs);
    await this.#locked(['history', 'machine HQ'], async () => {
      const stopped = amount % 2 === 0; // else its processes live through it
      if (stopped) for (const server of servers) await server.kill();
      await hq.whileDown(async () => {
        await hq.server.kill('SIGKILL');
        world.hqEra += 1;
        await hq.goBackTo(copy);
      });
      for (const site of sites)
        this.gone += world.oracle.hqWentBack(site.code, await patiently(() => readFacts(hq.pool, site.id)));
      if (stopped) for (const server of servers) await server.start();
    });
    await rm(copy, { recursive: true, force: true });
  }

  /** The copy has the same credential, goes through the same line, and sells on the same register. */
  async #cloneStore(site: Site, { n, lastsMs, amount }: Fault): Promise<void> {
    const world = this.#world;
    const copy = join(world.runDir, `copy-${n}`);
    await this.#locked([`machine ${site.code}`], () => site.machine.copyTo(copy));
    const stateDir = join(world.runDir, `state-clone-${n}`);
    await mkdir(stateDir, { mode: 0o700 });
    await cp(join(site.stateDir, 'credential'), join(stateDir, 'credential'), { preserveTimestamps: true });
    const machine = await Machine.start(`clone-${n}`, world.runDir, { dir: copy, of: site.machine });
    await rm(copy, { recursive: true, force: true });
    const daemon = new Program(
      `clone of ${site.code}`,
      site.daemon.args,
      {
        ...site.daemon.env,
        ...machine.environment,
        DATABASE_URL: machine.url,
        POSSYNC_STATE_DIR: stateDir,
        LOG_DIR: join(world.runDir, `log-clone-${n}`),
      },
      world.runDir,
      (what) => {
        world.violate('program', what);
      },
    );
    const open = new AbortController();
    const till = new Till({
      machine,
      store: site,
      registerCode: `${site.code}-1`,
      others: [],
      oracle: world.oracle,
      random: randomFor(`clone ${n}`, this.#seed),
      paceMs: 200,
      clone: true,
      failed: (what) => {
        world.violate('till', `clone: ${what}`);
      },
    });
    const live = async (): Promise<void> => {
      await daemon.start();
      const selling = till.run(open.signal);
      await pause(lastsMs);
      open.abort();
      await selling;
    };
    // Every other time the first machine is off meanwhile, so that the copy is let in.
    if (amount % 2 === 0) await live();
    else
      await this.#locked([`daemon ${site.code}`], async () => {
        await site.daemon.kill();
        await live();
        await site.daemon.start();
      });
    await this.#locked(['history'], async () => {
      await daemon.kill();
      this.gone += world.oracle.cloneEnded(
        site.code,
        await patiently(() => readFacts(world.hq.pool, site.id)),
      );
    });
    await machine.stop();
  }
}

/** HQ may be down for another fault at this moment. */
async function patiently<T>(work: () => Promise<T>): Promise<T> {
  for (const giveUp = performance.now() + 60_000; ;) {
    try {
      return await work();
    } catch (error) {
      if (performance.now() > giveUp) throw error;
      await pause(100);
    }
  }
}

async function whileTime(lastsMs: number, again: () => void): Promise<void> {
  for (const end = performance.now() + lastsMs; performance.now() < end;) {
    again();
    await pause(100);
  }
}
