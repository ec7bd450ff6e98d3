/**
 * P7, weeks offline: a long queue and a changed catalogue drain at once, between the real programs. Whether memory stays
 * flat and the last tenth is as fast as the first, and that all of it arrived once and in order; then what a store
 * that is idle, and fifty that are dead, cost HQ in half a minute.
 */
import type pg from 'pg';
import { systemClock } from '../src/core/clock.ts';
import { queryOne } from '../src/db/transaction.ts';
import { runPossync } from '../test/support/process.ts';
import { cpuMs, machineLine } from './support/machine.ts';
import { ROWS_PER_SALE, runOffline, type OfflinePlace, type OfflineResult } from './support/offline.ts';
import type { Bench, Measures, Report } from './support/report.ts';

const SALES = 1_000_000;
const PRODUCTS = 100_000;
const DEAD_STORES = 50;
const WINDOW_MS = 30_000;

export const p7: Bench = {
  title: 'drain of weeks offline: memory, order, and the speed of the end against that of the beginning',
  async run({
    short,
    sales = short ? 5_000 : SALES,
    products = short ? 2_000 : PRODUCTS,
    say,
  }): Promise<Report> {
    await runPossync(['--version']); // builds the program that runOffline starts
    const idle: Measures[] = [];
    const result = await runOffline({
      rows: sales * ROWS_PER_SALE,
      products,
      durable: true,
      say,
      afterwards: async (place) => {
        idle.push(await costOfOthers(place, short ? 1_000 : WINDOW_MS));
      },
    });
    if (
      result.salesAtHq !== result.sales ||
      result.dead > 0 ||
      result.outOfOrder > 0 ||
      result.priceEqual !== products
    )
      throw new Error(
        `${result.salesAtHq} of ${result.sales} sales at HQ, ${result.dead} dead, ${result.outOfOrder} out of order, ${result.priceEqual} of ${products} products as at HQ`,
      );
    return {
      bench: 'p7',
      title: p7.title,
      conditions: {
        machine: machineLine(),
        work: `${sales} sales of ${ROWS_PER_SALE} rows, sealed when the daemon starts, and ${products} products changed twice; one PostgreSQL for both`,
      },
      ways: [
        { name: 'drain', runs: [drainMeasures(result)] },
        { name: 'afterwards, in half a minute', runs: idle },
      ],
      results: {
        'last tenth / first tenth, sales/s': rateOf(result, 0.9, 1) / rateOf(result, 0, 0.1),
        'HQ memory, second half / first half': halves(result.hqRss),
        'daemon memory, second half / first half': halves(result.storeRss),
      },
    };
  },
};

function drainMeasures({ sales, drainMs, catalogueMs, hqRss, storeRss }: OfflineResult): Measures {
  return {
    'sales/s': (sales / drainMs) * 1_000,
    'drain s': drainMs / 1_000,
    'catalogue s': catalogueMs / 1_000,
    'serve MB': Math.max(...hqRss),
    'daemon MB': Math.max(...storeRss),
  };
}

/** Sales a second between these parts of the way; the samples next to them stand for them. */
function rateOf({ arrivals, sales }: OfflineResult, from: number, to: number): number {
  const at = (part: number): { atMs: number; taken: number } =>
    arrivals.find(({ taken }) => taken >= Math.max(1, part * sales)) ?? { atMs: NaN, taken: NaN };
  const [begin, end] = [at(from), at(to)];
  // In a short form everything may lie between two samples.
  return end.atMs > begin.atMs ? ((end.taken - begin.taken) / (end.atMs - begin.atMs)) * 1_000 : 0;
}

function halves(samples: readonly number[]): number {
  const middle = Math.ceil(samples.length / 2);
  return Math.max(...samples.slice(middle - 1)) / Math.max(...samples.slice(0, middle));
}

async function costOfOthers({ hq, hqPid, stopDaemon }: OfflinePlace, windowMs: number): Promise<Measures> {
  const cost = async (name: string): Promise<Measures> => {
    const read = async (): Promise<{ transactions: number; cpu: number }> => ({
      transactions: await transactionsOf(hq),
      cpu: cpuMs(hqPid),
    });
    const before = await read();
    await systemClock.sleep(windowMs);
    const after = await read();
    return {
      [`${name}: transactions`]: after.transactions - before.transactions,
      [`${name}: ms CPU`]: after.cpu - before.cpu,
    };
  };
  const idle = await cost('one idle store');
  await stopDaemon();
  const none = await cost('no store');
  await hq.query(
    `insert into public.stores (id, code, name, time_zone)
     select 1000 + n, 'DEAD-' || n, 'Dead', 'UTC' from generate_series(1, $1::integer) n`,
    [DEAD_STORES],
  );
  await hq.query(
    `insert into possync.inbox (store_id, hello_at) select 1000 + n, now() - interval '30 days' from generate_series(1, $1::integer) n`,
    [DEAD_STORES],
  );
  return { ...idle, ...none, ...(await cost(`${DEAD_STORES} dead stores`)) };
}

async function transactionsOf(hq: pg.Client): Promise<number> {
  const { n } = await queryOne<{ n: number }>(
    hq,
    `select xact_commit + xact_rollback as n from pg_stat_database where datname = current_database()`,
  );
  return n;
}
