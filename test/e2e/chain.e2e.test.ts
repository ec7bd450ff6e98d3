/** One chain with the built program: every command a person types on the way from an empty database to a sale at HQ. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type pg from 'pg';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';
import { runPossync, startPossync, type Ended, type TestProcess } from '../support/process.ts';
import { until } from '../support/until.ts';

interface StatusDocument {
  readonly schema: string;
  readonly exit_code: number;
  readonly connection: { readonly indicator: string; readonly reason: { readonly code: string } | null };
  readonly upstream: { readonly queued: number };
  readonly source: string;
}

describe('a chain from nothing, with the built program', function () {
  this.timeout(180_000);
  let dir: string;
  let hqDb: TestDatabase;
  let storeDb: TestDatabase;
  let hq: pg.Client;
  let till: pg.Client;
  let server: TestProcess;
  let daemon: TestProcess;
  let hqUrl: string;
  const register = randomUUID();
  const session = randomUUID();

  const atHq = (...args: string[]): Promise<Ended> =>
    runPossync(args, { cwd: dir, env: { DATABASE_URL: hqDb.url, LOG_DIR: join(dir, 'hq-logs') } });
  const storeEnv = (): Record<string, string> => ({
    DATABASE_URL: storeDb.url,
    POSSYNC_STATE_DIR: join(dir, 'state'),
    LOG_DIR: join(dir, 'store-logs'),
    POSSYNC_STATUS_LISTEN: 'off',
    SYNC_PUSH_INTERVAL: '1s',
  });
  const inStore = (...args: string[]): Promise<Ended> => runPossync(args, { cwd: dir, env: storeEnv() });
  const ok = (ended: Ended): Ended => {
    assert.equal(ended.code, 0, `${ended.stdout}\n${ended.stderr}`);
    return ended;
  };
  const sell = async (receipt: string, total: number): Promise<string> => {
    const sale = randomUUID();
    await till.query('begin');
    await till.query(
      `insert into public.sales (id, store_id, register_id, session_id, cashier_id, kind, status, receipt_number,
                                 total, tax_total, occurred_at, business_date)
       values ($1, 1, $2, $3, $2, 'sale', 'completed', $4, $5, 8, now(), (now() at time zone 'America/New_York')::date)`,
      [sale, register, session, receipt, total],
    );
    await till.query(
      `insert into public.sale_lines (sale_id, line_no, sku, name, quantity, unit_price, total)
       values ($1, 1, 'APPLE', 'Apple', 1000, $2::bigint, $2::bigint)`,
      [sale, total],
    );
    await till.query(
      `insert into public.sale_payments (sale_id, payment_no, tender, amount) values ($1, 1, 'cash', $2)`,
      [sale, total],
    );
    await till.query('commit');
    return sale;
  };

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'possync-chain-'));
    hqDb = await createDatabase('chain hq');
    storeDb = await createDatabase('chain store');
    hq = await hqDb.connect();
    till = await storeDb.connect();
  });
  after(async () => {
    await hqDb.drop();
    await storeDb.drop();
    await rm(dir, { recursive: true, force: true });
  });

  it('refuses to serve from a database without schema, with exit 78 and the command to run', async () => {
    const ended = await atHq('hq', 'serve');
    assert.equal(ended.code, 78, ended.stderr);
    assert.match(ended.stderr, /possync hq init/);
  });

  it('sets HQ up, twice', async () => {
    ok(await atHq('hq', 'init'));
    const again = JSON.parse(ok(await atHq('hq', 'init', '--json')).stdout) as { migrations: string[] };
    assert.deepEqual(again.migrations, []);
    ok(await atHq('hq', 'serve', '--check'));
  });

  it('serves, and says where in one JSON line', async () => {
    server = await startPossync(['hq', 'serve', '--port', '0'], {
      cwd: dir,
      env: { DATABASE_URL: hqDb.url, LOG_DIR: join(dir, 'hq-logs') },
    });
    const line = JSON.parse(await server.line(/"event":"ready"/)) as { url: string };
    hqUrl = line.url;
  });

  it('creates a store and issues its token into a file of mode 0600', async () => {
    const added = ok(
      await atHq(
        'stores',
        'add',
        'NYC-001',
        '--name',
        'Elm Street',
        '--time-zone',
        'America/New_York',
        '--json',
      ),
    );
    const { stores } = JSON.parse(added.stdout) as { stores: { id: number; status: string }[] };
    assert.deepEqual(
      stores.map(({ id, status }) => ({ id, status })),
      [{ id: 1, status: 'pending_provisioning' }],
    );
    const out = join(dir, 'nyc.token');
    const issued = ok(await atHq('token', 'issue', 'NYC-001', '--hq-url', hqUrl, '--out', out, '--json'));
    assert.ok(!issued.stdout.includes('pse_'));
    assert.equal((await stat(out)).mode & 0o777, 0o600);
    assert.match(await readFile(out, 'utf8'), /^pse_\S+\n$/);
  });

  it('enrols the store, and again without changing anything', async () => {
    const first = JSON.parse(
      ok(await inStore('store', 'init', '--token-file', 'nyc.token', '--json')).stdout,
    ) as { enrolment: string; kid: string };
    assert.equal(first.enrolment, 'enrolled');
    assert.equal((await stat(join(dir, 'state', 'credential'))).mode & 0o777, 0o600);
    const again = JSON.parse(
      ok(await inStore('store', 'init', '--token-file', 'nyc.token', '--json')).stdout,
    ) as { enrolment: string; kid: string };
    assert.deepEqual([again.enrolment, again.kid], ['unchanged', first.kid]);
  });

  it('is red, with exit 1 and the reason, before the daemon runs', async () => {
    const ended = await inStore('status', '--json');
    assert.equal(ended.code, 1);
    const status = JSON.parse(ended.stdout) as StatusDocument;
    assert.equal(status.connection.indicator, 'red');
    assert.equal(status.connection.reason?.code, 'PS-DAEMON-DOWN');
    assert.equal(status.source, 'database');
  });

  it('turns green once the daemon runs, on both sides', async () => {
    daemon = await startPossync(['store', 'daemon'], { cwd: dir, env: storeEnv() });
    await daemon.line(/"event":"ready"/);
    const store: unknown = JSON.parse(
      ok(await inStore('status', '--wait', 'green', '--timeout', '20', '--json')).stdout,
    );
    assert.equal((store as StatusDocument).source, 'daemon');
    ok(await atHq('status', '--wait', 'green', '--timeout', '20'));
    const text = ok(await inStore('status')).stdout;
    assert.match(text, /CONNECTED {3}store NYC-001 "Elm Street"/);
    assert.ok(!text.includes('\u001b'));
  });

  it('refuses a second server on the port, a second daemon on the database, and plain HTTP for everybody', async () => {
    const taken = await atHq('hq', 'serve', '--port', new URL(hqUrl).port, '--json');
    const { error } = JSON.parse(taken.stdout) as { error: { code: string } };
    assert.deepEqual([taken.code, error.code], [78, 'PS-LISTEN']);
    assert.equal((await inStore('store', 'daemon')).code, 75);
    const open = await atHq('hq', 'serve', '--port', '0', '--host', '0.0.0.0');
    assert.equal(open.code, 78);
    assert.match(open.stderr, /PS-CFG-PLAINTEXT/);
  });

  it('brings a sale made with plain SQL to HQ', async () => {
    await till.query(
      `insert into public.registers (id, store_id, code, name) values ($1, 1, 'R1', 'Register 1')`,
      [register],
    );
    await till.query(
      `insert into public.register_sessions (id, store_id, register_id, user_id, status, opened_at)
       values ($1, 1, $2, $2, 'open', now())`,
      [session, register],
    );
    const sale = await sell('A-1', 100);
    ok(await inStore('status', '--wait', 'drained', '--timeout', '20'));
    const { rows } = await hq.query(
      `select s.total, l.sku, p.tender from public.sales s
         join public.sale_lines l on l.sale_id = s.id join public.sale_payments p on p.sale_id = s.id
        where s.store_id = 1 and s.id = $1`,
      [sale],
    );
    assert.deepEqual(rows, [{ total: 100, sku: 'APPLE', tender: 'cash' }]);
    ok(await atHq('status', '--wait', 'drained', '--timeout', '20'));
    const { stores } = JSON.parse(ok(await atHq('status', 'NYC-001', '--json')).stdout) as {
      stores: {
        today: { sales: number; revenue: number; tax: number };
        types: Record<string, { records: number }>;
      }[];
    };
    assert.ok(stores[0]);
    const { sales, revenue, tax } = stores[0].today;
    assert.deepEqual({ sales, revenue, tax }, { sales: 1, revenue: 100, tax: 8 });
    assert.equal(stores[0].types.sale?.records, 1);
    assert.equal(stores[0].types.session?.records, 1);
  });

  it('brings a price of HQ to the store, and `caught-up` says when it is there', async () => {
    for (const [price, ask] of [
      ['1.5000', inStore],
      ['2.5000', atHq],
      ['3.5000', inStore],
    ] as const) {
      await hq.query(
        `insert into public.products (id, sku, name, price) values ('00000000-0000-7000-8000-000000000001', 'APPLE', 'Apple', $1)
         on conflict (id) do update set price = excluded.price`,
        [price],
      );
      ok(await ask('status', '--wait', 'caught-up', '--timeout', '20'));
      const { rows } = await till.query(`select price from public.products where sku = 'APPLE'`);
      assert.deepEqual(rows, [{ price }]);
    }
  });

  it('shows the queue while HQ is away, and drains it when HQ is back', async () => {
    const port = new URL(hqUrl).port;
    assert.equal((await server.stop()).code, 0);
    await sell('A-2', 200);
    await sell('A-3', 300);
    const queue = JSON.parse(ok(await inStore('queue', 'ls', '--json')).stdout) as {
      counts: { queued: number; waiting: number; sending: number };
      entries: { type: string }[];
    };
    assert.equal(queue.counts.queued, 2);
    assert.equal(queue.counts.waiting + queue.counts.sending, 2);
    assert.deepEqual(
      queue.entries.map((entry) => entry.type),
      ['sale', 'sale'],
    );
    await until(async () => (await inStore('status', '--short')).code === 1, { what: 'the store is red' });
    const late = await inStore('status', '--wait', 'green', '--timeout', '1');
    assert.equal(late.code, 1);
    server = await startPossync(['hq', 'serve', '--port', port], {
      cwd: dir,
      env: { DATABASE_URL: hqDb.url, LOG_DIR: join(dir, 'hq-logs') },
    });
    await server.line(/"event":"ready"/);
    ok(await atHq('status', '--wait', 'drained', '--timeout', '40'));
    const { rows } = await hq.query<{ n: number }>('select count(*) as n from public.sales');
    assert.equal(rows[0]?.n, 3);
    assert.match(ok(await inStore('queue', 'ls')).stdout, /^Nothing queued\. Last sent /);
  });

  it('cuts a deactivated store off, and lets it in again', async () => {
    ok(await atHq('stores', 'deactivate', 'NYC-001'));
    const cut = await until(
      async () => {
        const { stdout } = await inStore('status', '--json');
        const status = JSON.parse(stdout) as StatusDocument;
        return status.connection.reason?.code === 'PS-STORE-DISABLED' ? status : undefined;
      },
      { what: 'the store knows that it is deactivated', timeoutMs: 20_000 },
    );
    assert.equal(cut.connection.indicator, 'red');
    const listed = JSON.parse(ok(await atHq('stores', 'ls', '--json')).stdout) as {
      stores: { status: string }[];
    };
    assert.equal(listed.stores[0]?.status, 'deactivated');
    ok(await atHq('stores', 'activate', 'NYC-001'));
  });

  it('stops cleanly on SIGTERM, and leaves no secret in any log', async () => {
    assert.equal((await daemon.stop()).code, 0);
    assert.equal((await server.stop()).code, 0);
    for (const file of ['hq-logs/hq-server.log', 'store-logs/store-server.log'])
      assert.doesNotMatch(await readFile(join(dir, file), 'utf8'), /ps[te]_[A-Za-z0-9_-]{20,}/);
  });
});
