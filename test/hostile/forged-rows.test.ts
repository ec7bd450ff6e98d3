/** A store with a credential of its own that writes bodies by hand, to get lines into HQ that name another store. */
import assert from 'node:assert/strict';
import { nextChain } from '../../src/core/chain.ts';
import { queryOne } from '../../src/db/transaction.ts';
import { addRegister, openHq, openSession, openStore, sell, type TestSide } from '../support/pos.ts';
import { Up } from '../support/up.ts';

describe('rows that are made by hand', () => {
  let store: TestSide;
  let hq: TestSide;
  before(async () => {
    [store, hq] = await Promise.all([openStore('forged'), openHq('forged')]);
  });
  after(async () => {
    await store.close();
    await hq.close();
  });

  it('invariant 22: a line of another store that hides between quotes stays outside, however the numbers are made to fit', async () => {
    const up = new Up(store, hq);
    const session = await openSession(store.db, await addRegister(store.db));
    await up.drain();
    const sale = await sell(store.db, session);
    await up.outbox.seal();
    const message = await up.message();
    const [tx] = message?.txs ?? [];
    assert.ok(message !== undefined && tx !== undefined);
    const found = /^(I) 2 (\w+ sale_lines)\n(.+)\n(.+)\n/m.exec(tx.body);
    assert.ok(found !== null);
    const [section, op = '', layout = '', first = ''] = found;
    // One row that becomes two where its first and last characters are taken for parentheses, and two that become one.
    const forged = `${op} 3 ${layout}
"${first.slice(1, -1)}
99,2026-11-20,${sale},1,,sku,name,1,1,0,0,1"
"${sale},2,,sku,"open)
"${sale},3close",1,1,0,0,1)
`;
    const body = tx.body.replace(section, forged);
    const lastChain = nextChain(message.prev, tx.seq, body);
    const answer = await up.send({ ...message, txs: [{ ...tx, body }], lastChain });
    assert.equal(answer.result, 'ok');
    const { rows } = await hq.db.query('select l.store_id, l.line_no from public.sale_lines l');
    assert.deepEqual(rows, []);
    assert.deepEqual(await queryOne(hq.db, 'select d.store_id, d.seq, d.kind from possync.dead d'), {
      store_id: 7,
      seq: tx.seq,
      kind: 'data',
    });
  });
});
