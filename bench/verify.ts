/**
 * Figures of `possync verify`: duration, bytes and memory at catalogue size and for a year of sales, equal and not.
 * `npx tsx bench/verify.ts [products] [sales]`; HQ's routes and the store's comparison in this one process, over HTTP.
 */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import { Hono } from 'hono';
import { systemClock } from '../src/core/clock.ts';
import { SOFTWARE } from '../src/core/version.ts';
import { installTriggers } from '../src/db/capture.ts';
import { migrate, type Role } from '../src/db/migrations.ts';
import { connect, createPool } from '../src/db/pool.ts';
import { startPostgres } from '../src/demo/postgres.ts';
import { sealOnce } from '../src/hq/feed/seal.ts';
import type { App } from '../src/hq/http-answers.ts';
import { readJson } from '../src/hq/http-body.ts';
import { addVerifyRoutes, verifyRoom } from '../src/hq/verify/routes.ts';
import { HQ_HEADER } from '../src/protocol/http.ts';
import { ENTITIES } from '../src/protocol/entities.ts';
import { newSecret } from '../src/core/secret.ts';
import { HqClient } from '../src/store/link/hq-client.ts';
import { setStoreIdentity } from '../src/store/outbox/identity.ts';
import { VerifyHq } from '../src/store/verify/hq.ts';
import { Verifier } from '../src/store/verify/verifier.ts';

const [products = 100_000, sales = 1_000_000] = process.argv.slice(2).map(Number);
const STORE = 7;
const server = await startPostgres({ durable: true, prefer: 'npm' });
const admin = await connect({ url: server.url('postgres'), applicationName: 'bench' });

async function database(role: Role): Promise<string> {
  await admin.query(`create database bench_${role}`);
  const url = server.url(`bench_${role}`);
  await migrate(role, url, (db) => installTriggers(db, role));
  return url;
}

/** Both sides get the same rows without any trigger: what is measured is the comparison, not the way there. */
const CATALOGUE = `insert into public.products (id, sku, name, price)
  select ('0190a000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'SKU-' || n, 'A product with the number ' || n, n
    from generate_series(1, $1::int) n`;
const SALES = `insert into public.sales (id, store_id, register_id, session_id, cashier_id, kind, status, receipt_number,
         subtotal, tax_total, total, occurred_at, business_date)
  select ('0190a000-0000-7000-9000-' || lpad(to_hex(n), 12, '0'))::uuid, ${STORE}, '0190a000-0000-7000-8000-000000000001',
         '0190a000-0000-7000-8000-000000000002', '0190a000-0000-7000-8000-000000000003', 'sale', 'completed', 'R1-' || n,
         1000, 80, 1080, timestamptz '2026-01-01' + n * interval '30 seconds', date '2026-01-01' + n / 2880
    from generate_series(1, $1::int) n`;

try {
  const [hqUrl, storeUrl] = [await database('hq'), await database('store')];
  const hq = createPool({ url: hqUrl, applicationName: 'bench hq' });
  const store = createPool({ url: storeUrl, applicationName: 'bench store' });
  await setStoreIdentity(store, { id: STORE, code: 'B-7', epoch: 1 });
  for (const pool of [hq, store]) {
    const client = await pool.connect();
    await client.query('set session_replication_role = replica');
    await client.query(CATALOGUE, [products]);
    await client.query(SALES, [sales]);
    await client.query('set session_replication_role = default');
    await client.query('vacuum (analyze) public.products; ').catch(() => undefined);
    await client.query('analyze public.products; analyze public.sales');
    client.release();
  }
  await sealOnce(hq);
  const round = await hq.query<{ head: number; nonce: string }>(
    'select r.head, r.nonce from possync.rounds r',
  );
  await store.query('update possync.cursor c set pos = $1::bigint, paged = $1::bigint, nonce = $2::uuid', [
    round.rows[0]?.head,
    round.rows[0]?.nonce,
  ]);

  const app: App = new Hono();
  app.use('*', async (c, next) => {
    c.header(HQ_HEADER, 'bench');
    await next();
  });
  const caller = { storeId: STORE, code: 'B-7', name: 'Bench', kid: 'BENCH', createdAt: '', expiresAt: null };
  addVerifyRoutes(
    app,
    verifyRoom(hq, ENTITIES),
    () => Promise.resolve({ ...caller, state: 'active' as const }),
    (c, limits) => readJson(c.env.incoming, limits),
  );
  const listener = http.createServer((request, response) => {
    void getRequestListener(app.fetch)(request, response);
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo;
  const client = new HqClient({
    url: `http://127.0.0.1:${port}`,
    credential: newSecret('BENCH'),
    hqId: 'bench',
    software: SOFTWARE,
  });

  const compare = async (what: string): Promise<void> => {
    const signal = new AbortController().signal;
    const verifyHq = new VerifyHq(
      (step, body, aborted) => client.verify(step, body, aborted),
      systemClock,
      signal,
    );
    const verifier = new Verifier({
      pool: store,
      store: { id: STORE, code: 'B-7', epoch: 1 },
      entities: ENTITIES,
      hq: verifyHq,
      clock: systemClock,
      signal,
    });
    const report = await verifier.run({ id: randomUUID(), repair: false, actor: 'bench' });
    const count = report.tables.reduce((n, t) => n + (t.differing ?? 0), 0);
    const peak = Math.round(process.resourceUsage().maxRSS / 1024);
    console.log(
      `${what.padEnd(44)} ${(report.duration_ms / 1000).toFixed(1).padStart(7)} s ${String(report.bytes).padStart(9)} bytes  ` +
        `${report.state}, ${count} differ, peak ${peak} MB`,
    );
  };

  console.log(`${products} products, ${sales} sales; HQ and store in one process`);
  await compare('everything equal');
  const tamper = await store.connect();
  await tamper.query('set session_replication_role = replica');
  await tamper.query(
    `update public.products set price = 0 where sku = any (select 'SKU-' || n * $1::int from generate_series(1, 10) n)`,
    [Math.floor(products / 11)],
  );
  await compare('10 products differ');
  await tamper.query(
    `update public.sales set total = 0 where receipt_number = any (select 'R1-' || n * $1::int from generate_series(1, 10) n)`,
    [Math.floor(sales / 11)],
  );
  await compare('10 products and 10 sales differ');
  tamper.release();
  client.close();
  listener.close();
  await hq.end();
  await store.end();
} finally {
  await admin.end();
  await server.stop();
}
