/**
 * poison-record: nearly everywhere one record that the other side refuses stops all that follows it (SymmetricDS: "all
 * subsequent batches on the same channel to the same node are not synchronized"; erpnext #13388). Here it waits alone
 * with what changes it later, is shown at both ends, and goes on when its cause is gone.
 */
import assert from 'node:assert/strict';
import { listDead, retryDead } from '../../src/hq/inbox/dead.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { addRegister, openSession, sell, voidSale } from '../support/pos.ts';
import { until } from '../support/until.ts';

describe('poison-record', function () {
  this.timeout(120_000);
  let hq: TestHq;
  let store: TestStore;

  before(async () => {
    hq = await TestHq.open('poison_record');
    store = await TestStore.open(hq, 'POISON');
    await store.untilLight('green');
  });
  after(async () => {
    await store.close();
    await hq.close();
  });

  it('one sale that HQ refuses: every other sale and every price goes on; mended, it arrives with its void', async () => {
    const salesAtHq = async (): Promise<string[]> => {
      const { rows } = await hq.pool.query<{ sale: string }>(
        `select s.receipt_number || ' ' || s.status as sale from public.sales s order by s.receipt_number`,
      );
      return rows.map(({ sale }) => sale);
    };
    await hq.pool.query(`alter table public.sales add constraint poison check (receipt_number <> 'BAD')`);
    const till = await store.database.connect();
    const session = await openSession(till, await addRegister(till, store.id), store.id);
    const bad = await sell(till, session, { storeId: store.id, receipt: 'BAD' });
    await sell(till, session, { storeId: store.id, receipt: 'GOOD-1' });
    await voidSale(till, bad);
    await sell(till, session, { storeId: store.id, receipt: 'GOOD-2' });
    await until(async () => (await salesAtHq()).length === 2, { what: 'the good sales reached HQ' });
    assert.deepEqual(await salesAtHq(), ['GOOD-1 completed', 'GOOD-2 completed']);
    await hq.pool.query(
      `insert into public.roles (id, name) values (gen_random_uuid(), 'beside the poison')`,
    );
    await until(async () => (await store.count('roles')) === 1, { what: 'the role reached the store' });
    const dead = await listDead(hq.pool, store.id);
    assert.deepEqual(
      dead.map(({ kind }) => kind),
      ['data', 'parked'],
    );
    await until(
      async () =>
        (await store.pool.query('select from possync.sending s where cardinality(s.dead) = 2')).rowCount ===
        1,
      { what: 'the store knows what HQ has parked' },
    );
    await hq.pool.query('alter table public.sales drop constraint poison');
    const { left } = await retryDead(hq.pool, store.id, 'all');
    assert.deepEqual(left, []);
    assert.deepEqual(await salesAtHq(), ['BAD voided', 'GOOD-1 completed', 'GOOD-2 completed']);
  });
});
