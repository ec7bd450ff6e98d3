/** The inbox: batches are applied exactly once, in order, into the right partitions. */
import assert from 'node:assert/strict';
import { queryOne } from '../../../src/db/transaction.ts';
import { ensurePartitions } from '../../../src/hq/inbox/partitions.ts';
import {
  addRegister,
  adjust,
  insertSale,
  openHq,
  openSession,
  openStore,
  sell,
  together,
  voidSale,
  type TestSide,
} from '../../support/pos.ts';
import { waitsForLock } from '../../support/locks.ts';
import { until } from '../../support/until.ts';
import { differences, Up } from '../../support/up.ts';

describe('push', () => {
  let store: TestSide;
  let hq: TestSide;
  let up: Up;
  let session: string;
  before(async () => {
    [store, hq] = await Promise.all([openStore('push'), openHq('push')]);
    up = new Up(store, hq);
    session = await openSession(store.db, await addRegister(store.db));
  });
  after(async () => {
    await store.close();
    await hq.close();
  });

  it('invariant 16: takes a batch once, and answers the same batch again with where it stands', async () => {
    await sell(store.db, session);
    await up.hello();
    await up.outbox.seal();
    const message = await up.message();
    assert.ok(message !== undefined);
    const first = await up.send(message);
    const repeated: number[] = [];
    const second = await up.send(message, { repeated: (entries) => repeated.push(entries) });
    assert.equal(first.result, 'ok');
    assert.deepEqual(second, first);
    assert.deepEqual(repeated, [message.txs.length], 'all of it is counted as having come before');
    assert.deepEqual(await differences(hq, store), []);
    const { seq } = await queryOne<{ seq: number }>(hq.db, 'select seq from possync.inbox');
    assert.equal(seq, 3);
    assert.equal(await up.drain(), 1);
    assert.equal(await up.drain(), 0);
  });

  it('invariant 16: nothing of a batch stays at HQ when the inbox cannot move with it', async () => {
    const sale = await sell(store.db, session);
    await up.hello();
    await up.outbox.seal();
    const message = await up.message();
    assert.ok(message !== undefined);
    const atHq = async (): Promise<number | null> =>
      (await hq.db.query('select from public.sales where id = $1::uuid', [sale])).rowCount;
    await hq.db.query('alter table possync.inbox_chain add constraint stuck check (seq < 0) not valid');
    await assert.rejects(up.send(message));
    assert.equal(await atHq(), 0);
    await hq.db.query('alter table possync.inbox_chain drop constraint stuck');
    await up.drain();
    assert.equal(await atHq(), 1);
    assert.deepEqual(await differences(hq, store), []);
  });

  it('applies states, voids and several months in one batch', async () => {
    const voided = await sell(store.db, session, { businessDate: '2025-12-31' });
    await sell(store.db, session, { businessDate: '2026-01-01', kind: 'refund' });
    await sell(store.db, session, { businessDate: '2019-02-28' });
    await voidSale(store.db, voided);
    await store.db.query(
      `update public.register_sessions set status = 'closed', closed_at = now() where id = $1::uuid`,
      [session],
    );
    assert.equal(await up.drain(), 1);
    assert.deepEqual(await differences(hq, store), []);
  });

  it('moves rows of a new month out of the default partition, and keeps those of no possible month there', async () => {
    const rowsIn = async (table: string): Promise<number> =>
      (await queryOne<{ n: number }>(hq.db, `select count(*) as n from public.${table}`)).n;
    assert.ok((await rowsIn('sales_default')) > 0);
    await adjust(store.db, 1, { businessDate: '1999-01-01' });
    await up.drain();
    const report = await ensurePartitions(hq.pool);
    assert.ok(report.created >= 12);
    assert.equal(report.unplaceable, 1);
    assert.equal(await rowsIn('sales_default'), 0);
    assert.equal(await rowsIn('sale_lines_default'), 0);
    assert.equal(await rowsIn('sales_2019_02'), 1);
    assert.equal(await rowsIn('inventory_adjustments_default'), 1);
    assert.deepEqual(await differences(hq, store), []);
    assert.equal((await ensurePartitions(hq.pool)).created, 0);
  });

  it('a re-sent row meets the same partition after the move, and an early void finds its sale there', async () => {
    const fresh = await openSession(store.db, await addRegister(store.db));
    const sale = await sell(store.db, fresh, { businessDate: '2019-03-01' });
    await up.drain();
    await ensurePartitions(hq.pool);
    await voidSale(store.db, sale);
    await up.drain();
    assert.deepEqual(await differences(hq, store), []);
  });

  it('whoever reads while rows move to their month sees each of them (negative control: a move that locks only their partition)', async () => {
    const fresh = await openSession(store.db, await addRegister(store.db));
    for (const month of ['2018-01-05', '2018-02-05']) await sell(store.db, fresh, { businessDate: month });
    await up.drain();
    const mover = await hq.database.connect();
    const reader = await hq.database.connect();
    /** The lines of a month, asked for while `lock` was held and the month was made. */
    const linesSeen = async (month: string, lock: string): Promise<number> => {
      await mover.query(`begin; ${lock}`);
      await mover.query(`select possync.ensure_month('sale_lines', $1::date)`, [month]);
      const seen = queryOne<{ n: number }>(
        reader,
        `select count(*) as n from public.sale_lines where business_date = date '${month}'`,
      );
      await waitsForLock(mover);
      await mover.query('commit');
      return (await seen).n;
    };
    assert.equal(
      await linesSeen('2018-01-05', 'lock table only public.sale_lines in access exclusive mode'),
      2,
    );
    assert.equal(await linesSeen('2018-02-05', ''), 0);
    await sell(store.db, fresh, { businessDate: '2018-03-05' });
    await up.drain();
    // The real one: it waits for whoever reads, and takes that lock itself.
    await reader.query('begin; select count(*) from public.sale_lines');
    const moved = ensurePartitions(hq.pool);
    await until(
      async () =>
        (
          await mover.query(
            `select from pg_locks l where l.relation = 'public.sale_lines'::regclass
                and l.mode = 'AccessExclusiveLock' and not l.granted`,
          )
        ).rowCount === 1,
      { what: 'the move waits for the table itself' },
    );
    await reader.query('commit');
    await moved;
    await ensurePartitions(hq.pool);
    assert.deepEqual(await differences(hq, store), []);
  });

  it('refuses a gap, another fence, another history and a damaged batch, and applies nothing of them', async () => {
    const fresh = await openSession(store.db, await addRegister(store.db));
    await sell(store.db, fresh);
    await sell(store.db, fresh);
    await up.outbox.seal();
    const message = await up.message();
    assert.ok(message !== undefined);
    const [head, ...rest] = message.txs;
    assert.ok(head !== undefined);
    const codeOf = async (changed: Partial<typeof message>): Promise<string> => {
      const result = await up.send({ ...message, ...changed });
      return result.result === 'conflict' ? result.conflict.code : result.result;
    };
    assert.equal(await codeOf({ first: message.first + 1, txs: rest }), 'gap');
    assert.equal(await codeOf({ fence: '00000000-0000-4000-8000-000000000000' }), 'fenced');
    assert.equal(await codeOf({ prev: 'ab'.repeat(32) }), 'diverged');
    assert.equal(await codeOf({ epoch: 2 }), 'epoch');
    await assert.rejects(up.send({ ...message, txs: [{ ...head, body: `${head.body} ` }, ...rest] }), {
      code: 'PS-PROTOCOL',
    });
    await assert.rejects(up.send({ ...message, txs: [...rest, head] }), { code: 'PS-PROTOCOL' });
    const { seq } = await queryOne<{ seq: number }>(hq.db, 'select seq from possync.inbox');
    assert.equal(seq, message.first - 1);
    await up.drain();
    assert.deepEqual(await differences(hq, store), []);
  });

  it('cuts batches only between transactions: 1,000 of them, about 1 MB, or one larger one alone', async () => {
    const fresh = await openSession(store.db, await addRegister(store.db));
    for (let i = 0; i < 4; i += 1) await sell(store.db, fresh);
    await together(store.db, async () => {
      for (let i = 0; i < 5; i += 1) await insertSale(store.db, fresh, { lines: 100 });
    });
    await sell(store.db, fresh);
    await up.outbox.seal();
    const sizes: number[] = [];
    for (;;) {
      const message = await up.message({ bytes: 10_000, transactions: 3 });
      if (message === undefined) break;
      sizes.push(message.txs.length);
      const result = await up.send(message);
      assert.ok(result.result === 'ok');
      await up.outbox.acknowledge(message, result.answer);
    }
    assert.deepEqual(sizes, [3, 3, 1, 1]);
    assert.deepEqual(await differences(hq, store), []);
  });

  it('invariant 22: refuses a row with the id of another store, whatever else the batch holds', async () => {
    await adjust(store.db, 5, { storeId: 8 });
    await up.drain();
    const { rows } = await hq.db.query<{ sqlstate: string }>('select sqlstate from possync.dead');
    assert.deepEqual(rows, [{ sqlstate: 'PS403' }]);
    const { n } = await queryOne<{ n: number }>(
      hq.db,
      'select count(*) as n from public.inventory_adjustments where store_id = 8',
    );
    assert.equal(n, 0);
  });

  it('HQ that is not migrated takes nothing, parks nothing and says so', async () => {
    await hq.db.query('alter table public.zz_reports rename to zz_away');
    await store.db.query(
      `insert into public.zz_reports (id, store_id, number, month, z_report_ids) values (gen_random_uuid(), 7, 1, '2026-01', '{}')`,
    );
    await up.outbox.seal();
    const message = await up.message();
    assert.ok(message !== undefined);
    const result = await up.send(message);
    assert.ok(result.result === 'not-ready' && result.error.code === 'PS-HQ-NOTREADY');
    const { dead } = await queryOne<{ dead: number }>(hq.db, 'select count(*) as dead from possync.dead');
    assert.equal(dead, 1);
    await hq.db.query('alter table public.zz_away rename to zz_reports');
    await up.drain();
    const { stopped } = await queryOne<{ stopped: string | null }>(
      hq.db,
      'select stopped from possync.inbox',
    );
    assert.equal(stopped, null);
  });
});
