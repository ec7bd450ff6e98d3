/** The built server and daemons, killed with SIGKILL at random moments under load: both sides end up equal (invariant 10, 16). */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type pg from 'pg';
import { uuidv7 } from '../../src/core/ids.ts';
import { Random } from '../../src/core/random.ts';
import { compareStore, countDifferences } from '../../src/db/compare.ts';
import { createPool } from '../../src/db/pool.ts';
import { queryOne } from '../../src/db/transaction.ts';
import { changeSomething, fillHeadOffice } from '../../src/demo/catalogue.ts';
import { Till } from '../../src/demo/till.ts';
import { addStore } from '../../src/hq/stores/stores.ts';
import { issueEnrolmentToken } from '../../src/hq/stores/tokens.ts';
import { initStore } from '../../src/store/init.ts';
import { hqDatabase, storeDatabase, type TestDatabase } from '../support/postgres.ts';
import { startPossync, type TestProcess } from '../support/process.ts';
import { randomFor } from '../support/random.ts';
import { until } from '../support/until.ts';

const KILLS = 10;
/** Between two deaths; starting takes about half of it, so that some die while they start. */
const LIFE_MS = 1_500;

interface KilledStore {
  readonly id: number;
  readonly code: string;
  readonly database: TestDatabase;
  readonly pool: pg.Pool;
  readonly stateDir: string;
}

describe('kill -9 under load', function () {
  this.timeout(180_000);
  const random = randomFor('kill');
  let dir: string;
  let hqDb: TestDatabase;
  let hqPool: pg.Pool;
  let port = 0;
  let server: TestProcess;
  const stores: KilledStore[] = [];
  const daemons = new Map<string, TestProcess>();

  const startServer = async (): Promise<void> => {
    server = await startPossync(['hq', 'serve', '--port', String(port)], {
      cwd: dir,
      env: { DATABASE_URL: hqDb.url, LOG_DIR: join(dir, 'hq') },
    });
  };
  const startDaemonOf = async (store: KilledStore): Promise<void> => {
    const daemon = await startPossync(['store', 'daemon'], {
      cwd: dir,
      env: {
        DATABASE_URL: store.database.url,
        POSSYNC_STATE_DIR: store.stateDir,
        POSSYNC_STATUS_LISTEN: 'off',
        SYNC_PUSH_INTERVAL: '1s',
        LOG_DIR: join(dir, store.code),
      },
    });
    daemons.set(store.code, daemon);
  };

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'possync-kill-'));
    hqDb = await hqDatabase('kill hq');
    hqPool = createPool({ url: hqDb.url, applicationName: 'possync test', max: 4 });
    await fillHeadOffice(hqPool, 200);
    await startServer();
    const { url } = JSON.parse(await server.line(/"event":"ready"/)) as { url: string };
    port = Number(new URL(url).port);
    for (const code of ['K-1', 'K-2']) {
      const { id } = await addStore(hqPool, { code, name: code, timeZone: 'UTC' }, 'test');
      const { token } = await issueEnrolmentToken(hqPool, { code, hqUrl: url, actor: 'test' });
      const database = await storeDatabase(`kill ${code}`);
      const stateDir = join(dir, `${code}-state`);
      await initStore({ databaseUrl: database.url, stateDir, tokenText: token.reveal() });
      const pool = createPool({ url: database.url, applicationName: 'possync test', max: 3 });
      const store = { id, code, database, pool, stateDir };
      stores.push(store);
      await startDaemonOf(store);
    }
  });
  after(async () => {
    for (const daemon of daemons.values()) await daemon.stop();
    await server.stop();
    for (const { pool, database } of stores) {
      await pool.end();
      await database.drop();
    }
    await hqPool.end();
    await hqDb.drop();
    await rm(dir, { recursive: true, force: true });
  });

  it(`${KILLS} deaths of server and daemons: nothing lost, nothing doubled, nothing parked`, async () => {
    const open = new AbortController();
    const load = [headOffice(hqPool, random.int(1_000_000), open.signal)];
    for (const store of stores)
      for (const registerCode of ['R1', 'R2'])
        load.push(sellAt(store, registerCode, random.int(1_000_000), open.signal));

    for (let n = 0; n < KILLS; n += 1) {
      await pause(random.int(LIFE_MS));
      const victim = random.pick(['server', ...stores]);
      if (victim === 'server') {
        await server.kill();
        await startServer();
      } else if (typeof victim !== 'string') {
        await daemons.get(victim.code)?.kill();
        await startDaemonOf(victim);
      }
    }
    // On a slow machine a store has hardly had its products by now, and has sold nothing that could get lost.
    for (const store of stores)
      await until(async () => (await salesOf(store)) > 10, {
        what: `the tills of ${store.code} sell`,
        timeoutMs: 120_000,
        everyMs: 250,
      });
    open.abort();
    await Promise.all(load);

    for (const store of stores) {
      await until(
        async () => {
          const tables = await compareStore(hqPool, store.pool, store.id);
          const { waiting } = await queryOne<{ waiting: number }>(
            store.pool,
            `select (select count(*) from possync.raw)
                    + (select count(*) from possync.outbox o join possync.sending d on (o.epoch, o.seq) > (d.epoch, d.seq)) as waiting`,
          );
          return waiting === 0 && countDifferences(tables) === 0;
        },
        { what: `store ${store.code} and HQ became equal`, timeoutMs: 60_000, everyMs: 250 },
      );
      const own = await queryOne<{ seq: number; chain: string; sales: number }>(
        store.pool,
        `select s.seq, encode(s.chain, 'hex') as chain, (select count(*) from public.sales) as sales from possync.state s`,
      );
      const atHq = await queryOne<{ seq: number; chain: string; sales: number }>(
        hqPool,
        `select i.seq, encode(i.chain, 'hex') as chain,
                (select count(*) from public.sales x where x.store_id = i.store_id) as sales
           from possync.inbox i where i.store_id = $1::integer`,
        [store.id],
      );
      assert.deepEqual(atHq, own);
    }
    const { dead } = await queryOne<{ dead: number }>(hqPool, 'select count(*) as dead from possync.dead');
    assert.equal(dead, 0);
  });
});

async function salesOf(store: KilledStore): Promise<number> {
  return (await queryOne<{ n: number }>(store.pool, 'select count(*) as n from public.sales')).n;
}

async function sellAt(
  store: KilledStore,
  registerCode: string,
  seed: number,
  signal: AbortSignal,
): Promise<void> {
  const client = await store.database.connect();
  const registerId = uuidv7();
  await client.query(
    `insert into public.registers (id, store_id, code, name) values ($1::uuid, $2::integer, $3::text, $3::text)`,
    [registerId, store.id, registerCode],
  );
  const till = new Till(client, {
    storeId: store.id,
    registerId,
    registerCode,
    random: new Random(seed),
  });
  while (!signal.aborted) {
    await till.step();
    await pause(10);
  }
  await client.end();
}

async function headOffice(hq: pg.Pool, seed: number, signal: AbortSignal): Promise<void> {
  const random = new Random(seed);
  while (!signal.aborted) {
    await changeSomething(hq, random);
    await pause(50);
  }
}
