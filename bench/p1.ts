/**
 * P1, the drain: sales written while HQ is away, then sent, applied and acknowledged; beside native logical replication.
 *
 * The clock runs from the moment the first sale of the backlog is seen at HQ to the last one, of possync to its
 * acknowledgement in the store: neither the start of a process nor a wait before the next try is measured, of neither
 * side. Numbering goes on while HQ is away, so the backlog is sealed when HQ returns; what sealing costs stands beside.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { queryOne, type Queryable } from '../src/db/transaction.ts';
import { sealOutbox } from '../src/store/outbox/seal.ts';
import { BenchHq, BenchStore } from './support/chain.ts';
import { cpuMs, machineLine, peakRssMb } from './support/machine.ts';
import { Native } from './support/native.ts';
import { medianOf, type Bench, type Measures, type Report } from './support/report.ts';
import { installSales, ROWS_PER_SALE, writeSales, type Backlog } from './support/sales.ts';
import { conditions, Server } from './support/servers.ts';

const RUNS = 3;
const TIMEOUT_MS = 900_000;

export const p1: Bench = {
  title: 'backlog drain, store → HQ, beside native logical replication',
  async run({ short, sales = short ? 5_000 : 200_000, say }): Promise<Report> {
    const store = await Server.start('store');
    const hq = await Server.start('hq');
    try {
      const native = await Native.open(store, hq);
      const chain = await openChain(store, hq);
      const nativeWay = { name: 'native', runs: [] as Measures[] };
      const possyncWay = { name: 'possync', runs: [] as Measures[] };
      for (let run = 1; run <= (short ? 1 : RUNS); run += 1) {
        say(`run ${run}: native`);
        nativeWay.runs.push(await nativeRun(native, { store, hq }, sales));
        say(`run ${run}: possync`);
        possyncWay.runs.push(await possyncRun(chain, { store, hq }, sales));
      }
      const rate = medianOf(possyncWay, 'sales/s');
      const sealSeconds = (sales * medianOf(possyncWay, 'seal us/sale')) / 1e6;
      await native.close();
      await chain.store.close();
      await chain.hq.close();
      return {
        bench: 'p1',
        title: p1.title,
        conditions: {
          machine: machineLine(),
          work: `${sales} sales a run, ${ROWS_PER_SALE} rows a sale, one transaction a sale, way after way, ${nativeWay.runs.length} runs`,
          postgres: await conditions(hq),
          durability:
            'both servers fsync; HQ syncs each batch of possync; the subscriber commits asynchronously (its default)',
        },
        ways: [nativeWay, possyncWay],
        results: {
          'sales/s, possync / native': rate / medianOf(nativeWay, 'sales/s'),
          'the same with sealing in the time':
            sales / (sales / rate + sealSeconds) / medianOf(nativeWay, 'sales/s'),
        },
      };
    } finally {
      await store.stop();
      await hq.stop();
    }
  },
};

interface Servers {
  readonly store: Server;
  readonly hq: Server;
}

interface BenchChain {
  readonly hq: BenchHq;
  readonly store: BenchStore;
}

async function openChain(storeServer: Server, hqServer: Server): Promise<BenchChain> {
  const hq = await BenchHq.open(hqServer);
  await hq.start();
  const store = await BenchStore.open(hq, storeServer, 'ONE');
  await installSales(store.db);
  return { hq, store };
}

async function nativeRun(native: Native, { store, hq }: Servers, sales: number): Promise<Measures> {
  const backlog = await writeSales(native.publisher, native.till, sales);
  await Promise.all([store.checkpoint(), hq.checkpoint()]);
  const cpu = (): Record<'store' | 'hq', number> => ({ store: store.cpuMs(), hq: hq.cpuMs() });
  await native.connect();
  const { ms, left, before, after } = await arrival(native.subscriber, backlog, sales, cpu);
  const rows = left * ROWS_PER_SALE;
  const measures = {
    'sales/s': (left / ms) * 1_000,
    'store us/row': ((after.store - before.store) * 1_000) / rows,
    'hq us/row': ((after.hq - before.hq) * 1_000) / rows,
  };
  await native.disconnect();
  return { ...measures, 'all us/row': measures['store us/row'] + measures['hq us/row'] };
}

async function possyncRun({ hq, store }: BenchChain, servers: Servers, sales: number): Promise<Measures> {
  const backlog = await writeSales(store.db, store, sales);
  const sealing = { cpu: servers.store.cpuMs(), at: performance.now() };
  await sealOutbox(store.pool);
  const sealUs = ((performance.now() - sealing.at) * 1_000) / sales;
  const sealCpuUs = ((servers.store.cpuMs() - sealing.cpu) * 1_000) / sales;
  // As autovacuum would have it by the time HQ returns.
  await store.db.query('vacuum analyze possync.raw');
  await store.db.query('analyze possync.outbox');
  await Promise.all([servers.store.checkpoint(), servers.hq.checkpoint()]);
  const hqPid = hq.process?.pid ?? 0;
  const daemon = await store.start();
  const cpu = (): Record<'store' | 'hq' | 'serve' | 'daemon', number> => ({
    store: servers.store.cpuMs(),
    hq: servers.hq.cpuMs(),
    serve: cpuMs(hqPid),
    daemon: cpuMs(daemon.pid),
  });
  const { ms, left, before, after } = await arrival(hq.db, backlog, sales, cpu, () => acknowledged(store.db));
  const rows = left * ROWS_PER_SALE;
  const perRow = (used: number): number => (used * 1_000) / rows;
  const measures = {
    'sales/s': (left / ms) * 1_000,
    'store us/row': perRow(after.store - before.store),
    'daemon us/row': perRow(after.daemon - before.daemon),
    'serve us/row': perRow(after.serve - before.serve),
    'hq us/row': perRow(after.hq - before.hq),
  };
  const all = Object.entries(measures).reduce(
    (sum, [name, value]) => sum + (name === 'sales/s' ? 0 : value),
    0,
  );
  const memory = { 'daemon MB': peakRssMb(daemon.pid), 'serve MB': peakRssMb(hqPid) };
  await store.stop();
  return { ...measures, 'all us/row': all, ...memory, 'seal us/sale': sealUs, 'seal cpu us/sale': sealCpuUs };
}

async function acknowledged(db: Queryable): Promise<boolean> {
  const { done } = await queryOne<{ done: boolean }>(
    db,
    `select s.seq = d.seq and s.epoch = d.epoch as done from possync.state s cross join possync.sending d`,
  );
  return done;
}

/** ms from the first sale that is seen to the last, and until `settled` holds; what `cpu` gave at both moments. */
async function arrival<T>(
  hq: Queryable,
  { firstId, lastId }: Backlog,
  sales: number,
  cpu: () => T,
  settled: () => Promise<boolean> = () => Promise.resolve(true),
): Promise<{ ms: number; left: number; before: T; after: T }> {
  const giveUpAt = performance.now() + TIMEOUT_MS;
  const seen = async (id: string): Promise<boolean> => {
    const { there } = await queryOne<{ there: boolean }>(
      hq,
      `select exists (select from public.sales where store_id = 1 and id = $1::uuid) as there`,
      [id],
    );
    return there;
  };
  const until = async (what: () => Promise<boolean>): Promise<number> => {
    while (!(await what())) {
      if (performance.now() > giveUpAt) throw new Error('the backlog did not arrive');
      await sleep(5);
    }
    return performance.now();
  };
  const there = await countSales(hq);
  const first = await until(() => seen(firstId));
  const before = cpu();
  // What came with the first one is no part of the time, so it is no part of the work.
  const left = sales - ((await countSales(hq)) - there);
  await until(() => seen(lastId));
  const last = await until(settled);
  return { ms: last - first, left, before, after: cpu() };
}

async function countSales(hq: Queryable): Promise<number> {
  return (await queryOne<{ n: number }>(hq, 'select count(*) as n from public.sales')).n;
}
