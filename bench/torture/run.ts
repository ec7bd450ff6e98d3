/** One run: a chain is built, sells and breaks by the plan, heals, and is judged. */
import { setTimeout as pause } from 'node:timers/promises';
import { until } from '../../test/support/until.ts';
import { randomFor } from '../../test/support/random.ts';
import { check, retryParked, settle, type Tally } from './finish.ts';
import { Injector } from './inject.ts';
import { canStepClock } from './machine.ts';
import { runOffice, type OfficeTally } from './office.ts';
import { Operator } from './operator.ts';
import { makePlan, type FaultKind, type Plan } from './plan.ts';
import { Till } from './till.ts';
import { Watch } from './watch.ts';
import { World, type Violation } from './world.ts';

export interface RunOptions {
  readonly seed: number;
  readonly durationMs: number;
  readonly stores: number;
  readonly servers: number;
  readonly kinds: readonly FaultKind[];
  /** Between two steps of a till, at most. */
  readonly paceMs: number;
  readonly runDir: string;
  readonly say: (line: string) => void;
  /** Breaks possync itself before the first till sells: the checks must then find it. */
  readonly sabotage?: (world: World) => Promise<void>;
}

export interface Result {
  readonly seed: number;
  /** Of faults, as asked for; `seconds` is what all of it took. */
  readonly minutes: number;
  readonly seconds: number;
  readonly stores: number;
  readonly ok: boolean;
  readonly violations: readonly Violation[];
  /** Transactions that tills have committed, and attempts while their own PostgreSQL was away. */
  readonly transactions: number;
  readonly interrupted: number;
  readonly officeChanges: number;
  readonly faults: Readonly<Record<string, number>>;
  readonly leftOut: Readonly<Record<string, string>>;
  readonly lostAnswers: number;
  readonly duplicates: number;
  readonly halts: Readonly<Record<string, number>>;
  readonly restarts: number;
  readonly looks: number;
  readonly end: Tally;
}

const TILLS = 2;

export async function run(options: RunOptions): Promise<Result> {
  const { seed, durationMs, servers, runDir, say } = options;
  const codes = Array.from({ length: options.stores }, (_, n) => `S${n + 1}`);
  const leftOut: Record<string, string> = {};
  const wantsDisk = options.kinds.includes('disk-full');
  const world = await World.open({ runDir, stores: codes, servers, smallDisk: wantsDisk, say });
  if (!canStepClock) leftOut['clock-step'] = 'libfaketime is not installed';
  if (wantsDisk && world.sites.at(-1)?.machine.hasSmallDisk !== true)
    leftOut['disk-full'] = 'no small filesystem may be mounted here';
  const kinds = options.kinds.filter((kind) => leftOut[kind] === undefined);
  for (const [kind, why] of Object.entries(leftOut)) say(`left out: ${kind} (${why})`);
  const plan = makePlan({ seed, durationMs, stores: codes, servers, kinds });
  describePlan(plan, say);
  try {
    return await play(world, plan, options, leftOut);
  } catch (error) {
    await world.abandon();
    throw error;
  }
}

function describePlan(plan: Plan, say: (line: string) => void): void {
  for (const { n, atMs, kind, target, lastsMs, amount } of plan.faults)
    say(
      `  ${String(n).padStart(3)} ${(atMs / 1_000).toFixed(1).padStart(6)} s ${kind.padEnd(14)} ${target.padEnd(3)} ` +
        `for ${(lastsMs / 1_000).toFixed(1)} s (${amount})`,
    );
}

async function play(
  world: World,
  plan: Plan,
  { seed, paceMs, say, sabotage }: RunOptions,
  leftOut: Readonly<Record<string, string>>,
): Promise<Result> {
  const began = performance.now();
  await until(
    async () =>
      (
        await Promise.all(world.sites.map((site) => world.command(site, ['status', '--wait', 'caught-up'])))
      ).every(({ code }) => code === 0),
    { what: 'every store had the catalogue', timeoutMs: 60_000 },
  );
  await sabotage?.(world);
  const selling = new AbortController();
  const watching = new AbortController();
  const random = randomFor('torture', seed);
  const office: OfficeTally = { changes: 0, interrupted: 0 };
  const tills = world.sites.flatMap((site) =>
    Array.from(
      { length: TILLS },
      (_, n) =>
        new Till({
          machine: site.machine,
          store: site,
          registerCode: `${site.code}-${n + 1}`,
          others: n > 0 ? [] : world.sites.filter(({ id }) => id !== site.id).map(({ id }) => id),
          oracle: world.oracle,
          random: random.fork(`till ${site.code} ${n}`),
          paceMs,
          failed: (what) => {
            world.violate('till', what);
          },
        }),
    ),
  );
  const watch = new Watch(world);
  const operator = new Operator(world);
  const injector = new Injector(world, seed);
  const work = [
    ...tills.map((till) => till.run(selling.signal)),
    runOffice(
      world.hq.pool,
      world.sites.map(({ id }) => id),
      random.fork('office'),
      office,
      selling.signal,
    ),
  ];
  const looking = [watch.run(watching.signal), operator.run(watching.signal)];
  say(`broken for ${plan.durationMs / 1_000} s`);
  await Promise.all([injector.run(plan, selling.signal), pause(plan.durationMs)]);
  selling.abort();
  await Promise.all(work);
  say('healed; waiting until everything has arrived');
  const settled = await settle(world);
  if (settled) await retryParked(world);
  watching.abort();
  await Promise.all(looking);
  const end = await check(world);
  const restarts = [...world.servers, ...world.sites.map(({ daemon }) => daemon)].reduce(
    (n, p) => n + p.restarts,
    0,
  );
  await world.close();
  return {
    seed,
    minutes: plan.durationMs / 60_000,
    seconds: Math.round((performance.now() - began) / 1_000),
    stores: world.sites.length,
    ok: world.violations.length === 0,
    violations: world.violations,
    transactions: world.oracle.transactions,
    interrupted: tills.reduce((sum, till) => sum + till.interrupted, 0),
    officeChanges: office.changes,
    faults: injector.counts,
    leftOut,
    lostAnswers: injector.lostAnswers,
    duplicates: injector.duplicates,
    halts: operator.halts,
    restarts,
    looks: watch.looks,
    end,
  };
}
