/** The program as somebody outside checks it: real processes, plain SQL, exit codes and documents; one HQ, two stores. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type pg from 'pg';
import { addRegister, openSession, sell } from '../support/pos.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';
import { runPossync, startPossync, type Ended, type TestProcess } from '../support/process.ts';
import { until } from '../support/until.ts';

interface Status {
  readonly source: string;
  readonly connection: { readonly indicator: string; readonly reason: { readonly code: string } | null };
  readonly upstream: { readonly queued: number; readonly by_type: Record<string, number> };
  readonly daemon: { readonly running: boolean };
}

interface HqStatus {
  readonly stores: readonly (Pick<Status, 'connection'> & { readonly code: string })[];
}

interface Shop {
  readonly id: number;
  readonly code: string;
  readonly database: TestDatabase;
  readonly till: pg.Client;
  readonly env: Record<string, string>;
  daemon: TestProcess;
}

describe('a chain as an outside check sees it', function () {
  this.timeout(180_000);
  let dir: string;
  let hqDb: TestDatabase;
  let hq: pg.Client;
  let hqEnv: Record<string, string>;
  let server: TestProcess;
  let hqUrl: string;
  let north: Shop;
  let south: Shop;

  const atHq = (...args: string[]): Promise<Ended> => runPossync(args, { cwd: dir, env: hqEnv });
  const inStore = ({ env }: Shop, ...args: string[]): Promise<Ended> => runPossync(args, { cwd: dir, env });
  const exits = (code: number, ended: Ended): Ended => {
    assert.equal(ended.code, code, `${ended.stdout}\n${ended.stderr}`);
    return ended;
  };
  const serve = async (port: string): Promise<void> => {
    server = await startPossync(['hq', 'serve'], { cwd: dir, env: { ...hqEnv, SYNC_LISTEN_PORT: port } });
    hqUrl = (JSON.parse(await server.line(/"event":"ready"/, 30_000)) as { url: string }).url;
  };
  const startDaemon = async (env: Record<string, string>): Promise<TestProcess> => {
    const daemon = await startPossync(['store', 'daemon'], { cwd: dir, env });
    await daemon.line(/"event":"ready"/, 30_000);
    return daemon;
  };
  const openShop = async (id: number, code: string): Promise<Shop> => {
    const database = await createDatabase(`outside ${code}`);
    const env = {
      DATABASE_URL: database.url,
      POSSYNC_STATE_DIR: join(dir, code),
      LOG_DIR: join(dir, code, 'logs'),
      POSSYNC_STATUS_LISTEN: 'off',
      SYNC_PUSH_INTERVAL: '1s',
    };
    const token = exits(0, await atHq('token', 'issue', code, '--hq-url', hqUrl)).stdout;
    exits(0, await runPossync(['store', 'init', '--token-file', '-'], { cwd: dir, env, input: token }));
    return { id, code, database, env, till: await database.connect(), daemon: await startDaemon(env) };
  };

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'possync-outside-'));
    hqDb = await createDatabase('outside hq');
    hq = await hqDb.connect();
    hqEnv = { DATABASE_URL: hqDb.url, LOG_DIR: join(dir, 'hq') };
    exits(0, await atHq('hq', 'init'));
    await serve('0');
    exits(0, await atHq('stores', 'add', 'N-1', '--name', 'North', '--time-zone', 'UTC'));
    await hq.query(`insert into public.stores (id, code, name, time_zone) values (2, 'S-2', 'South', 'UTC')`);
    north = await openShop(1, 'N-1');
    south = await openShop(2, 'S-2');
    exits(0, await atHq('status', '--wait', 'green', '--timeout', '30'));
  });
  after(async () => {
    for (const shop of [north, south]) {
      await shop.daemon.kill();
      await shop.database.drop();
    }
    await server.kill();
    await hqDb.drop();
    await rm(dir, { recursive: true, force: true });
  });

  it('gives exit 64 to a command on the wrong side', async () => {
    for (const args of [
      ['hq', 'init'],
      ['hq', 'serve'],
      ['stores', 'ls'],
    ])
      exits(64, await inStore(north, ...args));
    for (const args of [
      ['store', 'init'],
      ['store', 'daemon'],
      ['store', 're-enrol'],
    ])
      exits(64, await atHq(...args));
  });

  it('lets one daemon serve a database', async () => {
    exits(75, await runPossync(['store', 'daemon'], { cwd: dir, env: north.env }));
  });

  it('is caught up at once where the last change concerns another store', async () => {
    const product = randomUUID();
    await hq.query(`insert into public.products (id, sku, name, price) values ($1, 'A', ' Äpple ', 1.5)`, [
      product,
    ]);
    exits(0, await atHq('status', '--wait', 'caught-up', '--timeout', '30'));
    await hq.query(`insert into public.store_prices (store_id, product_id, price) values (1, $1, 2)`, [
      product,
    ]);
    // No hint goes to the other store; its own poll comes after 15 seconds at the earliest.
    exits(0, await atHq('status', '--wait', 'caught-up', '--timeout', '10'));
    const prices = async ({ till }: Shop): Promise<unknown[]> =>
      (await till.query<Record<string, unknown>>('select price from public.store_prices')).rows;
    assert.deepEqual([await prices(north), await prices(south)], [[{ price: '2.0000' }], []]);
  });

  it('shuts a user out of a store with the last assignment there', async () => {
    const [user, role, assignment] = [randomUUID(), randomUUID(), randomUUID()];
    await hq.query(`insert into public.roles (id, name) values ($1, 'cashier')`, [role]);
    await hq.query(
      `insert into public.users (id, username, display_name, pin_hash) values ($1, 'ann', 'Ann', 'hash')`,
      [user],
    );
    await hq.query(
      `insert into public.user_store_roles (id, user_id, role_id, store_id) values ($1, $2, $3, 1)`,
      [assignment, user, role],
    );
    exits(0, await atHq('status', '--wait', 'caught-up', '--timeout', '30'));
    const seen = async ({ till }: Shop): Promise<unknown[]> =>
      (await till.query<Record<string, unknown>>('select active, pin_hash from public.users')).rows;
    assert.deepEqual([await seen(north), await seen(south)], [[{ active: true, pin_hash: 'hash' }], []]);
    await hq.query('delete from public.user_store_roles where id = $1', [assignment]);
    await until(async () => JSON.stringify(await seen(north)) === '[{"active":false,"pin_hash":""}]', {
      what: 'the user is shut out',
    });
  });

  it('gives a user with a PIN to the stores in which there is a role for them, and to no other', async () => {
    const role = randomUUID();
    await hq.query(`insert into public.roles (id, name) values ($1, 'keeper')`, [role]);
    const users = { nowhere: randomUUID(), south: randomUUID(), everywhere: randomUUID(), off: randomUUID() };
    for (const [name, id] of Object.entries(users))
      await hq.query(
        `insert into public.users (id, username, display_name, pin_hash) values ($1, $2, $2, 'pin of ' || $2)`,
        [id, name],
      );
    for (const [user, storeId, active] of [
      [users.south, 2, true],
      [users.everywhere, null, true],
      [users.off, 1, false],
    ] as const)
      await hq.query(
        `insert into public.user_store_roles (id, user_id, role_id, store_id, active) values ($1, $2, $3, $4, $5)`,
        [randomUUID(), user, role, storeId, active],
      );
    exits(0, await atHq('status', '--wait', 'caught-up', '--timeout', '30'));
    const pins = async ({ till }: Shop): Promise<string[]> =>
      (
        await till.query<{ pin: string }>(
          `select u.pin_hash as pin from public.users u where u.pin_hash like 'pin of%' order by 1`,
        )
      ).rows.map(({ pin }) => pin);
    await until(async () => (await pins(south)).length === 2 && (await pins(north)).length === 1, {
      what: 'the users are where they work',
      timeoutMs: 30_000,
    });
    assert.deepEqual(await pins(north), ['pin of everywhere']);
    assert.deepEqual(await pins(south), ['pin of everywhere', 'pin of south']);
    // Nor do they wait in what the store has downloaded and not applied, or applies to nobody.
    const staged = await north.till.query<{ found: number }>(
      `select count(*)::integer as found from possync.staging s where s::text like '%pin of %'`,
    );
    assert.equal(staged.rows[0]?.found, 0);
  });

  it('parks a sale that HQ refuses, lets the rest flow, and applies it once the reason is gone', async () => {
    const session = await openSession(south.till, await addRegister(south.till, 2), 2);
    await hq.query(`alter table public.sales add constraint odd check (receipt_number <> 'ODD')`);
    await sell(south.till, session, { storeId: 2, receipt: 'ODD' });
    await sell(south.till, session, { storeId: 2, receipt: 'EVEN' });
    exits(0, await inStore(south, 'status', '--wait', 'drained', '--timeout', '30'));
    const { rows } = await hq.query('select receipt_number from public.sales');
    assert.deepEqual(rows, [{ receipt_number: 'EVEN' }]);
    exits(1, await atHq('queue', 'retry', 'S-2', '--all'));
    await hq.query('alter table public.sales drop constraint odd');
    exits(0, await atHq('queue', 'retry', 'S-2', '--all'));
    assert.equal((await hq.query('select from public.sales')).rowCount, 2);
  });

  it('says what waits in a store whose daemon is down, and that the chain is not drained', async () => {
    exits(0, await north.daemon.stop());
    const session = await openSession(north.till, await addRegister(north.till, 1), 1);
    await sell(north.till, session, { storeId: 1 });
    const status = JSON.parse(exits(1, await inStore(north, 'status', '--json')).stdout) as Status;
    assert.deepEqual(
      [status.source, status.daemon.running, status.connection.reason?.code, status.upstream.queued],
      ['database', false, 'PS-DAEMON-DOWN', 3],
    );
    assert.deepEqual(status.upstream.by_type, { register: 1, session: 1, sale: 1 });
    exits(1, await atHq('status', '--wait', 'drained', '--timeout', '1'));
    exits(0, await atHq('status', 'S-2', '--wait', 'drained', '--timeout', '20'));
    north.daemon = await startDaemon(north.env);
    exits(0, await atHq('status', '--wait', 'drained', '--timeout', '40'));
    assert.equal((await hq.query('select from public.sales where store_id = 1')).rowCount, 1);
  });

  it('names a server of HQ that was killed, and loses nothing by it', async () => {
    await server.kill();
    await until(
      async () => {
        const { stores } = JSON.parse((await atHq('status', '--json')).stdout) as HqStatus;
        return stores.every(({ connection }) => connection.reason?.code === 'PS-HQ-SERVE-DOWN');
      },
      { what: 'HQ says that its server is gone', timeoutMs: 30_000, everyMs: 500 },
    );
    const session = await openSession(north.till, await addRegister(north.till, 1), 1);
    await sell(north.till, session, { storeId: 1 });
    await serve(new URL(hqUrl).port);
    exits(0, await atHq('status', '--wait', 'drained', '--timeout', '60'));
    assert.equal((await hq.query('select from public.sales where store_id = 1')).rowCount, 2);
  });

  it('says in words that a server of HQ was stopped', async () => {
    exits(0, await server.stop());
    const { stdout } = exits(1, await atHq('status'));
    assert.match(stdout, /HQ stopped or restarted/);
    assert.doesNotMatch(stdout, /retry_ms/);
    await serve(new URL(hqUrl).port);
    exits(0, await atHq('status', '--wait', 'green', '--timeout', '40'));
  });
});
