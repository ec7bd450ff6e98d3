/** A store with a credential of its own that writes bodies by hand, to get lines into HQ that name another store. */
import assert from 'node:assert/strict';
import { nextChain } from '../../src/core/chain.ts';
import { copyIn, type CopyIn } from '../../src/db/copy-in.ts';
import { queryOne } from '../../src/db/transaction.ts';
import { FastPath } from '../../src/hq/inbox/fast-path.ts';
import { ENTITIES } from '../../src/protocol/entities.ts';
import { addRegister, openHq, openSession, openStore, sell, type TestSide } from '../support/pos.ts';
import { randomFor } from '../support/random.ts';
import { Up } from '../support/up.ts';

const ROUNDS = 400;

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

  it('are lines of COPY one by one, or nothing that COPY gets, whatever quotes and line feeds they are made of', async () => {
    const random = randomFor('forged rows');
    const fast = new FastPath(ENTITIES);
    const up = new Up(store, hq);
    const session = await openSession(store.db, await addRegister(store.db));
    await sell(store.db, session);
    await up.outbox.seal();
    const body = (await up.message())?.txs.at(-1)?.body ?? '';
    assert.match(body, /sale_lines/);
    const pieces = ['"', '"', '"', '\n', '(', ')', ',', '\r', 'x', '\n99,2026-11-20,x,1,,s,n,1,1,0,0,1'];
    let copied = 0;
    for (let n = 0; n < ROUNDS; n += 1) {
      const lines = body.split('\n');
      for (let changes = 1 + random.int(4); changes > 0; changes -= 1) {
        const at = random.int(lines.length - 1);
        const line = lines[at] ?? '';
        // Where a row begins and ends is where it matters.
        const place = [0, 1, line.length - 1, line.length, random.int(line.length + 1)][random.int(5)] ?? 0;
        const left = random.int(2);
        lines[at] =
          `${line.slice(0, place)}${pieces[random.int(pieces.length)] ?? ''}${line.slice(place + left)}`;
      }
      const entry = { epoch: 1, seq: 1, v: 2, body: lines.join('\n') };
      const copies = fast.plan([entry], 7, fast.layouts, () => false)?.copies ?? [];
      const fate = await fateOf(copies);
      assert.notEqual(fate, 'another number of lines', JSON.stringify(entry.body));
      assert.notEqual(fate, 'another store', JSON.stringify(entry.body));
      if (fate === 'copied') copied += 1;
    }
    assert.ok(copied > 0, 'some of them are harmless');
  });

  async function fateOf(copies: readonly CopyIn[]): Promise<string> {
    await hq.db.query(`begin; set local possync.applying = 'on'`);
    try {
      await copyIn(hq.db, copies);
      const { rows } = await hq.db.query(
        `select from public.sale_lines l where l.store_id <> 7
         union all select from public.sale_payments p where p.store_id <> 7
         union all select from public.sales s where s.store_id <> 7`,
      );
      return rows.length > 0 ? 'another store' : 'copied';
    } catch (error) {
      return String(error).includes('rows were taken') ? 'another number of lines' : 'refused';
    } finally {
      await hq.db.query('rollback');
    }
  }
});
