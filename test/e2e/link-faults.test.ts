/** The line between store and HQ breaks in every way: the lights tell it, nothing is lost, and it comes back. */
import assert from 'node:assert/strict';
import { setStoreActive } from '../../src/hq/stores/stores.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { Line } from '../support/line.ts';
import { addRegister, openSession, sell } from '../support/pos.ts';
import { StripProxy } from '../support/strip-proxy.ts';
import { until } from '../support/until.ts';

describe('the line between store and HQ', function () {
  this.timeout(120_000);
  let hq: TestHq;

  before(async () => {
    hq = await TestHq.open('faults');
  });
  after(async () => {
    await hq.close();
  });

  it('cut without a word: red on both sides, sales wait; back: green, and every sale arrives once', async () => {
    const line = await Line.open(hq, 'HOLE');
    await line.untilHqSays('green');
    await line.proxy.set('black-hole');
    await line.sell();
    await line.store.untilLight('red');
    await line.untilHqSays('red');
    assert.equal((await line.store.link()).code === null, false);
    await line.sell();
    await line.proxy.set('pass');
    await line.store.untilLight('green');
    await line.untilHqSays('green');
    await line.untilDelivered();
    await line.close();
  });

  it('nobody listens at HQ: says so, and comes back by itself', async () => {
    const line = await Line.open(hq, 'REFUSE');
    await line.proxy.set('refuse');
    await line.untilReason('PS-TCP-REFUSED');
    assert.equal((await line.store.link()).indicator, 'red');
    await line.sell();
    await line.proxy.set('pass');
    await line.store.untilLight('green');
    await line.untilDelivered();
    await line.close();
  });

  it('connections are reset: says so, and comes back by itself', async () => {
    const line = await Line.open(hq, 'RESET');
    await line.proxy.set('reset');
    await line.untilReason('PS-TCP-RESET');
    await line.proxy.set('pass');
    await line.store.untilLight('green');
    await line.close();
  });

  it('one direction ends: the link is given up and made again', async () => {
    const line = await Line.open(hq, 'HALF');
    const before = line.proxy.attempts;
    await line.proxy.set('half-close');
    await until(() => line.proxy.attempts > before, { what: 'a new connection was tried' });
    await line.proxy.set('pass');
    await line.store.untilLight('green');
    await line.sell();
    await line.untilDelivered();
    await line.close();
  });

  it('a slow line: green all the same, and both flows run', async () => {
    const line = await Line.open(hq, 'SLOW');
    line.proxy.delay(300);
    line.proxy.cut();
    await until(async () => (await line.store.link()).state !== 'online', { what: 'the cut was seen' });
    await line.store.untilLight('green');
    await line.sell();
    await line.untilDelivered();
    await line.close();
  });

  it('a proxy strips the upgrade: red with the reason, and both flows run by polling', async () => {
    const proxy = new StripProxy({ host: '127.0.0.1', port: hq.port });
    const store = await TestStore.open(hq, 'STRIP', { hqUrl: await proxy.open(), pullIntervalMs: 500 });
    await until(async () => (await store.link()).session === 'http', { what: 'hello went over HTTP' });
    const link = await store.link();
    assert.deepEqual([link.indicator, link.code], ['red', 'PS-WS-STRIPPED']);
    assert.ok(proxy.stripped > 0);
    const till = await store.database.connect();
    await sell(till, await openSession(till, await addRegister(till, store.id), store.id), {
      storeId: store.id,
    });
    await until(
      async () =>
        (await hq.pool.query('select from public.sales where store_id = $1::integer', [store.id]))
          .rowCount === 1,
      { what: 'the sale reached HQ' },
    );
    await hq.pool.query(`insert into public.roles (id, name) values (gen_random_uuid(), 'by polling')`);
    await until(
      async () =>
        (await store.pool.query(`select from public.roles where name = 'by polling'`)).rowCount === 1,
      { what: 'the role reached the store' },
    );
    assert.equal((await store.link()).indicator, 'red');
    await store.close();
    await proxy.close();
  });

  it('a revoked credential: cut within seconds, then asked only every five minutes; a new one is taken at once', async () => {
    const line = await Line.open(hq, 'REVOKE');
    await hq.pool.query(
      `update possync.tokens set state = 'revoked', ended_at = now() where store_id = $1::integer and kind = 'credential'`,
      [line.store.id],
    );
    await line.untilReason('PS-TOKEN-REVOKED');
    await line.untilHqSays('red');
    await line.sell();
    const { link } = line.store.running.dump() as { link: { nextAttemptMs: number } };
    assert.ok(link.nextAttemptMs - Date.now() > 200_000, 'the next attempt is minutes away');
    await line.store.enrol(hq, { hqUrl: `http://127.0.0.1:${line.proxy.port}` });
    await line.store.untilLight('green');
    await line.untilDelivered();
    await line.close();
  });

  it('a deactivated store: cut off with the reason, its queue kept; activated and asked again, it flows', async () => {
    const line = await Line.open(hq, 'CLOSED');
    await setStoreActive(hq.pool, 'CLOSED', false, 'test');
    await line.untilReason('PS-STORE-DISABLED');
    await line.sell();
    await setStoreActive(hq.pool, 'CLOSED', true, 'test');
    line.store.running.reconnect();
    await line.store.untilLight('green');
    await line.untilDelivered();
    await line.close();
  });

  it('HQ restarts: stores go with 1012 and return', async () => {
    const line = await Line.open(hq, 'RESTART');
    await hq.stop();
    await line.store.untilLight('red');
    await line.sell();
    await hq.start();
    await line.store.untilLight('green');
    await line.untilDelivered();
    await line.close();
  });

  it("the store's PostgreSQL ends all connections: the daemon goes on", async () => {
    const line = await Line.open(hq, 'PGDOWN');
    const admin = await hq.database.connect();
    await admin.query(
      `select pg_terminate_backend(a.pid) from pg_stat_activity a where a.datname = $1::text`,
      [line.store.database.name],
    );
    await line.sell();
    await line.untilDelivered();
    await hq.pool.query(
      `insert into public.roles (id, name) values (gen_random_uuid(), 'after the restart')`,
    );
    await until(
      async () =>
        (await line.store.pool.query(`select from public.roles where name = 'after the restart'`))
          .rowCount === 1,
      { what: 'the role reached the store' },
    );
    await line.close();
  });
});
