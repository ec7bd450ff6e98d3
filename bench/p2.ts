/**
 * P2, small pushes: batches of three sales from many stores at once.
 *
 * The batches are numbered and chained before the clock runs, as a store's outbox holds them; sending, compressing and
 * checking answers is the load process's, which shares the machine with HQ: its share stands beside.
 */
import { queryOne } from '../src/db/transaction.ts';
import { BenchHq } from './support/chain.ts';
import { openFleet, type Fleet } from './support/fleet/fleet.ts';
import { cpuMs, machineLine, peakRssMb } from './support/machine.ts';
import { medianOf, type Bench, type Measures, type Report } from './support/report.ts';
import { conditions, Server } from './support/servers.ts';

const RUNS = 3;
const SALES_PER_BATCH = 3;
/** What HQ lets in at once is 24; some of those who push are still reading their answer. */
const IN_FLIGHT = 24;
const CONNECT_PER_SECOND = 200;
const TARGET = 900;

export const p2: Bench = {
  title: 'small pushes: three sales a batch, many stores at once',
  async run({ short, say, stores = short ? 20 : 200, sales = short ? 600 : 36_000 }): Promise<Report> {
    const server = await Server.start('hq');
    const hq = await BenchHq.open(server);
    let fleet: Fleet | undefined;
    try {
      fleet = await openFleet(hq, stores);
      await fleet.process.ask('connect', { perSecond: CONNECT_PER_SECOND });
      await fleet.process.ask('allGreen', { afterMs: 0, timeoutMs: 120_000 });
      const batchesPerStore = Math.max(1, Math.round(sales / SALES_PER_BATCH / stores));
      const runs: Measures[] = [];
      for (let run = 1; run <= (short ? 1 : RUNS); run += 1) {
        say(`run ${run}`);
        runs.push(await pushRun(fleet, hq, batchesPerStore));
      }
      const way = { name: 'possync', runs };
      return {
        bench: 'p2',
        title: p2.title,
        conditions: {
          machine: machineLine(),
          work: `${batchesPerStore * stores} batches of ${SALES_PER_BATCH} sales (7.5 rows a sale, bodies of version 2) a run, ${stores} stores connected, ${IN_FLIGHT} of them pushing at a time, ${runs.length} runs`,
          postgres: await conditions(server),
          durability: 'HQ waits for its disk with each batch',
        },
        ways: [way],
        results: {
          'batches/s': medianOf(way, 'batches/s'),
          [`batches/s, share of the target of ${TARGET}`]: medianOf(way, 'batches/s') / TARGET,
        },
      };
    } finally {
      await fleet?.process.close();
      await hq.close();
      await server.stop();
    }
  },
};

async function pushRun(fleet: Fleet, hq: BenchHq, batchesPerStore: number): Promise<Measures> {
  await fleet.process.ask('openShifts', { inFlight: IN_FLIGHT });
  await fleet.process.ask('write', { batchesPerStore, salesPerBatch: SALES_PER_BATCH });
  await hq.server.checkpoint();
  const before = await countSales(hq);
  const pid = hq.process?.pid ?? 0;
  const cpu = (): Record<'serve' | 'hq' | 'load', number> => ({
    serve: cpuMs(pid),
    hq: hq.server.cpuMs(),
    load: cpuMs(fleet.process.pid),
  });
  const begun = cpu();
  const { batches, ms, later, p50, p99 } = await fleet.process.ask('push', { inFlight: IN_FLIGHT });
  const ended = cpu();
  const expected = batchesPerStore * fleet.stores * SALES_PER_BATCH;
  const there = (await countSales(hq)) - before;
  if (there !== expected) throw new Error(`${there} of ${expected} sales are at HQ`);
  const perBatch = (used: number): number => (used * 1_000) / batches;
  return {
    'batches/s': (batches / ms) * 1_000,
    'serve us/batch': perBatch(ended.serve - begun.serve),
    'hq us/batch': perBatch(ended.hq - begun.hq),
    'load us/batch': perBatch(ended.load - begun.load),
    'p50 ms': p50,
    'p99 ms': p99,
    later,
    'serve MB': peakRssMb(pid),
  };
}

async function countSales(hq: BenchHq): Promise<number> {
  return (await queryOne<{ n: number }>(hq.db, 'select count(*) as n from public.sales')).n;
}
