/**
 * A store that comes back after weeks: its queue and HQ's changes drain between the real programs, whose memory is
 * sampled. Used by P7 at full size and by a test at a small one.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type pg from 'pg';
import { systemClock } from '../../src/core/clock.ts';
import { connect } from '../../src/db/pool.ts';
import { queryOne } from '../../src/db/transaction.ts';
import { startPostgres } from '../../src/demo/postgres.ts';

const POSSYNC = resolve(import.meta.dirname, '../../bin/possync.js');
/** A header, two lines with a tax each, a payment: what a till writes for a small basket. */
export const ROWS_PER_SALE = 6;
/** Nobody sells for weeks in one session, and HQ's ledger judges by the session. */
const SALES_PER_SHIFT = 250;
const SAMPLE_MS = 500;
const MB = 1_048_576;

export interface OfflineOptions {
  /** Rows that wait in the store; ROWS_PER_SALE a transaction. */
  readonly rows: number;
  readonly products: number;
  readonly durable: boolean;
  readonly say?: (line: string) => void;
  /** Runs while both programs are idle and everything has arrived. */
  readonly afterwards?: (place: OfflinePlace) => Promise<void>;
}

export interface OfflinePlace {
  readonly hq: pg.Client;
  readonly hqPid: number;
  /** Ends the daemon: what is left is a dead store. */
  readonly stopDaemon: () => Promise<void>;
}

export interface OfflineResult {
  readonly sales: number;
  readonly drainMs: number;
  readonly catalogueMs: number;
  /** In MB, one value for each sample until everything has arrived. */
  readonly hqRss: readonly number[];
  readonly storeRss: readonly number[];
  /** One for each sample: how many sales HQ had. */
  readonly arrivals: readonly { readonly atMs: number; readonly taken: number }[];
  readonly salesAtHq: number;
  readonly seqAtHq: number;
  readonly dead: number;
  /** Sales that HQ took in another order than the store committed them. */
  readonly outOfOrder: number;
  readonly priceEqual: number;
}

