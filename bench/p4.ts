/**
 * P4, latency on an idle chain: a price (HQ commit → store commit) and a Z report (store commit → HQ commit), beside a
 * sale by native logical replication.
 *
 * The far side is asked every millisecond, so a figure may be up to 1 ms too high. Between two changes lies a pause of
 * random length: a change made at once after the last one's arrival would always meet the same moment of every timer.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { uuidv7 } from '../src/core/ids.ts';
import { queryOne, type Queryable } from '../src/db/transaction.ts';
import { closeSession, openSession } from '../src/demo/cash-office.ts';
import { addUser, fillHeadOffice } from '../src/demo/catalogue.ts';
import { BenchHq, BenchStore } from './support/chain.ts';
import { machineLine } from './support/machine.ts';
import { Native } from './support/native.ts';
import { medianOf, percentile, type Bench, type Measures, type Report } from './support/report.ts';
import { writeSales } from './support/sales.ts';
import { conditions, Server } from './support/servers.ts';

const RUNS = 3;
const TIMEOUT_MS = 60_000;
const LONGEST_PAUSE_MS = 300;

export const p4: Bench = {
  title: 'latency of one change on an idle chain, beside native logical replication',
  async run({ short, say }): Promise<Report> {
    const changes = short ? 5 : 100;
    const storeServer = await Server.start('store');
    const hqServer = await Server.start('hq');
    try {
      const native = await Native.open(storeServer, hqServer);
      await native.connect();
      const hq = await BenchHq.open(hqServer);
      await hq.start();
      const store = await BenchStore.open(hq, storeServer, 'ONE');
      await fillHeadOffice(hq.pool, 1_000);
      await addUser(hq.pool, 'cashier', 'Cashier', store.storeId);
      await store.start();
      await elapsedUntil(store.db, `select from public.users where username = 'cashier'`, []);
      const ways = ['native', 'price', 'Z report'].map((name) => ({ name, runs: [] as Measures[] }));
      for (let run = 1; run <= (short ? 1 : RUNS); run += 1) {
        say(`run ${run}`);
        const times: number[][] = [[], [], []];
        for (let n = 1; n <= changes; n += 1) {
          times[0]?.push(await nativeSale(native));
          times[1]?.push(await priceChange(hq.db, store.db, run * 10_000 + n));
          times[2]?.push(await zReport(store, hq.db));
          await sleep(Math.random() * LONGEST_PAUSE_MS);
        }
        for (const [n, way] of ways.entries())
          way.runs.push({
            'p50 ms': percentile(times[n] ?? [], 0.5),
            'p99 ms': percentile(times[n] ?? [], 0.99),
          });
      }
      await native.close();
      await store.close();
      await hq.close();
      const [, price] = ways;
      return {
        bench: 'p4',
        title: p4.title,
        conditions: {
          machine: machineLine(),
          work: `${changes} changes of each kind a run, one at a time, ${ways[0]?.runs.length ?? 0} runs`,
          postgres: await conditions(hqServer),
        },
        ways,
        results: { 'ms, a price, median': price === undefined ? NaN : medianOf(price, 'p50 ms') },
      };
    } finally {
      await storeServer.stop();
      await hqServer.stop();
    }
  },
};

async function nativeSale(native: Native): Promise<number> {
  const { lastId } = await writeSales(native.publisher, native.till, 1);
  return elapsedUntil(native.subscriber, 'select from public.sales where store_id = 1 and id = $1::uuid', [
    lastId,
  ]);
}

async function priceChange(hq: Queryable, inStore: Queryable, price: number): Promise<number> {
  await hq.query(`update public.products set price = $1::numeric where sku = 'SKU-00001'`, [100_000 + price]);
  return elapsedUntil(
    inStore,
    `select from public.products where sku = 'SKU-00001' and price = $1::numeric`,
    [100_000 + price],
  );
}

async function zReport({ db, storeId, registerId }: BenchStore, hq: Queryable): Promise<number> {
  const sessionId = uuidv7();
  const now = new Date().toISOString();
  const { id: userId } = await queryOne<{ id: string }>(
    db,
    `select id from public.users where username = 'cashier'`,
  );
  await openSession(db, { id: sessionId, storeId, registerId, userId, openedAt: now, openingAmount: 0 });
  await closeSession(db, { sessionId, closedAt: now, businessDate: now.slice(0, 10), overShort: 0 });
  return elapsedUntil(hq, 'select from public.z_reports where session_id = $1::uuid', [sessionId]);
}

async function elapsedUntil(db: Queryable, query: string, values: unknown[]): Promise<number> {
  const started = performance.now();
  while (performance.now() - started < TIMEOUT_MS) {
    const { rowCount } = await db.query(query, values);
    if (rowCount === 1) return performance.now() - started;
    await sleep(1);
  }
  throw new Error(`not there after ${TIMEOUT_MS} ms: ${query}`);
}
