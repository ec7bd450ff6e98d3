/**
 * P3, the fan-out: one price changes at HQ, and every store has it.
 *
 *   possync  update ─▶ commit ─▶ sealed ─▶ hint to every store ─▶ each one's pull, checked
 *   raw      frame to every socket ─▶ one GET of the same bytes each, nothing else
 *
 * Both clocks end with the last store's page. That of possync begins before the update is sent, so the wait for the
 * sealer's next round is in it; what comes after the first store has it stands beside, for that is what grows.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { fillHeadOffice } from '../src/demo/catalogue.ts';
import { readHead } from '../src/hq/feed/rounds.ts';
import { BenchHq } from './support/chain.ts';
import { Child } from './support/fleet/child.ts';
import { timestampMs, type Arrivals } from './support/fleet/commands.ts';
import { openFilesLimit, openFleet, type Fleet } from './support/fleet/fleet.ts';
import type { RawCommands } from './support/fleet/raw-process.ts';
import { cpuMs, machineLine } from './support/machine.ts';
import { medianOf, type Bench, type Measures, type Report } from './support/report.ts';
import { conditions, Server } from './support/servers.ts';

const RUNS = 15;
const CONNECT_PER_SECOND = 250;
const PRODUCTS = 200;
/** A product as its page carries it, unpacked: below what HQ would compress. */
const PAGE_BYTES = 700;
const TIMEOUT_MS = 120_000;
/** Between two changes: what the one before has left to do is done. */
const PAUSE_MS = 500;
const TARGET = 3;

export const p3: Bench = {
  title: 'fan-out: one price change at HQ to every store, beside a raw broadcast with one GET each',
  async run({ short, say, stores = short ? 20 : 200 }): Promise<Report> {
    const server = await Server.start('hq');
    const hq = await BenchHq.open(server);
    const children: Child<never>[] = [];
    try {
      await fillHeadOffice(hq.db, PRODUCTS);
      const fleet = await openFleet(hq, stores);
      children.push(fleet.process);
      const raw = await openRaw(stores, children);
      say(`${stores} stores connect`);
      await fleet.process.ask('connect', { perSecond: CONNECT_PER_SECOND });
      await fleet.process.ask('allGreen', { afterMs: 0, timeoutMs: TIMEOUT_MS });
      await fleet.process.ask('allAbove', { pos: (await readHead(hq.db)) - 1, timeoutMs: TIMEOUT_MS });
      const rawWay = { name: 'raw', runs: [] as Measures[] };
      const possyncWay = { name: 'possync', runs: [] as Measures[] };
      for (let run = 0; run <= (short ? 1 : RUNS); run += 1) {
        await sleep(PAUSE_MS);
        const ofRaw = await rawRun(raw, stores);
        await sleep(PAUSE_MS);
        const ofPossync = await possyncRun(fleet, hq, run);
        if (run === 0) continue; // code that is met for the first time is not what is measured
        rawWay.runs.push(ofRaw);
        possyncWay.runs.push(ofPossync);
      }
      const ratio = (measure: string): number => medianOf(possyncWay, measure) / medianOf(rawWay, measure);
      return {
        bench: 'p3',
        title: p3.title,
        conditions: {
          machine: machineLine(),
          work: `${stores} simulated stores in one process, as many raw clients in another, way after way, ${rawWay.runs.length} changes each`,
          files: `ulimit -n ${openFilesLimit()}`,
          postgres: await conditions(server),
        },
        ways: [rawWay, possyncWay],
        results: {
          'possync / raw, to the last store': ratio('last ms'),
          [`the same, share of the target of ${TARGET}`]: ratio('last ms') / TARGET,
          'possync / raw, from the first store to the last': ratio('first to last ms'),
          'HQ, us CPU a store': medianOf(possyncWay, 'serve us/store') + medianOf(possyncWay, 'hq us/store'),
        },
      };
    } finally {
      for (const child of children) await child.close();
      await hq.close();
      await server.stop();
    }
  },
};

interface Raw {
  readonly server: Child<RawCommands>;
  readonly clients: Child<RawCommands>;
}

async function openRaw(stores: number, children: Child<never>[]): Promise<Raw> {
  const server = await Child.start<RawCommands>('raw-process.ts');
  children.push(server);
  const clients = await Child.start<RawCommands>('raw-process.ts');
  children.push(clients);
  const { port } = await server.ask('listen', { bytes: PAGE_BYTES });
  await clients.ask('connect', { port, clients: stores });
  return { server, clients };
}

async function rawRun({ server, clients }: Raw, stores: number): Promise<Measures> {
  const before = { server: cpuMs(server.pid), load: cpuMs(clients.pid) };
  await clients.ask('expect');
  const begun = await server.ask('broadcast');
  const arrivals = await clients.ask('fetched');
  return {
    ...times(arrivals, begun),
    'serve us/store': ((cpuMs(server.pid) - before.server) * 1_000) / stores,
    'load us/store': ((cpuMs(clients.pid) - before.load) * 1_000) / stores,
  };
}

async function possyncRun({ process: load, stores }: Fleet, hq: BenchHq, run: number): Promise<Measures> {
  const pid = hq.process?.pid ?? 0;
  const cpu = (): Record<'serve' | 'hq' | 'load', number> => ({
    serve: cpuMs(pid),
    hq: hq.server.cpuMs(),
    load: cpuMs(load.pid),
  });
  const before = await readHead(hq.db);
  const used = cpu();
  const begun = timestampMs();
  await hq.db.query(`update public.products set price = $1::numeric where sku = 'SKU-00001'`, [10_000 + run]);
  const arrivals = await load.ask('allAbove', { pos: before, timeoutMs: TIMEOUT_MS });
  const after = cpu();
  const perStore = (what: 'serve' | 'hq' | 'load'): number => ((after[what] - used[what]) * 1_000) / stores;
  return {
    ...times(arrivals, begun),
    'serve us/store': perStore('serve'),
    'hq us/store': perStore('hq'),
    'load us/store': perStore('load'),
  };
}

function times({ first, median, last }: Arrivals, begun: number): Measures {
  return {
    'first ms': first - begun,
    'half ms': median - begun,
    'last ms': last - begun,
    'first to last ms': last - first,
  };
}