export async function runOffline(options: OfflineOptions): Promise<OfflineResult> {
  const { rows, products, durable, say = () => undefined } = options;
  const server = await startPostgres({ durable, prefer: 'npm' });
  const folder = await mkdtemp(join(tmpdir(), 'possync-offline-'));
  const children: ChildProcess[] = [];
  const clients: pg.Client[] = [];
  const open = async (database: string): Promise<pg.Client> => {
    const client = await connect({ url: server.url(database), applicationName: 'offline' });
    clients.push(client);
    return client;
  };
  const environment = (side: string): NodeJS.ProcessEnv => ({
    PATH: process.env.PATH,
    DATABASE_URL: server.url(side),
    POSSYNC_STATE_DIR: join(folder, side),
    LOG_DIR: join(folder, `${side}-log`),
    SYNC_LISTEN_PORT: '0',
  });
  const start = async (
    side: string,
    args: readonly string[],
    ready: RegExp,
  ): Promise<{ child: ChildProcess; line: string }> => {
    const child = spawn(process.execPath, [POSSYNC, ...args], {
      env: environment(side),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    children.push(child);
    return { child, line: await lineOf(child, ready) };
  };
  const run = async (side: string, args: readonly string[]): Promise<string> => {
    const child = spawn(process.execPath, [POSSYNC, ...args], {
      env: environment(side),
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let out = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
    const [code] = (await once(child, 'close')) as [number];
    if (code !== 0) throw new Error(`possync ${args.join(' ')} ended with ${code}`);
    return out.trim();
  };
  try {
    const admin = await open('postgres');
    await admin.query('create database hq');
    await admin.query('create database store');
    await run('hq', ['hq', 'init']);
    await run('hq', ['stores', 'add', 'OFF-1', '--name', 'Offline', '--time-zone', 'UTC']);
    const hq = await open('hq');
    const store = await open('store');
    const serving = await start('hq', ['hq', 'serve', '--json'], /"(url|port)"/);
    const url = /https?:\/\/[^"\s]+/.exec(serving.line)?.[0] ?? '';
    const token = join(folder, 'token');
    await run('hq', ['token', 'issue', 'OFF-1', '--hq-url', url, '--out', token]);
    await run('store', ['store', 'init', '--token-file', token]);

    const sales = Math.ceil(rows / ROWS_PER_SALE);
    await timed(say, `the store sells ${sales} times, ${sales * ROWS_PER_SALE} rows`, () =>
      sellWhileOffline(store, sales),
    );
    await timed(say, `HQ makes ${products} products and changes them all, twice`, () =>
      changeCatalogue(hq, products),
    );

    const daemon = await start('store', ['store', 'daemon'], /./);
    const pids = { hq: serving.child.pid ?? 0, store: daemon.child.pid ?? 0 };
    const samples = { hq: [] as number[], store: [] as number[] };
    const arrivals: { atMs: number; taken: number }[] = [];
    const startedAt = performance.now();
    let drainMs = 0;
    let catalogueMs = 0;
    for (let tick = 0; drainMs === 0 || catalogueMs === 0; tick += 1) {
      samples.hq.push(await rssOf(pids.hq));
      samples.store.push(await rssOf(pids.store));
      const at = performance.now() - startedAt;
      const taken = await readTaken(hq);
      arrivals.push({ atMs: at, taken });
      if (drainMs === 0 && taken >= sales) drainMs = at;
      if (catalogueMs === 0 && (await readPrices(store)) === products) catalogueMs = at;
      if (tick % 20 === 0)
        say(
          `  ${(at / 1_000).toFixed(0).padStart(5)} s   ${taken} sales at HQ   hq serve ${samples.hq.at(-1)} MB   daemon ${samples.store.at(-1)} MB`,
        );
      if (daemon.child.exitCode !== null || serving.child.exitCode !== null)
        throw new Error('a program has ended');
      await systemClock.sleep(SAMPLE_MS);
    }
    const result = await judge(hq, store, {
      sales,
      drainMs,
      catalogueMs,
      hqRss: samples.hq,
      storeRss: samples.store,
      arrivals,
    });
    await options.afterwards?.({
      hq,
      hqPid: pids.hq,
      stopDaemon: async () => {
        const ended = once(daemon.child, 'close');
        daemon.child.kill('SIGTERM');
        await ended;
      },
    });
    return result;
  } finally {
    for (const child of children) child.kill('SIGKILL');
    for (const client of clients) await client.end().catch(() => undefined);
    await server.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

async function lineOf(child: ChildProcess, pattern: RegExp): Promise<string> {
  return await new Promise((found, failed) => {
    let text = '';
    const look = (chunk: Buffer): void => {
      text += chunk.toString();
      const line = text
        .split('\n')
        .slice(0, -1)
        .find((candidate) => pattern.test(candidate));
      if (line !== undefined) found(line);
    };
    child.stdout?.on('data', look);
    child.stderr?.on('data', look);
    child.once('close', () => {
      failed(new Error(`it ended at once:\n${text}`));
    });
  });
}

async function timed(say: (line: string) => void, what: string, work: () => Promise<unknown>): Promise<void> {
  const before = performance.now();
  await work();
  say(`${what}: ${((performance.now() - before) / 1_000).toFixed(1)} s`);
}

/** Every sale a transaction of its own, as at a till; not waiting for the disk, which only the time of this would show. */
async function sellWhileOffline(store: pg.Client, sales: number): Promise<void> {
  await store.query(`set synchronous_commit to off`);
  await store.query(`
    insert into public.registers (id, store_id, code, name) select gen_random_uuid(), s.store_id, 'R1', 'R1' from possync.state s;
    insert into public.register_sessions (id, store_id, register_id, user_id, status, opened_at)
    select gen_random_uuid(), r.store_id, r.id, gen_random_uuid(), 'open', now() from public.registers r`);
  await store.query(`do $$
declare v_id uuid; s record;
begin
  select x.id, x.store_id, x.register_id, x.user_id into s from public.register_sessions x;
  for n in 1..${sales} loop
    if n % ${SALES_PER_SHIFT} = 0 then
      update public.register_sessions x set status = 'closed', closed_at = now() where x.id = s.id;
      insert into public.register_sessions (id, store_id, register_id, user_id, status, opened_at)
      values (gen_random_uuid(), s.store_id, s.register_id, s.user_id, 'open', now())
      returning id into s.id;
    end if;
    v_id := gen_random_uuid();
    insert into public.sales (id, store_id, register_id, session_id, cashier_id, kind, status, receipt_number, subtotal,
                              tax_total, total, occurred_at, business_date)
    values (v_id, s.store_id, s.register_id, s.id, s.user_id, 'sale', 'completed', n::text, 2000, 160, 2160,
            now(), current_date - ((${sales} - n) * 30 / ${sales})::integer);
    insert into public.sale_lines (sale_id, line_no, product_id, sku, name, quantity, unit_price, tax, total)
    values (v_id, 1, gen_random_uuid(), 'SKU-1', 'Item one', 1000, 1000, 80, 1000),
           (v_id, 2, gen_random_uuid(), 'SKU-2', 'Item two', 1000, 1000, 80, 1000);
    insert into public.sale_line_taxes (sale_id, line_no, tax_rate_id, rate_bp, taxable, amount)
    values (v_id, 1, '0190a000-0000-7000-8000-000000000001', 800, 1000, 80),
           (v_id, 2, '0190a000-0000-7000-8000-000000000001', 800, 1000, 80);
    insert into public.sale_payments (sale_id, payment_no, tender, amount) values (v_id, 1, 'cash', 2160);
    commit;
  end loop;
end $$`);
}

async function changeCatalogue(hq: pg.Client, products: number): Promise<void> {
  await hq.query(
    `insert into public.products (id, sku, name, price)
     select gen_random_uuid(), 'SKU-' || i, 'product number ' || i, 100 from generate_series(1, $1::integer) i`,
    [products],
  );
  for (const price of [200, 300]) await hq.query('update public.products set price = $1::numeric', [price]);
}

/** Entries but for the register and its session. */
async function readTaken(hq: pg.Client): Promise<number> {
  const { rows } = await hq.query<{ seq: number }>('select b.seq from possync.inbox b');
  return Math.max(0, (rows[0]?.seq ?? 0) - 1);
}

async function readPrices(store: pg.Client): Promise<number> {
  return (await queryOne<{ n: number }>(store, 'select count(*) as n from public.products where price = 300'))
    .n;
}

async function rssOf(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/status`, 'utf8');
  return Math.round((Number(/VmRSS:\s+(\d+)/.exec(text)?.[1] ?? 0) * 1_024) / MB);
}

async function judge(
  hq: pg.Client,
  store: pg.Client,
  measured: Pick<OfflineResult, 'sales' | 'drainMs' | 'catalogueMs' | 'hqRss' | 'storeRss' | 'arrivals'>,
): Promise<OfflineResult> {
  const counts = await queryOne<Pick<OfflineResult, 'salesAtHq' | 'seqAtHq' | 'dead' | 'outOfOrder'>>(
    hq,
    `select (select count(*) from public.sales) as "salesAtHq", (select b.seq from possync.inbox b) as "seqAtHq",
            (select count(*) from possync.dead) as dead,
            (select count(*) from (
               select s.receipt_number::bigint as n,
                      lag(s.receipt_number::bigint) over (order by s.received_at, s.receipt_number::bigint) as before
                 from public.sales s) x where x.before > x.n) as "outOfOrder"`,
  );
  const { n } = await queryOne<{ n: number }>(
    store,
    'select count(*) as n from public.products p where p.price = 300',
  );
  return { ...measured, ...counts, priceEqual: n };
}
