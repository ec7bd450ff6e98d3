/** The queue as people see it: waiting + sending = queued, parked beside it, and fast when it is long. */
import assert from 'node:assert/strict';
import { PossyncError } from '../../../src/core/errors.ts';
import { queryOne } from '../../../src/db/transaction.ts';
import { Outbox } from '../../../src/store/outbox/outbox.ts';
import {
  countQueue,
  listQueue,
  showEntry,
  type QueueEntry,
  type QueueFilters,
} from '../../../src/store/outbox/queue.ts';
import {
  addRegister,
  adjust,
  openSession,
  openStore,
  sell,
  together,
  type TestSide,
} from '../../support/pos.ts';

describe('queue', () => {
  let store: TestSide;
  let outbox: Outbox;
  let session: string;
  before(async () => {
    store = await openStore('queue');
    outbox = new Outbox(store.pool);
    session = await openSession(store.db, await addRegister(store.db));
    await sell(store.db, session);
    await sell(store.db, session, { kind: 'refund' });
    await together(store.db, async () => {
      await adjust(store.db, 1);
      await adjust(store.db, 2);
    });
    await outbox.seal();
  });
  after(() => store.close());

  const list = async (filters: QueueFilters = {}): Promise<QueueEntry[]> => {
    const found: QueueEntry[] = [];
    for await (const entry of listQueue(store.pool, filters)) found.push(entry);
    return found;
  };
  const brief = (entries: readonly QueueEntry[]): unknown[] =>
    entries.map(({ seq, type, records, high, state }) => [seq, type, records, high ? 'high' : '-', state]);

  it('lists in send order, the captures that are not sealed yet at the end', async () => {
    await adjust(store.db, 3);
    assert.deepEqual(brief(await list()), [
      [1, 'register', 1, 'high', 'waiting'],
      [2, 'session', 1, 'high', 'waiting'],
      [3, 'sale', 1, '-', 'waiting'],
      [4, 'sale', 1, 'high', 'waiting'],
      [5, 'inventory_adjustment', 2, '-', 'waiting'],
      [null, 'inventory_adjustment', 1, '-', 'waiting'],
    ]);
    const counts = await countQueue(store.pool);
    assert.deepEqual(
      { queued: counts.queued, waiting: counts.waiting, high: counts.queuedHigh, unsealed: counts.unsealed },
      { queued: 6, waiting: 6, high: 3, unsealed: 1 },
    );
    assert.deepEqual(counts.byType, { inventory_adjustment: 3, register: 1, sale: 2, session: 1 });
    assert.ok(counts.bytes > 1_000 && counts.oldestAt !== null);
    await outbox.seal();
    assert.equal((await countQueue(store.pool)).queued, 6);
  });

  it('filters by type, priority, age and number', async () => {
    assert.deepEqual(
      (await list({ type: 'sale' })).map(({ seq }) => seq),
      [3, 4],
    );
    assert.deepEqual(
      (await list({ priority: 'high', limit: 2 })).map(({ seq }) => seq),
      [1, 2],
    );
    assert.deepEqual(await list({ olderThanMs: 3_600_000 }), []);
    assert.deepEqual(
      (await list({ sort: 'bytes', limit: 1 })).map(({ type }) => type),
      ['sale'],
    );
  });

  it('shows what is being sent, how often it was tried, and what waits behind it', async () => {
    const batch = await outbox.nextBatch({ transactions: 2 });
    assert.ok(batch !== undefined);
    await outbox.noteSending(batch);
    const sending = await countQueue(store.pool);
    assert.deepEqual([sending.queued, sending.sending, sending.waiting], [6, 2, 4]);
    assert.deepEqual(
      (await list({ state: 'sending' })).map(({ seq }) => seq),
      [1, 2],
    );
    const error = new PossyncError('PS-HQ-UNREACHABLE', 'no line');
    await outbox.noteFailure(error.code, error.message, 40_000);
    await outbox.noteSending(batch);
    await outbox.noteFailure(error.code, error.message, 40_000);
    const entries = await list({ limit: 3 });
    assert.deepEqual(
      entries.map(({ tries, after, lastError, state }) => ({ tries, after, lastError, state })),
      [
        { tries: 2, after: null, lastError: 'PS-HQ-UNREACHABLE', state: 'waiting' },
        { tries: 2, after: null, lastError: 'PS-HQ-UNREACHABLE', state: 'waiting' },
        { tries: 0, after: 1, lastError: null, state: 'waiting' },
      ],
    );
    assert.ok(entries[0]?.nextTryAt !== null);
  });

  it('counts what HQ parked beside the queue', async () => {
    const batch = await outbox.nextBatch({ transactions: 3 });
    assert.ok(batch !== undefined);
    await outbox.acknowledge(batch, { seq: 3, chain: batch.lastChain, dead: [3] });
    const counts = await countQueue(store.pool);
    assert.deepEqual([counts.queued, counts.parked, counts.byType.register], [3, 1, undefined]);
    assert.deepEqual(brief(await list({ limit: 2 })), [
      [3, 'sale', 1, '-', 'parked'],
      [4, 'sale', 1, 'high', 'waiting'],
    ]);
    assert.equal((await showEntry(store.pool, 3)).state, 'parked');
  });

  it('lists for every combination of filters what the whole list has', async function () {
    this.timeout(180_000);
    await adjust(store.db, 4); // not sealed: after what waits, whose head is being sent
    const batch = await outbox.nextBatch({ transactions: 1 });
    assert.ok(batch !== undefined);
    await outbox.noteSending(batch);
    const all = await list();
    assert.deepEqual(new Set(all.map(({ state }) => state)), new Set(['parked', 'sending', 'waiting']));
    const types = new Map<QueueEntry, ReadonlySet<string>>();
    for (const type of ['sale', 'inventory_adjustment', 'nothing'])
      for (const { seq, capturedAt } of await list({ type }))
        for (const entry of all.filter((one) => one.seq === seq && one.capturedAt === capturedAt))
          types.set(entry, new Set([...(types.get(entry) ?? []), type]));
    assert.ok(all.every((entry) => types.get(entry)?.has(entry.type) === true));
    const orders = {
      send: () => 0,
      age: ({ capturedAt }: QueueEntry) => Date.parse(capturedAt),
      tries: ({ tries }: QueueEntry) => -tries,
      bytes: ({ bytes }: QueueEntry) => -bytes,
    };
    for (const type of [undefined, 'sale', 'inventory_adjustment', 'nothing'])
      for (const state of [undefined, 'waiting', 'sending', 'parked'] as const)
        for (const priority of [undefined, 'high', 'normal'] as const)
          for (const olderThanMs of [undefined, 0, 3_600_000])
            for (const sort of ['send', 'age', 'tries', 'bytes'] as const)
              for (const limit of [undefined, 2]) {
                const filters = { type, state, priority, olderThanMs, sort, limit };
                const given = Object.fromEntries(
                  Object.entries(filters).filter(([, of]) => of !== undefined),
                );
                const wanted = all
                  .filter((entry) => type === undefined || types.get(entry)?.has(type) === true)
                  .filter((entry) => state === undefined || entry.state === state)
                  .filter(({ high }) => priority === undefined || high === (priority === 'high'))
                  .filter(() => olderThanMs !== 3_600_000)
                  .sort((a, b) => orders[sort](a) - orders[sort](b))
                  .slice(0, limit);
                const found = await list(given);
                // Among equals any order will do.
                assert.deepEqual(found.map(orders[sort]), wanted.map(orders[sort]), JSON.stringify(given));
                if (limit === undefined || sort === 'send')
                  assert.deepEqual(
                    new Set(found.map(({ seq }) => seq)),
                    new Set(wanted.map(({ seq }) => seq)),
                    JSON.stringify(given),
                  );
              }
  });

  it('shows an entry, its body only when asked', async () => {
    const shown = await showEntry(store.pool, 4);
    assert.deepEqual([shown.type, shown.records, shown.rows, shown.body], ['sale', 1, 6, null]);
    assert.ok((await showEntry(store.pool, 4, { payload: true })).body?.includes('sale_payments'));
    await assert.rejects(showEntry(store.pool, 999), { code: 'PS-QUEUE-UNKNOWN' });
  });

  it('invariant 17: an answer with another chain acknowledges nothing and halts', async () => {
    const batch = await outbox.nextBatch();
    assert.ok(batch !== undefined);
    const settled = await outbox.acknowledge(batch, { seq: 5, chain: 'ab'.repeat(32), dead: [] });
    assert.ok(settled.result === 'halted' && settled.code === 'PS-UP-DIVERGED');
    assert.equal(await outbox.nextBatch(), undefined);
    assert.equal((await countQueue(store.pool)).queued, 4);
    assert.equal((await countQueue(store.pool)).halted, 'PS-UP-DIVERGED');
  });

  it('the running totals agree with the rows', async () => {
    const { rows } = await store.db.query<{ side: string; n: number }>(
      `select side, n from possync.tally where what = '#entries' order by side`,
    );
    const { all, acked } = await queryOne<{ all: number; acked: number }>(
      store.db,
      'select count(*) as all, count(possync.acked_at(o.epoch, o.seq)) as acked from possync.outbox o',
    );
    assert.deepEqual(rows, [
      { side: 'acked', n: acked },
      { side: 'sealed', n: all },
    ]);
  });

  it('counts what is not sealed as its rows are, those that cancel others left out', async () => {
    const own = await openStore('queue unsealed');
    try {
      const here = await openSession(own.db, await addRegister(own.db));
      for (let n = 0; n < 3; n += 1) await sell(own.db, here, { lines: 1 + n, receipt: `R1-${n}` });
      await together(own.db, async () => {
        await adjust(own.db, 1);
        await adjust(own.db, 2);
        await sell(own.db, here, { receipt: 'R1-9' });
      });
      await own.db.query(
        `insert into possync.raw (type, tbl, op, pk, root, high) values ('sale', 'sales', 'D', 'x', 'x', true)`,
      );
      const naive = await queryOne<{ entries: number; high: number; bytes: number; types: string }>(
        own.db,
        `select count(distinct r.xid) as entries, count(distinct r.xid) filter (where r.high) as high,
                coalesce(sum(octet_length(r.doc)), 0)::bigint as bytes,
                (select json_object_agg(t.type, t.n)::text from (
                   select k.type, count(distinct (k.xid, k.root)) as n from possync.raw k where k.op <> 'D'
                    group by k.type) t) as types
           from possync.raw r`,
      );
      const { unsealed, queued, queuedHigh, bytes, byType } = await countQueue(own.db);
      assert.deepEqual(
        { entries: unsealed, high: queuedHigh, bytes, types: byType },
        { ...naive, types: JSON.parse(naive.types) as unknown },
      );
      assert.deepEqual([queued, byType.sale], [unsealed, 4]);
    } finally {
      await own.close();
    }
  });
});
