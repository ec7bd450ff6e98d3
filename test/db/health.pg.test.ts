/** A table that is changed with its triggers switched off: `status` says so at either end, and one command mends it. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { installTriggers } from '../../src/db/capture.ts';
import { reproject } from '../../src/hq/feed/reproject.ts';
import { readHqStatus } from '../../src/hq/status.ts';
import { readStoreStatus } from '../../src/store/status.ts';
import { possync } from '../support/cli.ts';
import { pull, seal } from '../support/feed.ts';
import { addRegister, openHq, openSession, openStore, sell, type TestSide } from '../support/pos.ts';

describe('triggers that are switched off', () => {
  let store: TestSide;
  let hq: TestSide;
  let stateDir: string;
  before(async () => {
    [store, hq] = await Promise.all([openStore('health'), openHq('health')]);
    stateDir = await mkdtemp(join(tmpdir(), 'possync-health-'));
  });
  after(async () => {
    await store.close();
    await hq.close();
    await rm(stateDir, { recursive: true });
  });

  const atStore = async () => (await readStoreStatus(store.pool, { stateDir, source: 'database' })).database;
  const atHq = async () => (await readHqStatus(hq.pool)).database;

  it('in a store: status names the table; what was written meanwhile is named as lost to capture, not as fine', async () => {
    assert.deepEqual(await atStore(), { state: 'ok', reason: null });
    await store.db.query('alter table public.sales disable trigger possync_up_insert');
    const { state, reason } = await atStore();
    assert.deepEqual([state, reason?.code], ['failing', 'PS-DB-TRIGGER-DISABLED']);
    assert.match(reason?.message ?? '', /sales/);
    assert.match(reason?.hint ?? '', /store init.*reexport/);
    const { stdout } = await possync(['status'], {
      env: { DATABASE_URL: store.database.url, POSSYNC_STATE_DIR: stateDir },
    });
    assert.match(stdout, /Database +changes of sales are not captured.*PS-DB-TRIGGER-DISABLED/);
    await sell(store.db, await openSession(store.db, await addRegister(store.db)));
    await installTriggers(store.db, 'store');
    assert.deepEqual(await atStore(), { state: 'ok', reason: null });
    await store.db.query('drop trigger possync_up_delete on public.z_reports');
    assert.equal((await atStore()).reason?.code, 'PS-DB-TRIGGER-MISSING');
    await installTriggers(store.db, 'store');
  });

  it('at HQ: status names the table, and after init `hq reproject` sends what changed unseen', async () => {
    await hq.db.query(
      `insert into public.products (id, sku, name, price) select gen_random_uuid(), 'P' || n, 'p', 100 from generate_series(1, 3) n`,
    );
    await seal(hq.db);
    await pull(hq.pool, store.pool, 7);
    await hq.db.query(
      `alter table public.products disable trigger user;
       update public.products set price = 555 where sku = 'P2'`,
    );
    const { state, reason } = await atHq();
    assert.deepEqual([state, reason?.code], ['failing', 'PS-DB-TRIGGER-DISABLED']);
    assert.match(reason?.hint ?? '', /hq init.*hq reproject/);
    const { stdout } = await possync(['status'], { env: { DATABASE_URL: hq.database.url } });
    assert.match(stdout, /changes of products are not captured.*PS-DB-TRIGGER-DISABLED/);
    await installTriggers(hq.db, 'hq');
    assert.deepEqual(await atHq(), { state: 'ok', reason: null });
    await pull(hq.pool, store.pool, 7);
    const price = async (): Promise<string | undefined> =>
      (await store.db.query<{ price: string }>(`select price::text from public.products where sku = 'P2'`))
        .rows[0]?.price;
    assert.equal(
      await price(),
      '100.0000',
      'negative control: without it the store never hears of the change',
    );
    assert.equal(await reproject(hq.pool, 'product'), 1);
    await pull(hq.pool, store.pool, 7);
    assert.equal(await price(), '555.0000');
  });
});
