/**
 * How the work grows: the same store with ten times as many rows each time, from a thousand. Drain, pull, sealing, `queue ls`,
 * memory and disk; `bench/growth-plot.ts` draws what `--json` has written.
 *
 * Each size has databases of its own. The drain and the pull are timed from the start of the daemon, which is most of the
 * time for a thousand rows. A catalogue ends at a million.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { queryOne } from '../src/db/transaction.ts';
import { sealInTurn } from '../src/hq/feed/seal.ts';
import { sealOutbox } from '../src/store/outbox/seal.ts';
import { BenchHq, BenchStore } from './support/chain.ts';
import { machineLine, peakRssMb } from './support/machine.ts';
import { median, type Bench, type Measures, type Report } from './support/report.ts';
import { installSales, ROWS_PER_SALE, writeSales } from './support/sales.ts';
import { conditions, Server } from './support/servers.ts';

const SMALLEST = 1_000;
const LARGEST = 10_000_000;
const MOST_PRODUCTS = 1_000_000;
const LISTINGS = 5;
const TIMEOUT_MS = 3_600_000;

export const growth: Bench = {
  title: 'how drain, pull, sealing, queue ls, memory and disk grow with the rows',
  async run({ short, sales, say }): Promise<Report> {
    const most = short ? SMALLEST * 10 : sales === undefined ? LARGEST : sales * ROWS_PER_SALE;
    const [store, hq] = [await Server.start('store'), await Server.start('hq')];
    try {
      const ways: { name: string; runs: Measures[] }[] = [];
      for (let rows = SMALLEST; rows <= most; rows *= 10) {
        say(`${rows} rows`);
        ways.push({ name: String(rows), runs: [await atSize({ store, hq }, rows)] });
      }
      const [before, last] = ways.slice(-2).map(({ runs }) => runs[0] ?? {});
      return {
        bench: 'growth',
        title: growth.title,
        conditions: {
          machine: machineLine(),
          work: `rows of sales of ${ROWS_PER_SALE} rows, one transaction a sale; products up to ${MOST_PRODUCTS}; one run each`,
          postgres: await conditions(hq),
        },
        ways,
        results: Object.fromEntries(
          Object.keys(last ?? {})
            .filter((measure) => measure in (before ?? {}))
            .map((measure) => [
              `10 × the rows: ${measure} ×`,
              (last?.[measure] ?? NaN) / (before?.[measure] ?? NaN),
            ]),
        ),
      };
    } finally {
      await store.stop();
      await hq.stop();
    }
  },
};

async function atSize(servers: Readonly<Record<'store' | 'hq', Server>>, rows: number): Promise<Measures> {
  const hq = await BenchHq.open(servers.hq, `hq_${rows}`);
  await hq.start();
  const store = await BenchStore.open(hq, servers.store, `N${rows}`);
  try {
    const up = await drain(hq, store, servers, Math.round(rows / ROWS_PER_SALE));
    const down = rows > MOST_PRODUCTS ? {} : await pull(hq, store, rows);
    return { ...up, ...down };
  } finally {
    await store.close();
    await hq.close();
    await servers.store.admin.query(`drop database possync_n${rows}`);
    await servers.hq.admin.query(`drop database hq_${rows}`);
  }
}

async function drain(
  hq: BenchHq,
  store: BenchStore,
  servers: Readonly<Record<'store' | 'hq', Server>>,
  sales: number,
): Promise<Measures> {
  await installSales(store.db);
  await writeSales(store.db, store, sales);
  const seal = await seconds(() => sealOutbox(store.pool));
  await store.db.query('vacuum analyze possync.raw');
  await store.db.query('vacuum analyze possync.outbox');
  const { bytes } = await queryOne<{ bytes: number }>(
    store.db,
    `select pg_total_relation_size('possync.outbox')::float8 as bytes`,
  );
  const listings: number[] = [];
  for (let n = 0; n < LISTINGS; n += 1) listings.push(await seconds(() => store.command(['queue', 'ls'])));
  await Promise.all([servers.store.checkpoint(), servers.hq.checkpoint()]);
  const empty = await databaseBytes(hq.db);
  const daemon = await store.start();
  const took = await seconds(() =>
    until(async () => (await salesAt(hq.db, sales)) && acknowledged(store.db)),
  );
  const memory = { 'daemon MB': peakRssMb(daemon.pid), 'serve MB': peakRssMb(hq.process?.pid ?? 0) };
  await store.stop();
  return {
    'seal s': seal,
    'drain s': took,
    'queue ls ms': median(listings) * 1_000,
    ...memory,
    'outbox MB': bytes / 1e6,
    'HQ MB': ((await databaseBytes(hq.db)) - empty) / 1e6,
  };
}

async function pull(hq: BenchHq, store: BenchStore, products: number): Promise<Measures> {
  await hq.db.query(
    `insert into public.products (id, sku, name, price)
     select gen_random_uuid(), 'SKU-' || i, 'product number ' || i, i / 7.0 from generate_series(1, $1::integer) i`,
    [products],
  );
  const client = await hq.pool.connect();
  const seal = await seconds(() => sealInTurn(client));
  client.release();
  await store.start();
  const took = await seconds(() =>
    until(
      async () =>
        (await queryOne<{ n: number }>(store.db, 'select count(*) as n from public.products')).n === products,
    ),
  );
  await store.stop();
  return { 'products: seal s': seal, 'products: pull s': took };
}

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const from = performance.now();
  await work();
  return (performance.now() - from) / 1_000;
}

async function until(what: () => Promise<boolean>): Promise<void> {
  const giveUpAt = performance.now() + TIMEOUT_MS;
  while (!(await what())) {
    if (performance.now() > giveUpAt) throw new Error('it did not arrive');
    await sleep(50);
  }
}

/** The inbox knows how far it is: counting ten million rows again and again would be the load. */
async function salesAt(hq: pg.Client, sales: number): Promise<boolean> {
  const { rows } = await hq.query<{ seq: number }>('select b.seq from possync.inbox b');
  return (rows[0]?.seq ?? 0) >= sales;
}

async function acknowledged(store: pg.Client): Promise<boolean> {
  const { done } = await queryOne<{ done: boolean }>(
    store,
    'select s.seq = d.seq and s.epoch = d.epoch as done from possync.state s cross join possync.sending d',
  );
  return done;
}

async function databaseBytes(db: pg.Client): Promise<number> {
  return (
    await queryOne<{ bytes: number }>(db, 'select pg_database_size(current_database())::float8 as bytes')
  ).bytes;
}
