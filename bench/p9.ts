/**
 * P9, the reconnect storm: a fleet on one `hq serve`, which is killed or restarted; until every light is green again.
 *
 * The clock of a fall runs from the moment HQ is gone (killed), or is told to go (restarted), to the welcome of the last
 * store: the start of the next process is part of it, as it is for a chain. What a store costs while nothing happens is
 * counted after the lights are green, heartbeats and routine pulls included.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Lights } from './support/fleet/commands.ts';
import { timestampMs } from './support/fleet/commands.ts';
import { BenchHq } from './support/chain.ts';
import { openFilesLimit, openFleet, type Fleet } from './support/fleet/fleet.ts';
import { cpuMs, machineLine, peakRssMb, rssMb } from './support/machine.ts';
import { medianOf, type Bench, type Measures, type Report } from './support/report.ts';
import { conditions, Server } from './support/servers.ts';

const RUNS = 3;
const CONNECT_PER_SECOND = 250;
const GREEN_TIMEOUT_MS = 300_000;
const IDLE_MS = 30_000;
const TARGET_MS = 60_000;

export const p9: Bench = {
  title: 'reconnect storm: every store green again after HQ was killed or restarted',
  async run({ short, say, stores = short ? 10 : 5_000 }): Promise<Report> {
    const server = await Server.start('hq');
    const hq = await BenchHq.open(server);
    let fleet: Fleet | undefined;
    try {
      fleet = await openFleet(hq, stores);
      const emptyMb = rssMb(hq.process?.pid ?? 0);
      say(`${stores} stores connect, ${CONNECT_PER_SECOND} a second`);
      await fleet.process.ask('connect', { perSecond: CONNECT_PER_SECOND });
      await fleet.process.ask('allGreen', { afterMs: 0, timeoutMs: GREEN_TIMEOUT_MS });
      const idle = { name: 'idle', runs: [] as Measures[] };
      const killed = { name: 'killed', runs: [] as Measures[] };
      const restarted = { name: 'restarted', runs: [] as Measures[] };
      for (let run = 1; run <= (short ? 1 : RUNS); run += 1) {
        say(`run ${run}: idle`);
        idle.runs.push(await idleRun(fleet, hq, emptyMb, short ? 1_000 : IDLE_MS));
        for (const [way, fall] of [
          [killed, () => hq.process?.kill()],
          [restarted, () => hq.process?.stop()],
        ] as const) {
          say(`run ${run}: ${way.name}`);
          way.runs.push(await fallRun(fleet, hq, fall));
        }
      }
      return {
        bench: 'p9',
        title: p9.title,
        conditions: {
          machine: machineLine(),
          work: `${stores} simulated stores in one process, ${killed.runs.length} runs`,
          files: `ulimit -n ${openFilesLimit()}; HQ holds a socket and a connection for requests of each store`,
          postgres: await conditions(server),
        },
        ways: [idle, killed, restarted],
        results: {
          'all green after a kill, share of the 60 s': (medianOf(killed, 'all green s') * 1_000) / TARGET_MS,
          'most stores refused more than once': Math.max(
            ...[killed, restarted].flatMap(({ runs }) => runs.map((run) => run['refused twice'] ?? 0)),
          ),
          'HQ, kB a store': medianOf(idle, 'kB a store'),
        },
      };
    } finally {
      await fleet?.process.close();
      await hq.close();
      await server.stop();
    }
  },
};

async function idleRun(fleet: Fleet, hq: BenchHq, emptyMb: number, ms: number): Promise<Measures> {
  const pid = hq.process?.pid ?? 0;
  const cpu = (): Record<'serve' | 'hq' | 'load', number> => ({
    serve: cpuMs(pid),
    hq: hq.server.cpuMs(),
    load: cpuMs(fleet.process.pid),
  });
  const begun = { at: performance.now(), ...cpu() };
  await sleep(ms);
  const ended = { at: performance.now(), ...cpu() };
  const seconds = (ended.at - begun.at) / 1_000;
  const perStore = (used: number): number => (used * 1_000) / seconds / fleet.stores;
  return {
    'serve us/s a store': perStore(ended.serve - begun.serve),
    'hq us/s a store': perStore(ended.hq - begun.hq),
    'load us/s a store': perStore(ended.load - begun.load),
    'kB a store': ((rssMb(pid) - emptyMb) * 1_024) / fleet.stores,
  };
}

async function fallRun(
  fleet: Fleet,
  hq: BenchHq,
  fall: () => Promise<unknown> | undefined,
): Promise<Measures> {
  await fleet.process.ask('mark');
  const begunAt = timestampMs();
  const server = hq.server.cpuMs();
  await fall();
  const goneAt = timestampMs();
  await hq.start();
  const serving = timestampMs();
  const pid = hq.process?.pid ?? 0;
  const { first, median, last } = await fleet.process.ask('allGreen', {
    afterMs: goneAt,
    timeoutMs: GREEN_TIMEOUT_MS,
  });
  const { refusedOnce, refusedMore, ends }: Lights = await fleet.process.ask('lights');
  const cpu = cpuMs(pid);
  return {
    'HQ away s': (serving - begunAt) / 1_000,
    'first green s': (first - begunAt) / 1_000,
    'half green s': (median - begunAt) / 1_000,
    'all green s': (last - begunAt) / 1_000,
    'stopping s': (goneAt - begunAt) / 1_000,
    'refused once': refusedOnce,
    'refused twice': refusedMore,
    // Attempts that a store gave up after five seconds: no refusal, and no better for it.
    'given up': ends['PS-WS-SILENT'] ?? 0,
    'serve us a store': (cpu * 1_000) / fleet.stores,
    'hq us a store': ((hq.server.cpuMs() - server) * 1_000) / fleet.stores,
    'serve MB': peakRssMb(pid),
  };
}
