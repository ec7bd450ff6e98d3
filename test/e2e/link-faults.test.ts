/** The line between store and HQ breaks in every way: the lights tell it, nothing is lost, and it comes back. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { SOFTWARE } from '../../src/core/version.ts';
import { readCredential } from '../../src/store/credential.ts';
import { HqClient } from '../../src/store/link/hq-client.ts';
import { BODY_VERSION, PROTOCOL_VERSION } from '../../src/protocol/version.ts';
import type { Hello } from '../../src/protocol/messages.ts';
import { setStoreActive } from '../../src/hq/stores/stores.ts';
import { Outbox } from '../../src/store/outbox/outbox.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { addRegister, openSession, sell } from '../support/pos.ts';
import { StripProxy } from '../support/strip-proxy.ts';
import { until } from '../support/until.ts';

/** A store behind a line that can fail. */
class Line {
  readonly hq: TestHq;
  readonly proxy: FaultProxy;
  readonly store: TestStore;
  #session: string | undefined;
  sold = 0;

  private constructor(hq: TestHq, proxy: FaultProxy, store: TestStore) {
    this.hq = hq;
    this.proxy = proxy;
    this.store = store;
  }

  static async open(hq: TestHq, code: string): Promise<Line> {
    const proxy = new FaultProxy({ host: '127.0.0.1', port: hq.port });
    await proxy.open();
    const store = await TestStore.open(hq, code, { hqUrl: `http://127.0.0.1:${proxy.port}` });
    const line = new Line(hq, proxy, store);
    await store.untilLight('green');
    return line;
  }

  async close(): Promise<void> {
    await this.store.close();
    await this.proxy.close();
  }

  async sell(): Promise<void> {
    const till = await this.store.database.connect();
    try {
      this.#session ??= await openSession(till, await addRegister(till, this.store.id), this.store.id);
      this.sold += 1;
      await sell(till, this.#session, { storeId: this.store.id, receipt: `R-${this.sold}` });
    } finally {
      await till.end();
    }
  }

  async salesAtHq(): Promise<number> {
    const { rows } = await this.hq.pool.query<{ n: number }>(
      'select count(*) as n from public.sales where store_id = $1::integer',
      [this.store.id],
    );
    return rows[0]?.n ?? 0;
  }

  async untilDelivered(): Promise<void> {
    await until(async () => (await this.salesAtHq()) === this.sold, {
      what: `HQ has all ${this.sold} sales`,
      timeoutMs: 30_000,
    });
  }

  async untilHqSays(light: 'green' | 'red'): Promise<void> {
    await until(async () => (await this.hq.light(this.store.id)) === light, {
      what: `HQ calls the store ${light}`,
      timeoutMs: 20_000,
    });
  }

  async untilReason(code: string): Promise<void> {
    await until(async () => (await this.store.link()).code === code, {
      what: `the link says ${code}`,
      timeoutMs: 20_000,
    });
  }
}

async function clientOf(store: TestStore, url: string): Promise<HqClient> {
  const credential = await readCredential(store.stateDir);
  assert.ok(credential);
  return new HqClient({ url, credential: credential.token, hqId: credential.hqId, software: SOFTWARE });
}

async function helloOf(store: TestStore): Promise<Hello> {
  return {
    type: 'hello',
    v: PROTOCOL_VERSION,
    store: store.code,
    instance: { boot: 'another', daemon: randomUUID(), pgSysid: '42' },
    ...(await new Outbox(store.pool).helloPart()),
    in: { pos: 0, nonce: null, paged: 0 },
    bodyVersion: BODY_VERSION,
    software: SOFTWARE,
  };
}

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

  it('the answer to a push is lost after HQ has committed it: sent again, there once (invariant 16)', async () => {
    const line = await Line.open(hq, 'LOST');
    for (let n = 0; n < 3; n += 1) {
      line.proxy.dropNextAnswer(/^POST \/api\/v1\/sync\/push/);
      await line.sell();
      await until(() => line.proxy.dropped > n, { what: 'an answer was dropped', timeoutMs: 30_000 });
    }
    await line.untilDelivered();
    await line.store.running.stop();
    const { rows } = await line.hq.pool.query<{ seq: number }>(
      'select seq from possync.inbox where store_id = $1::integer',
      [line.store.id],
    );
    const own = await line.store.pool.query<{ seq: number }>('select seq from possync.state');
    assert.equal(rows[0]?.seq, own.rows[0]?.seq);
    assert.equal(await line.salesAtHq(), line.sold);
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

  it('a clone is refused while the store answers, and let in when it does not (invariant 19)', async () => {
    const line = await Line.open(hq, 'CLONE');
    const clone = await clientOf(line.store, hq.running.url);
    const refused = await clone.hello(await helloOf(line.store));
    assert.deepEqual(
      [refused.type, refused.type === 'refuse' && refused.code],
      ['refuse', 'other_instance_alive'],
    );
    assert.equal((await line.store.link()).indicator, 'green', 'the store itself is not disturbed');
    await line.store.stop();
    const welcomed = await clone.hello(await helloOf(line.store));
    assert.equal(welcomed.type, 'welcome');
    clone.close();
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
