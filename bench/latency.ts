/**
 * Latency of one change, both ways, on an idle chain of one store over loopback with durable PostgreSQL:
 * a price (HQ commit → store commit) and a Z report (store commit → HQ commit).
 *
 *   npx tsx bench/latency.ts [runs]
 *
 * The far side is asked every millisecond, so a figure may be up to 1 ms too high.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { uuidv7 } from '../src/core/ids.ts';
import { silentLog } from '../src/core/log.ts';
import { connect } from '../src/db/pool.ts';
import { queryOne, type Queryable } from '../src/db/transaction.ts';
import { closeSession, openSession } from '../src/demo/cash-office.ts';
import { addUser, fillHeadOffice } from '../src/demo/catalogue.ts';
import { Chain } from '../src/demo/chain.ts';
import { startPostgres } from '../src/demo/postgres.ts';

const runs = Number(process.argv[2] ?? 100);
const postgres = await startPostgres({ durable: true, prefer: 'local', maxConnections: 60 });
const chain = await Chain.start({
  databaseUrl: (database) => postgres.url(database),
  prefix: 'latency',
  stores: [{ code: 'ONE', name: 'One', timeZone: 'UTC' }],
  log: silentLog,
  pushIntervalMs: 60_000,
});
const [store] = chain.stores;
if (store === undefined) throw new Error('no store');
const till = await connect({ url: store.databaseUrl, applicationName: 'bench till' });
try {
  await fillHeadOffice(chain.hq, 1_000);
  await addUser(chain.hq, 'cashier', 'Cashier', store.id);
  await chain.settle(30_000);
  const registerId = uuidv7();
  await till.query(
    `insert into public.registers (id, store_id, code, name) values ($1::uuid, $2::int, 'R1', 'Register 1')`,
    [registerId, store.id],
  );
  const prices: number[] = [];
  const reports: number[] = [];
  for (let run = 1; run <= runs; run++) {
    prices.push(await priceChange(chain.hq, till, run));
    reports.push(await zReport(till, chain.hq, store.id, registerId));
  }
  console.log(
    JSON.stringify({
      postgres: postgres.version,
      runs,
      price_change_ms: summary(prices),
      z_report_ms: summary(reports),
    }),
  );
} finally {
  await till.end();
  await chain.stop();
  await postgres.stop();
}

async function priceChange(hq: Queryable, inStore: Queryable, price: number): Promise<number> {
  await hq.query(`update public.products set price = $1::numeric where sku = 'SKU-00001'`, [100_000 + price]);
  return elapsedUntil(
    inStore,
    `select from public.products where sku = 'SKU-00001' and price = $1::numeric`,
    [100_000 + price],
  );
}

async function zReport(db: Queryable, hq: Queryable, storeId: number, registerId: string): Promise<number> {
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
  for (;;) {
    const { rowCount } = await db.query(query, values);
    if (rowCount === 1) return performance.now() - started;
    await sleep(1);
  }
}

function summary(values: readonly number[]): Record<'p50' | 'p99' | 'max', number> {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (part: number): number =>
    Number((sorted[Math.floor((sorted.length - 1) * part)] ?? 0).toFixed(1));
  return { p50: at(0.5), p99: at(0.99), max: at(1) };
}
