/**
 * late-sale-after-close: a sale that arrives after its session was closed makes a shop stuck (Odoo refuses it without
 * an open session, or moves it to a rescue session whose sums fit nothing). Here it is taken, stays in its own session,
 * and the Z report that no longer adds up is called contradicted. By the ledger's rules alone: test/hq/ledger.test.ts.
 */
import assert from 'node:assert/strict';
import { queryMaybe } from '../../src/db/transaction.ts';
import { closeSession } from '../../src/demo/cash-office.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { addRegister, openSession, sell } from '../support/pos.ts';
import { until } from '../support/until.ts';

describe('late-sale-after-close', function () {
  this.timeout(120_000);
  let hq: TestHq;
  let store: TestStore;

  before(async () => {
    hq = await TestHq.open('late_sale');
    store = await TestStore.open(hq, 'LATE');
    await store.untilLight('green');
  });
  after(async () => {
    await store.close();
    await hq.close();
  });

  it('is taken and stays in its session; the Z is contradicted; the shop goes on', async () => {
    const till = await store.database.connect();
    const register = await addRegister(till, store.id);
    const session = await openSession(till, register, store.id);
    await sell(till, session, { storeId: store.id, receipt: 'R1-1' });
    await closeSession(till, {
      sessionId: session,
      closedAt: new Date().toISOString(),
      businessDate: '2026-11-20',
      overShort: 0,
    });
    const zState = async (): Promise<string | undefined> =>
      (await queryMaybe<{ state: string }>(hq.pool, 'select l.state from possync.ledger_z l'))?.state;
    await until(async () => (await zState()) === 'complete', { what: 'HQ has the whole day' });
    const late = await sell(till, session, { storeId: store.id, receipt: 'R1-2' });
    await until(async () => (await zState()) === 'contradicted', { what: 'the Z was contradicted' });
    const next = await openSession(till, register, store.id);
    const after = await sell(till, next, { storeId: store.id, receipt: 'R1-3' });
    const sessionAtHq = async (sale: string): Promise<string | undefined> =>
      (
        await queryMaybe<{ session: string }>(
          hq.pool,
          'select s.session_id as session from public.sales s where s.id = $1::uuid',
          [sale],
        )
      )?.session;
    await until(async () => (await sessionAtHq(after)) === next, { what: 'the next sale reached HQ' });
    assert.equal(await sessionAtHq(late), session);
    const { rowCount } = await hq.pool.query('select from possync.dead');
    assert.equal(rowCount, 0);
  });
});
