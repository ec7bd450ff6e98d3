/**
 * lost-ack: Odoo and ERPNext double a sale whose answer was lost after the server had committed it (odoo #152259,
 * erpnext #11000). Here the position moves in the transaction that applies, so that the same batch finds itself there.
 */
import assert from 'node:assert/strict';
import { TestHq } from '../support/chain.ts';
import { Line } from '../support/line.ts';
import { until } from '../support/until.ts';

describe('lost-ack', function () {
  this.timeout(120_000);
  let hq: TestHq;

  before(async () => {
    hq = await TestHq.open('lost_ack');
  });
  after(async () => {
    await hq.close();
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

  it('a push that a box on the way delivers twice is applied once', async () => {
    const line = await Line.open(hq, 'TWICE');
    for (let n = 0; n < 3; n += 1) {
      line.proxy.repeatNext(/^POST \/api\/v1\/sync\/push/);
      await line.sell();
      await until(() => line.proxy.repeated > n, { what: 'a push was delivered twice', timeoutMs: 30_000 });
    }
    await line.untilDelivered();
    assert.equal(await line.salesAtHq(), line.sold);
    await line.close();
  });
});
