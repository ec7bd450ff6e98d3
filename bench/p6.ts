/**
 * P6, the first download: a new store gets the whole catalogue, from the start of its daemon to the commit of its last
 * product; beside it COPY of the same rows into a file and out of it, into a table with the same indexes.
 *
 * Then many stores at once. They are simulated and keep nothing, so this is what HQ pays for them, and whether it pays
 * once or for each of them.
 */
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { connect } from '../src/db/pool.ts';
import { queryOne } from '../src/db/transaction.ts';
import { readHead } from '../src/hq/feed/rounds.ts';
import { sealInTurn } from '../src/hq/feed/seal.ts';
import { BenchHq, BenchStore } from './support/chain.ts';
import { openFleet } from './support/fleet/fleet.ts';
import { cpuMs, machineLine, peakRssMb } from './support/machine.ts';
import { medianOf, type Bench, type Measures, type Report } from './support/report.ts';
import { conditions, Server } from './support/servers.ts';

const RUNS = 3;
const PRODUCTS = 500_000;
/** Of each simulated store: one process reads what all of them get. */
const PRODUCTS_FOR_MANY = 50_000;
const TIMEOUT_MS = 900_000;
const CONNECT_PER_SECOND = 250;

export const p6: Bench = {
  title: 'first download of the catalogue by one store and by many at once, beside COPY of the same rows',
  async run({ short, products = short ? 5_000 : PRODUCTS, stores = short ? 5 : 50, say }): Promise<Report> {
    const [store, hq] = [await Server.start('store'), await Server.start('hq')];
    try {
      const servers = { store, hq };
      const copy = { name: 'COPY', runs: [] as Measures[] };
      const one = { name: 'one store', runs: [] as Measures[] };
      const office = await BenchHq.open(hq);
      await fillCatalogue(office, products);
      await office.start();
      for (let run = 1; run <= (short ? 1 : RUNS); run += 1) {
        say(`run ${run}: COPY`);
        copy.runs.push(await copyRun(office, servers, products, run));
        say(`run ${run}: one store`);
        one.runs.push(await storeRun(office, servers, products, run));
      }
      await office.close();
      say(`${stores} stores at once`);
      const forMany = Math.min(products, PRODUCTS_FOR_MANY);
      const many = {
        name: `${stores} stores, ${forMany} products`,
        runs: [await fleetRun(hq, stores, forMany)],
      };
      const rows = (ways: typeof one): number => medianOf(ways, 'hq us/row') + medianOf(ways, 'serve us/row');
      return {
        bench: 'p6',
        title: p6.title,
        conditions: {
          machine: machineLine(),
          work: `${products} products, ${one.runs.length} runs, way after way; us/row of ${stores} stores: a row for each store counts`,
          postgres: await conditions(hq),
        },
        ways: [copy, one, many],
        results: {
          'one store / COPY, seconds': medianOf(one, 's') / medianOf(copy, 's'),
          'HQ CPU a row and store, many / one': rows(many) / rows(one),
        },
      };
    } finally {
      await store.stop();
      await hq.stop();
    }
  },
};

type Servers = Readonly<Record<'store' | 'hq', Server>>;

async function fillCatalogue(hq: BenchHq, products: number): Promise<void> {
  await addProducts(hq.db, products);
  const client = await hq.pool.connect();
  await sealInTurn(client);
  client.release();
  await hq.db.query('vacuum analyze possync.feed');
  await hq.db.query('vacuum analyze public.products');
}

async function addProducts(db: pg.Client, products: number): Promise<void> {
  await db.query(
    `insert into public.products (id, sku, name, price)
     select gen_random_uuid(), 'SKU-' || i, 'product number ' || i, i / 7.0 from generate_series(1, $1::integer) i`,
    [products],
  );
}

async function checkpoint({ store, hq }: Servers): Promise<void> {
  await Promise.all([store.checkpoint(), hq.checkpoint()]);
}

