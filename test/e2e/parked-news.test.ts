/** What HQ has parked changes at HQ: the store hears of it on its live link, not with its next push. */
import assert from 'node:assert/strict';
import type pg from 'pg';
import { listDead } from '../../src/hq/inbox/dead.ts';
import { countQueue } from '../../src/store/outbox/queue.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { possync } from '../support/cli.ts';
import { addRegister, openSession, sell } from '../support/pos.ts';
import { until } from '../support/until.ts';

const LONG_MS = 60_000;

describe('the parked entries of a store', function () {
  this.timeout(4 * LONG_MS);
  let hq: TestHq;
  let store: TestStore;
  let till: pg.Client;
  let session: string;

  before(async () => {
    hq = await TestHq.open('parked news');
    store = await TestStore.open(hq, 'PARKED');
    await store.untilLight('green', LONG_MS);
    till = await store.database.connect();
    session = await openSession(till, await addRegister(till, store.id), store.id);
    await hq.pool.query(`alter table public.sales add constraint poison check (receipt_number <> 'BAD')`);
    for (let n = 0; n < 2; n += 1) await sell(till, session, { storeId: store.id, receipt: 'BAD' });
    await untilParked(2);
    await store.stop();
    await store.start();
  });
  after(async () => {
    await store.close();
    await hq.close();
  });

  const untilParked = (wanted: number): Promise<true> =>
    until(async () => (await store.running.status()).upstream.parked === wanted, {
      what: `the store calls ${wanted} parked`,
      timeoutMs: LONG_MS,
    });
  const atHq = async (...args: string[]): Promise<void> => {
    const { code, stdout, stderr } = await possync(args, { env: { DATABASE_URL: hq.database.url } });
    assert.equal(code, 0, stdout + stderr);
  };
  const acked = async (): Promise<string | null> => (await countQueue(store.pool)).ackedAt;

  it('an entry that HQ has retried or dropped is no longer parked in the store, without a push in between', async () => {
    await untilParked(2);
    await store.untilLight('green', LONG_MS);
    const [first] = await listDead(hq.pool, store.id);
    assert.ok(first !== undefined);
    const before = await acked();
    await atHq('queue', 'drop', store.code, String(first.seq), '--reason', 'a test');
    await untilParked(1);
    await hq.pool.query('alter table public.sales drop constraint poison');
    await atHq('queue', 'retry', store.code);
    await untilParked(0);
    assert.equal(await acked(), before, 'nothing was pushed, and no hello was said, meanwhile');
  });

  it('whatever the store takes for parked is put right, however it came about', async () => {
    await store.pool.query(`update possync.sending set dead = '{1, 2, 3}'`);
    await untilParked(0);
    const { rows } = await store.pool.query<{ epoch: number }>('select s.epoch from possync.sending s');
    assert.equal(rows[0]?.epoch, 1);
  });
});
