/** Small batches of several stores in one transaction: each store gets what it would have got alone. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { nextChain } from '../../../src/core/chain.ts';
import { queryOne } from '../../../src/db/transaction.ts';
import type { PushResult } from '../../../src/hq/inbox/push.ts';
import type { Push } from '../../../src/protocol/messages.ts';
import { waitsForLock } from '../../support/locks.ts';
import {
  addRegister,
  openHq,
  openSession,
  openStore,
  sell,
  writeAgain,
  type TestSide,
} from '../../support/pos.ts';
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

  /** Each store's next batch, of two sales; store 7 may have sold something before. */
  const written = (entriesOf7 = 2): Promise<Push[]> =>
    Promise.all(
      shops.map(async ({ side, up, session, id }) => {
        for (const receipt of ['A', 'B']) await sell(side.db, session, { storeId: id, receipt });
        await up.outbox.seal();
        const message = await up.message();
        assert.equal(message?.txs.length, id === 7 ? entriesOf7 : 2);
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

  it('one that does not fit is answered as it would be alone, and the others are taken', async () => {
    const chained = (message: Push): Push => ({
      ...message,
      lastChain: message.txs.reduce((before, { seq, body }) => nextChain(before, seq, body), message.prev),
    });
    // Each is whole in itself: only what HQ knows of the store tells that it is not the next one.
    const faults: [answer: string, (message: Push) => Push][] = [
      ['fenced', (message) => ({ ...message, fence: randomUUID() })],
      ['epoch', (message) => ({ ...message, epoch: message.epoch + 1 })],
      [
        'gap',
        (message) =>
          chained({
            ...message,
            first: message.first + 1,
            txs: message.txs.map((entry) => ({ ...entry, seq: entry.seq + 1 })),
          }),
      ],
      ['diverged', (message) => chained({ ...message, prev: '7'.repeat(64) })],
      ['PS-PROTOCOL', (message) => ({ ...message, lastChain: '0'.repeat(64) })],
    ];
    for (const [expected, faulty] of faults) {
      const messages = await written();
      const [first, middle, last] = messages;
      assert.ok(first !== undefined && middle !== undefined && last !== undefined);
      connections = 0;
      const [before, answer, after] = await Promise.allSettled([
        shops[0]?.up.send(first),
        shops[1]?.up.send(faulty(middle)),
        shops[2]?.up.send(last),
      ]);
      assert.equal(
        answer.status === 'rejected'
          ? (answer.reason as { code: string }).code
          : answer.value?.result === 'conflict'
            ? answer.value.conflict.code
            : answer.value?.result,
        expected,
      );
      assert.deepEqual(
        [before, after].map((one) => (one.status === 'fulfilled' ? one.value : String(one.reason))),
        [endsAt(first), endsAt(last)],
        expected,
      );
      assert.equal(connections, 2, `${expected}: all of them together, then that one alone`);
      for (const { up } of shops) await up.drain();
      await allEqual();
    }
  });

  it('with a sale that HQ has under another date: HQ has it once, that store has its dead letter', async () => {
    const [, shop] = shops;
    assert.ok(shop !== undefined);
    const sale = await sell(shop.side.db, shop.session, { storeId: 7, businessDate: '2026-11-20' });
    await shop.up.drain();
    await writeAgain(shop.side.db, 'sales', sale, '2026-11-19');
    const [first, , last] = shops;
    for (const { side, session, id } of [first, last].filter((one) => one !== undefined))
      await sell(side.db, session, { storeId: id });
    const messages: Push[] = [];
    for (const { up } of shops) {
      await up.outbox.seal();
      messages.push((await up.message()) ?? assert.fail('nothing to send'));
    }
    const answers = await sendAll(messages);
    assert.deepEqual(
      answers,
      messages.map((message, n) => ({
        result: 'ok',
        answer: { seq: message.first, chain: message.lastChain, dead: n === 1 ? [message.first] : [] },
      })),
    );
    const { rows } = await hq.db.query<{ date: string }>(
      'select s.business_date::text as date from public.sales s where s.id = $1::uuid',
      [sale],
    );
    assert.deepEqual(rows, [{ date: '2026-11-20' }]);
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

  it('with more than rows for COPY go alone, and nothing of them is left out', async () => {
    const messages: Push[] = [];
    for (const { side, session, id, up } of shops) {
      await sell(side.db, session, { storeId: id });
      if (id === 7) await addRegister(side.db, id);
      await up.outbox.seal();
      messages.push((await up.message()) ?? assert.fail('nothing to send'));
    }
    const answers = await sendAll(messages);
    assert.deepEqual(
      answers.map(({ result }) => result),
      ['ok', 'ok', 'ok'],
    );
    assert.equal(connections, 2);
    await allEqual();
  });

  it('that are large go alone', async () => {
    const [, shop] = shops;
    assert.ok(shop !== undefined);
    await sell(shop.side.db, shop.session, { storeId: 7, lines: 1_000 });
    await sendAll(await written(3));
    assert.equal(connections, 2);
    await allEqual();
  });

  it('end what was counted of refusals before, and that the store was stopped', async () => {
    await hq.db.query(
      `update possync.inbox set dead_streak = 3, breaker_waived = true, stopped = 'PS-UP-BREAKER',
              stopped_why = 'too much', stopped_at = now()`,
    );
    await sendAll(await written());
    assert.equal(connections, 1);
    const { rows } = await hq.db.query(
      `select distinct i.dead_streak, i.breaker_waived, i.stopped, i.stopped_why, i.stopped_at from possync.inbox i`,
    );
    assert.deepEqual(rows.map(Object.values), [[0, false, null, null, null]]);
  });

  it('let go of old points of a history as often as one that comes alone', async () => {
    const [, shop] = shops;
    assert.ok(shop !== undefined);
    const { seq } = await queryOne<{ seq: number }>(
      hq.db,
      'select i.seq from possync.inbox i where i.store_id = 7',
    );
    for (let n = seq; n < 48; n += 1) await sell(shop.side.db, shop.session, { storeId: 7 });
    await shop.up.drain();
    await hq.db.query(
      `insert into possync.inbox_chain (store_id, epoch, seq, chain)
       select s.id, 0, n, decode(repeat('ab', 32), 'hex') from generate_series(1, 2000) n cross join unnest('{3,7}'::integer[]) as s (id)`,
    );
    const messages = await written();
    connections = 0;
    assert.deepEqual(await sendAll(messages), messages.map(endsAt));
    assert.equal(connections, 1);
    const { rows } = await hq.db.query<{ id: number; many: boolean }>(
      `select c.store_id as id, count(*) > 2000 as many from possync.inbox_chain c
        where c.store_id in (3, 7) group by 1 order by 1`,
    );
    // Every fiftieth entry is the occasion: store 3 has not come that far.
    assert.deepEqual(rows.map(Object.values), [
      [3, true],
      [7, false],
    ]);
  });

  it('of a store where HQ has dropped a record go alone: what belongs to that has no beginning', async () => {
    await hq.db.query(
      `insert into possync.queue_audit (actor, action, store_id, epoch, seq, detail)
       values ('test', 'drop', 9, 1, 1, '{"aggregates": ["sale:x"]}')`,
    );
    const messages = await written();
    assert.deepEqual(await sendAll(messages), messages.map(endsAt));
    assert.equal(connections, 2);
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
