/** Capture and sealing: each committed store transaction becomes one entry, whole and in order. */
import assert from 'node:assert/strict';
import { queryOne } from '../../../src/db/transaction.ts';
import { nextChain } from '../../../src/core/chain.ts';
import { Outbox } from '../../../src/store/outbox/outbox.ts';
import { jsonOf } from '../../support/bodies.ts';
import {
  addRegister,
  adjust,
  insertSale,
  openSession,
  openStore,
  sell,
  together,
  voidSale,
  type TestSide,
} from '../../support/pos.ts';

interface Entry {
  seq: number;
  body: string;
  chain: string;
  high: boolean;
  type: string;
  key: string;
  records: number;
  rows: number;
  types: string;
}

/** Rows of one table in a body. */
function rowsIn(entry: Entry | undefined, table: string): Record<string, unknown>[] {
  const body = new Map(
    Object.entries(JSON.parse(jsonOf(entry?.body ?? '{}')) as Record<string, Record<string, unknown>[]>),
  );
  return body.get(table) ?? [];
}

async function entries(side: TestSide): Promise<Entry[]> {
  const { rows } = await side.db.query<Entry>(
    `select seq, body, encode(chain, 'hex') as chain, high, type, key, records, rows, types::text as types
       from possync.outbox order by epoch, seq`,
  );
  return rows;
}

describe('sealing', () => {
  let store: TestSide;
  let outbox: Outbox;
  before(async () => {
    store = await openStore('seal');
    outbox = new Outbox(store.pool);
  });
  after(() => store.close());

  it('invariant 13: a sale with lines, taxes and payments is one entry, whole', async () => {
    const register = await addRegister(store.db);
    const session = await openSession(store.db, register);
    const sale = await sell(store.db, session);
    assert.equal(await outbox.seal(), 3);
    const sealed = await entries(store);
    const last = sealed.at(-1);
    assert.deepEqual(
      {
        seq: last?.seq,
        type: last?.type,
        key: last?.key,
        records: last?.records,
        rows: last?.rows,
        types: last?.types,
        high: last?.high,
      },
      { seq: 3, type: 'sale', key: sale, records: 1, rows: 6, types: '{"sale": 1}', high: false },
    );
    assert.deepEqual(Object.keys(JSON.parse(jsonOf(last?.body ?? '{}')) as object), [
      'sales',
      'sale_lines',
      'sale_line_taxes',
      'sale_payments',
    ]);
    assert.equal(rowsIn(last, 'sale_lines')[0]?.name, 'Item "1" ü€');
    assert.equal(rowsIn(last, 'sale_lines')[0]?.unit_price, '1000.5000');
  });

  it('invariant 15: each chain is the hash of the one before, the number and the body', async () => {
    let chain = '';
    for (const entry of await entries(store)) {
      chain = nextChain(chain, entry.seq, entry.body);
      assert.equal(entry.chain, chain);
    }
  });

  it('keeps only the last version of a row that one transaction wrote several times', async () => {
    const before = (await entries(store)).length;
    const session = await openSession(store.db, await addRegister(store.db));
    const id = await together(store.db, async () => {
      const sale = await insertSale(store.db, session, { lines: 2 });
      await store.db.query(`update public.sales set total = 5 where id = $1::uuid`, [sale]);
      await store.db.query(`delete from public.sale_line_taxes where sale_id = $1::uuid and line_no = 2`, [
        sale,
      ]);
      await store.db.query(`delete from public.sale_lines where sale_id = $1::uuid and line_no = 2`, [sale]);
      await store.db.query('savepoint s');
      await adjust(store.db, 5);
      await store.db.query('rollback to s');
      await voidSale(store.db, sale);
      return sale;
    });
    await outbox.seal();
    const last = (await entries(store)).slice(before).at(-1);
    assert.equal(rowsIn(last, 'sales').length, 1);
    assert.equal(rowsIn(last, 'sales')[0]?.total, '5');
    assert.equal(rowsIn(last, 'sales')[0]?.status, 'voided');
    assert.equal(rowsIn(last, 'sale_lines').length, 1);
    assert.deepEqual(rowsIn(last, 'inventory_adjustments'), []);
    assert.deepEqual({ high: last?.high, key: last?.key }, { high: true, key: id });
  });

  it('sends nothing for a transaction that took everything back, for a purge and for an update without a change', async () => {
    const session = await openSession(store.db, await addRegister(store.db));
    const sale = await sell(store.db, session);
    await outbox.seal();
    const before = (await entries(store)).length;
    await together(store.db, async () => {
      const id = await adjust(store.db, 1);
      await store.db.query('delete from public.inventory_adjustments where id = $1::uuid', [id]);
    });
    await store.db.query('delete from public.sale_payments where sale_id = $1::uuid', [sale]);
    await store.db.query(`update public.register_sessions set updated_at = now() where id = $1::uuid`, [
      session,
    ]);
    assert.equal(await outbox.seal(), 0);
    assert.equal((await entries(store)).length, before);
    const { left } = await queryOne<{ left: number }>(store.db, 'select count(*) as left from possync.raw');
    assert.equal(left, 0);
  });

  it('invariant 14: orders by the last capture of a transaction, so that a cause comes before its effect', async () => {
    const [early, late] = await Promise.all([store.database.connect(), store.database.connect()]);
    const register = await addRegister(store.db);
    await outbox.seal();
    // `late` begins and captures first, then sells in a session that `early` opens and commits meanwhile.
    await late.query('begin');
    await adjust(late, 1);
    const session = await openSession(early, register);
    const sale = await insertSale(late, session);
    await late.query('commit');
    const { rows } = await store.db.query<{ xid: string; first: number; last: number; types: string }>(
      `select xid::text as xid, min(id) as first, max(id) as last, string_agg(distinct type, ',') as types
         from possync.raw group by xid`,
    );
    const cause = rows.find((row) => row.types === 'session');
    const effect = rows.find((row) => row.types.includes('sale'));
    // Negative control: by transaction id or by first capture the sale would come before its session.
    assert.ok(cause !== undefined && effect !== undefined);
    assert.ok(BigInt(effect.xid) < BigInt(cause.xid) && effect.first < cause.first);
    await outbox.seal();
    const sealed = await entries(store);
    const seqOf = (key: string): number =>
      sealed.find((entry) => entry.body.includes(`\n(${key},`))?.seq ?? 0;
    assert.ok(seqOf(session) > 0 && seqOf(session) < seqOf(sale));
  });

  it('seals a transaction that was open during a round in a later one, and loses none', async () => {
    const slow = await store.database.connect();
    await slow.query('begin');
    const slowId = await adjust(slow, 1);
    const fastId = await adjust(store.db, 2);
    assert.equal(await outbox.seal(), 1);
    await slow.query('commit');
    assert.equal(await outbox.seal(), 1);
    const sealed = await entries(store);
    assert.ok(sealed.at(-2)?.body.includes(fastId) === true && sealed.at(-1)?.body.includes(slowId) === true);
  });

  it('lets only one sealer in; the other goes home', async () => {
    const holder = await store.database.connect();
    await adjust(store.db, 1);
    await holder.query('begin; lock table possync.seal_lock in exclusive mode');
    assert.equal(await outbox.seal(), 0);
    await holder.query('rollback');
    assert.equal(await outbox.seal(), 1);
    const { gaps } = await queryOne<{ gaps: number }>(
      store.db,
      `select count(*) as gaps from (select seq - lag(seq, 1, 0::bigint) over (order by seq) as step from possync.outbox) x where step <> 1`,
    );
    assert.equal(gaps, 0);
  });
});