/** Out of HQ's table, into one of the store's with the same columns, key and indexes. */
async function copyRun(hq: BenchHq, servers: Servers, products: number, run: number): Promise<Measures> {
  const url = await servers.store.create(`copy_${run}`);
  const target = await connect({ url, applicationName: 'bench' });
  const columns = await queryOne<{ list: string }>(
    hq.db,
    `select string_agg(quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod), ', ' order by a.attnum) as list
       from pg_attribute a where a.attrelid = 'public.products'::regclass and a.attnum > 0 and not a.attisdropped`,
  );
  await target.query(`create table public.products (${columns.list}, primary key (id), unique (sku))`);
  await checkpoint(servers);
  const file = join(tmpdir(), `possync-bench-copy-${process.pid}-${run}`);
  const cpu = { store: servers.store.cpuMs(), hq: servers.hq.cpuMs() };
  const from = performance.now();
  await hq.db.query(`copy public.products to '${file}'`);
  await target.query(`copy public.products from '${file}'`);
  const seconds = (performance.now() - from) / 1_000;
  const measures = {
    s: seconds,
    'rows/s': products / seconds,
    'store us/row': ((servers.store.cpuMs() - cpu.store) * 1_000) / products,
    'hq us/row': ((servers.hq.cpuMs() - cpu.hq) * 1_000) / products,
  };
  await target.end();
  await rm(file, { force: true });
  return measures;
}

async function storeRun(hq: BenchHq, servers: Servers, products: number, run: number): Promise<Measures> {
  const store = await BenchStore.open(hq, servers.store, `NEW${run}`);
  await checkpoint(servers);
  const serve = hq.process?.pid ?? 0;
  const cpu = { store: servers.store.cpuMs(), hq: servers.hq.cpuMs(), serve: cpuMs(serve) };
  const from = performance.now();
  const daemon = await store.start();
  while ((await countProducts(store.db)) < products) {
    if (performance.now() - from > TIMEOUT_MS) throw new Error('the catalogue did not arrive');
    await sleep(20);
  }
  const seconds = (performance.now() - from) / 1_000;
  const perRow = (ms: number): number => (ms * 1_000) / products;
  const measures = {
    s: seconds,
    'rows/s': products / seconds,
    'store us/row': perRow(servers.store.cpuMs() - cpu.store),
    'hq us/row': perRow(servers.hq.cpuMs() - cpu.hq),
    'daemon us/row': perRow(cpuMs(daemon.pid)),
    'serve us/row': perRow(cpuMs(serve) - cpu.serve),
    'daemon MB': peakRssMb(daemon.pid),
    'serve MB': peakRssMb(serve),
  };
  await store.close();
  return measures;
}

/** They commit in one transaction: there is nothing to see before the last one. */
async function countProducts(db: pg.Client): Promise<number> {
  const { there } = await queryOne<{ there: boolean }>(
    db,
    'select exists (select from public.products) as there',
  );
  return there ? (await queryOne<{ n: number }>(db, 'select count(*) as n from public.products')).n : 0;
}

async function fleetRun(server: Server, stores: number, products: number): Promise<Measures> {
  const hq = await BenchHq.open(server, 'possync_hq_many');
  const fleet = await openFleet(hq, stores);
  try {
    await fleet.process.ask('connect', { perSecond: CONNECT_PER_SECOND });
    await fleet.process.ask('allGreen', { afterMs: 0, timeoutMs: TIMEOUT_MS });
    const before = await readHead(hq.db);
    await addProducts(hq.db, products);
    const serve = hq.process?.pid ?? 0;
    const cpu = { hq: server.cpuMs(), serve: cpuMs(serve) };
    const from = performance.now();
    await fleet.process.ask('allAbove', { pos: before, timeoutMs: TIMEOUT_MS });
    const seconds = (performance.now() - from) / 1_000;
    const perRow = (ms: number): number => (ms * 1_000) / (products * stores);
    return {
      s: seconds,
      'rows/s': (products * stores) / seconds,
      'hq us/row': perRow(server.cpuMs() - cpu.hq),
      'serve us/row': perRow(cpuMs(serve) - cpu.serve),
      'serve MB': peakRssMb(serve),
    };
  } finally {
    await fleet.process.close();
    await hq.close();
  }
}
