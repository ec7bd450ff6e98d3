/** Small batches of several stores in one transaction: each store gets what it would have got alone. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { queryOne } from '../../../src/db/transaction.ts';
import type { PushResult } from '../../../src/hq/inbox/push.ts';
import type { Push } from '../../../src/protocol/messages.ts';
import { waitsForLock } from '../../support/locks.ts';
import { addRegister, openHq, openSession, openStore, sell, type TestSide } from '../../support/pos.ts';
import { differences, Up } from '../../support/up.ts';

interface Shop {
  readonly id: number;
  readonly side: TestSide;
  readonly up: Up;
  readonly session: string;
}

describe('small batches of several stores', function () {
  this.timeout(120_000);
  let hq: TestSide;
  let shops: Shop[];
  let connections = 0;

  beforeEach(async () => {
    const ids = [3, 7, 9];
    hq = await openHq('together', ids);
    shops = [];
    for (const id of ids) {
      const side = await openStore(`together ${id}`, id);
      const up = new Up(side, hq, id);
      const session = await openSession(side.db, await addRegister(side.db, id), id);
      await up.drain();
      shops.push({ id, side, up, session });
    }
    connections = 0;
    hq.pool.on('acquire', () => (connections += 1));
  });
  afterEach(async () => {
    for (const { side } of shops) await side.close();
    await hq.close();
  });

  /** Each store's next batch, of two sales. */
  const written = (): Promise<Push[]> =>
    Promise.all(
      shops.map(async ({ side, up, session, id }) => {
        for (const receipt of ['A', 'B']) await sell(side.db, session, { storeId: id, receipt });
        await up.outbox.seal();
        const message = await up.message();
        assert.equal(message?.txs.length, 2);
        return message;
      }),
    );
  const sendAll = (messages: readonly Push[]): Promise<PushResult[]> =>
    Promise.all(messages.map((message, n) => shops[n]?.up.send(message) ?? assert.fail()));
  const endsAt = (message: Push | undefined): object => ({
    result: 'ok',
    answer: { seq: (message?.first ?? 0) + 1, chain: message?.lastChain, dead: [] },
  });
  const allEqual = async (): Promise<void> => {
    for (const { side, id } of shops) assert.deepEqual(await differences(hq, side, id), []);
  };

  it('are taken in one transaction, each answered with its own history', async () => {
    const messages = await written();
    assert.deepEqual(await sendAll(messages), messages.map(endsAt));
    assert.equal(connections, 1);
    await allEqual();
    const { rows } = await hq.db.query(
      `select i.store_id from possync.inbox i join possync.inbox_chain c using (store_id, epoch, seq, chain)
         join possync.received r on r.store_id = i.store_id and r.type = 'sale' and r.records = 2 order by 1`,
    );
    assert.deepEqual(rows.map(Object.values), [[3], [7], [9]]);
    // The same batches again change nothing.
    assert.deepEqual(await sendAll(messages), messages.map(endsAt));
    await allEqual();
  });

  it('that do not fit are answered as they would be alone; the others are taken', async () => {
    const messages = await written();
    const [fenced, damaged, good] = messages;
    assert.ok(fenced !== undefined && damaged !== undefined && good !== undefined);
    const answers = await Promise.allSettled([
      shops[0]?.up.send({ ...fenced, fence: randomUUID() }),
      shops[1]?.up.send({ ...damaged, lastChain: '0'.repeat(64) }),
      shops[2]?.up.send(good),
    ]);
    assert.deepEqual(
      answers.map((answer) =>
        answer.status === 'rejected'
          ? (answer.reason as { code: string }).code
          : answer.value?.result === 'conflict'
            ? answer.value.conflict.code
            : answer.value?.result,
      ),
      ['fenced', 'PS-PROTOCOL', 'ok'],
    );
    const { sales } = await queryOne<{ sales: number }>(hq.db, 'select count(*) as sales from public.sales');
    assert.equal(sales, 2);
    for (const { up } of shops) await up.drain();
    await allEqual();
  });

  it('with one refused row: nothing stays of the common transaction, that store has its dead letter, the others their sales', async () => {
    const messages = await written();
    const sale = /^\(([^,]+),7,/m.exec(messages[1]?.txs[0]?.body ?? '')?.[1];
    assert.ok(sale !== undefined);
    // The same id with another content, as another program of HQ might have written it.
    await hq.db.query(`begin; set local possync.applying = 'on'`);
    await hq.db.query(
      `insert into public.sales (id, store_id, register_id, session_id, cashier_id, kind, status, receipt_number,
              subtotal, total, occurred_at, business_date)
       values ($1::uuid, 7, $2::uuid, $2::uuid, $2::uuid, 'sale', 'completed', 'X', 1, 1, now(), '2026-11-20')`,
      [sale, randomUUID()],
    );
    await hq.db.query('commit');
    const answers = await sendAll(messages);
    assert.deepEqual([answers[0], answers[2]], [endsAt(messages[0]), endsAt(messages[2])]);
    assert.ok(answers[1]?.result === 'ok');
    assert.deepEqual(answers[1].answer.dead, [messages[1]?.first]);
    const { rows } = await hq.db.query<{ id: number; sales: number }>(
      'select store_id as id, count(*) as sales from public.sales group by 1 order by 1',
    );
    assert.deepEqual(rows.map(Object.values), [
      [3, 2],
      [7, 2],
      [9, 2],
    ]);
    // They keep apart now: each its own transaction.
    for (const [n, { up }] of shops.entries()) {
      const [message, answer] = [messages[n], answers[n]];
      assert.ok(message !== undefined && answer?.result === 'ok');
      await up.outbox.acknowledge(message, answer.answer);
    }
    const next = await written();
    connections = 0;
    const after = await sendAll(next);
    assert.deepEqual([after[0], after[2]], [endsAt(next[0]), endsAt(next[2])]);
    assert.equal(connections, 3);
  });

  it('wait for no store whose row is held', async () => {
    const messages = await written();
    await hq.db.query('begin');
    await hq.db.query('select from possync.inbox where store_id = 7 for update');
    const sent = messages.map((message, n) => shops[n]?.up.send(message));
    assert.deepEqual(await Promise.all([sent[0], sent[2]]), [endsAt(messages[0]), endsAt(messages[2])]);
    await waitsForLock(hq.db);
    await hq.db.query('commit');
    assert.deepEqual(await sent[1], endsAt(messages[1]));
    await allEqual();
  });

  it('of a store with dead letters go alone, behind what they wait for', async () => {
    await hq.db.query(
      `insert into possync.dead (store_id, epoch, seq, v, body, type, key, aggregates, kind, error)
       values (9, 1, 1, 1, '{}', 'sale', 'x', '{sale:x}', 'data', 'no')`,
    );
    const messages = await written();
    const answers = await sendAll(messages);
    assert.deepEqual(answers.slice(0, 2), messages.slice(0, 2).map(endsAt));
    assert.ok(answers[2]?.result === 'ok');
    assert.deepEqual(answers[2].answer.dead, [1]);
    assert.equal(connections, 2);
  });
});
