/** Two `hq serve` behind HAProxy, with the settings of docs/haproxy.cfg: they share the stores, and one is enough. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { compareStore, countDifferences } from '../../src/db/compare.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { addRegister, openSession, sell } from '../support/pos.ts';
import { startPossync, startProgram, type TestProcess } from '../support/process.ts';
import { skip } from '../support/skip.ts';
import { until } from '../support/until.ts';

const LONG_MS = 120_000;
const STORES = 6;

async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

describe('two processes of HQ behind a load balancer', function () {
  this.timeout(4 * LONG_MS);
  let dir: string;
  let hq: TestHq;
  let stores: TestStore[] = [];
  let servers: TestProcess[] = [];
  let balancer: TestProcess | undefined;

  before(async function () {
    try {
      await promisify(execFile)('haproxy', ['-v']);
    } catch {
      skip(this, 'there is no haproxy on this machine');
    }
    dir = await mkdtemp(join(tmpdir(), 'possync-balancer-'));
    hq = await TestHq.open('balancer');
    await hq.stop(); // the two processes alone are HQ
    servers = await Promise.all(
      ['a', 'b'].map((name) =>
        startPossync(['hq', 'serve', '--port', '0', '--metrics-listen', 'off'], {
          cwd: dir,
          env: { DATABASE_URL: hq.database.url, LOG_DIR: join(dir, name) },
        }),
      ),
    );
    const ports = await Promise.all(
      servers.map(async (server) => {
        const { url } = JSON.parse(await server.line(/"event":"ready"/, LONG_MS)) as { url: string };
        return new URL(url).port;
      }),
    );
    const port = await freePort();
    const settings = (await readFile(resolve(import.meta.dirname, '../../docs/haproxy.cfg'), 'utf8'))
      .replace('maxconn 20000', 'maxconn 200') // as many open files as a test may have
      .replace('bind :3001', `bind 127.0.0.1:${port}`)
      .replace('10.0.0.11:3001', `127.0.0.1:${ports[0]}`)
      .replace('10.0.0.12:3001', `127.0.0.1:${ports[1]}`);
    await writeFile(join(dir, 'haproxy.cfg'), settings);
    balancer = await startProgram('haproxy', ['-f', join(dir, 'haproxy.cfg'), '-db'], { cwd: dir });
    const hqUrl = `http://127.0.0.1:${port}`;
    await until(async () => (await fetch(`${hqUrl}/readyz`)).ok, {
      what: 'HQ answers behind the balancer',
      timeoutMs: LONG_MS,
    });
    for (let n = 1; n <= STORES; n += 1) stores.push(await TestStore.open(hq, `BAL-${n}`, { hqUrl }));
  });
  after(async () => {
    for (const store of stores) await store.close();
    stores = [];
    await balancer?.kill();
    for (const server of servers) await server.kill();
    await hq.close();
    await rm(dir, { recursive: true, force: true });
  });

  /** How many stores each process says that it holds, fresh rows alone. */
  async function shares(): Promise<number[]> {
    const { rows } = await hq.pool.query<{ n: number }>(
      `select count(*)::integer as n from possync.live_links l
        where l.connected and l.written_at > clock_timestamp() - interval '10 seconds' group by l.server order by 1`,
    );
    return rows.map(({ n }) => n);
  }

  async function sellEverywhere(): Promise<void> {
    for (const store of stores) {
      const till = await store.database.connect();
      const session = await openSession(till, await addRegister(till, store.id), store.id);
      for (let n = 0; n < 3; n += 1) await sell(till, session, { storeId: store.id });
      await till.end();
    }
    for (const store of stores) {
      await until(async () => countDifferences(await compareStore(hq.pool, store.pool, store.id)) === 0, {
        what: `the sales of ${store.code} are at HQ, each once`,
        timeoutMs: LONG_MS,
      });
    }
    assert.equal((await hq.pool.query('select from possync.dead')).rowCount, 0);
  }

  async function priceEverywhere(price: number): Promise<void> {
    await hq.pool.query(
      `insert into public.products (id, sku, name, price) values ('0190b000-0000-7000-8000-000000000001', 'BAL', 'x', $1::numeric)
       on conflict (id) do update set price = excluded.price`,
      [price],
    );
    for (const store of stores) {
      await until(
        async () =>
          (await store.pool.query('select from public.products where price = $1::numeric', [price]))
            .rowCount === 1,
        { what: `${store.code} has the new price`, timeoutMs: LONG_MS },
      );
    }
  }

  it('share the stores, whose sales arrive once and who hear of a price, whichever process sealed it', async () => {
    await until(async () => (await shares()).reduce((sum, n) => sum + n, 0) === STORES, {
      what: 'all stores are connected',
      timeoutMs: LONG_MS,
    });
    // Which one a store comes to is left to chance: until both have some, one tries again.
    for (let n = 0; (await shares()).length < 2; n += 1) {
      const store = stores[n % STORES];
      await store?.stop();
      await store?.start();
      await store?.untilLight('green', LONG_MS);
    }
    await sellEverywhere();
    await priceEverywhere(1);
  });

  it('go on when one is killed: its stores come to the other, and nothing is lost or doubled', async () => {
    await servers[0]?.kill();
    await sellEverywhere();
    await priceEverywhere(2);
    await until(
      async () => {
        const [all, ...others] = await shares();
        return all === STORES && others.length === 0;
      },
      { what: 'all stores are connected to the process that is left', timeoutMs: LONG_MS },
    );
    for (const store of stores) await store.untilLight('green', LONG_MS);
  });
});
