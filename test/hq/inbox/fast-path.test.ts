/** The fast way into HQ's tables: what it takes, what it leaves to the careful way, and that nothing differs for it. */
import assert from 'node:assert/strict';
import { queryOne } from '../../../src/db/transaction.ts';
import { ENTITIES } from '../../../src/protocol/entities.ts';
import { FastPath, type FastPlan } from '../../../src/hq/inbox/fast-path.ts';
import { readingOf } from '../../../src/hq/inbox/reading.ts';
import {
  addRegister,
  insertSale,
  openHq,
  openSession,
  openStore,
  sell,
  together,
  voidSale,
  type TestSide,
} from '../../support/pos.ts';
import { differences, Up } from '../../support/up.ts';
import type { Push } from '../../../src/protocol/messages.ts';

/** The tables that a message reaches by COPY, and the sequences of what is left. */
function planOf(message: Push | undefined, storeId = 7): { copied: string[]; left: number[] } {
  assert.ok(message !== undefined);
  const fast = new FastPath(ENTITIES);
  const entries = message.txs.map((tx) => ({ ...tx, epoch: message.epoch }));
  const plan: FastPlan | undefined = fast.plan(entries, storeId, fast.layouts, () => false);
  return {
    copied: (plan?.copies ?? []).map(({ sql, rows }) => `${/"(\w+)"/.exec(sql)?.[1] ?? ''} ${rows}`),
    left: (plan?.rest ?? []).map(({ seq }) => seq),
  };
}

describe('the fast way in', () => {
  /** Past the guard, as an apply writes. */
  const atHq = async (sql: string, values: unknown[]): Promise<void> => {
    await together(hq.db, async () => {
      await hq.db.query(`set local possync.applying = 'on'`);
      await hq.db.query(sql, values);
    });
  };
  let store: TestSide;
  let hq: TestSide;
  let up: Up;
  let session: string;
  before(async () => {
    store = await openStore('fast_store');
    hq = await openHq('fast_hq');
    up = new Up(store, hq);
    session = await openSession(store.db, await addRegister(store.db));
    await up.drain();
  });
  after(async () => {
    await store.close();
    await hq.close();
  });

  it('copies sales with their children, and leaves registers and voids to the careful way', async () => {
    const sale = await sell(store.db, session);
    await addRegister(store.db);
    await voidSale(store.db, sale);
    await up.outbox.seal();
    const message = await up.message();
    assert.deepEqual(planOf(message), {
      copied: ['sales 1', 'sale_lines 2', 'sale_line_taxes 2', 'sale_payments 1'],
      left: [(message?.first ?? 0) + 1, (message?.first ?? 0) + 2],
    });
    await up.drain();
    assert.deepEqual(await differences(hq, store), []);
    const { status } = await queryOne<{ status: string }>(
      hq.db,
      'select status from public.sales where id = $1::uuid',
      [sale],
    );
    assert.equal(status, 'voided');
  });

  it('brings every text as the till wrote it', async () => {
    const odd = [
      '',
      ' ',
      '\\.',
      'a\n\\.\nb',
      '"',
      '""',
      'a,b',
      '\\',
      '\\\\n',
      '(x)',
      'tab\t\r\n',
      'ü€😀',
      'I 1 0123abcd sales\n(1)',
      'NULL',
      '\\N',
    ];
    const ids = await together(store.db, async () => {
      const sales: string[] = [];
      for (const name of odd) {
        const sale = await insertSale(store.db, session, { receipt: name.replaceAll('\\', '/') });
        await store.db.query(
          'update public.sale_lines set name = $2::text, sku = $2::text where sale_id = $1::uuid',
          [sale, name],
        );
        await store.db.query(
          'update public.sale_payments set reference = nullif($2::text, $3::text) where sale_id = $1::uuid',
          [sale, name, 'NULL'],
        );
        sales.push(sale);
      }
      return sales;
    });
    await up.outbox.seal();
    assert.ok(planOf(await up.message()).copied.includes(`sale_lines ${2 * odd.length}`));
    await up.drain();
    assert.deepEqual(await differences(hq, store), []);
    const { rows } = await hq.db.query<{ name: string }>(
      'select l.name from public.sale_lines l join unnest($1::uuid[]) with ordinality x (id, n) on l.sale_id = x.id where l.line_no = 1 order by x.n',
      [ids],
    );
    assert.deepEqual(
      rows.map(({ name }) => name),
      odd,
    );
    assert.equal((await queryOne<{ n: number }>(hq.db, 'select count(*) as n from possync.dead')).n, 0);
  });

  it('does not depend on how the session of the till writes dates and times', async () => {
    const till = await store.database.connect();
    await till.query(
      `set datestyle = 'German, DMY'; set timezone = 'Asia/Kolkata'; set intervalstyle = 'iso_8601'`,
    );
    await sell(till, session, { businessDate: '2026-11-03' });
    await up.drain();
    assert.deepEqual(await differences(hq, store), []);
  });

  it('takes what triggers of version 1 have captured as JSON, in one transaction with rows as text', async () => {
    const sale = await sell(store.db, session);
    const { rowCount } = await store.db.query(
      `update possync.raw r set layout = null, doc = row_to_json(p)::text || E'\\n'
         from public.sale_payments p where r.tbl = 'sale_payments' and p.sale_id = $1::uuid`,
      [sale],
    );
    assert.equal(rowCount, 1);
    await up.outbox.seal();
    assert.equal(planOf(await up.message()).left.length, 1);
    await up.drain();
    assert.deepEqual(await differences(hq, store), []);
  });

  it('reads the rows of another release by the layouts of its hello, and asks for a hello where it has none', async () => {
    const layouts = (await readingOf(hq.pool, ENTITIES)).fast.layouts;
    const lines = [...layouts.values()].find(({ table }) => table === 'sale_payments');
    assert.ok(lines !== undefined);
    // A release without the last column, under an id of its own.
    await sell(store.db, session);
    await store.db.query(
      `update possync.raw set layout = 'feedbeef sale_payments', doc = regexp_replace(doc, ',[^,]*\\)$', ')')
        where tbl = 'sale_payments'`,
    );
    await up.outbox.seal();
    const message = await up.message();
    const unknown = await up.send(message ?? assert.fail());
    assert.ok(unknown.result === 'conflict' && unknown.conflict.code === 'fenced');
    await store.db.query(
      'insert into possync.layouts (id, tbl, columns) values ($1::text, $2::text, $3::text[])',
      ['feedbeef', 'sale_payments', lines.columns.slice(0, -1)],
    );
    await up.hello();
    await up.drain();
    assert.deepEqual(await differences(hq, store), []);
  });

  it('takes rows that were there before for what they are: the same is nothing new, another content a dead letter', async () => {
    const sale = await sell(store.db, session);
    await up.outbox.seal();
    const message = await up.message();
    await atHq(
      `insert into public.sale_payments (store_id, business_date, sale_id, payment_no, tender, amount)
       values (7, '2026-11-20', $1::uuid, 1, 'cash', 2160)`,
      [sale],
    );
    assert.deepEqual(planOf(message).left, []);
    await up.drain();
    assert.deepEqual(await differences(hq, store), []);
    const other = await sell(store.db, session);
    await atHq(
      `insert into public.sale_payments (store_id, business_date, sale_id, payment_no, tender, amount)
       values (7, '2026-11-20', $1::uuid, 1, 'card', 1)`,
      [other],
    );
    await up.drain();
    const { rows } = await hq.db.query<{ key: string; sqlstate: string; json: boolean }>(
      `select key, sqlstate, body is json as json from possync.dead`.replace(
        'body is json',
        'body::json is not null',
      ),
    );
    assert.deepEqual(rows, [{ key: other, sqlstate: 'PS410', json: true }]);
    await hq.db.query('delete from possync.dead');
  });

  it('invariant 22: never copies a header that names another store, nor children under it', async () => {
    await store.db.query('alter table public.sales disable trigger all');
    await store.db.query('alter table public.sales enable trigger possync_up_insert');
    const sale = await sell(store.db, session, { storeId: 8 });
    await store.db.query('alter table public.sales enable trigger all');
    await up.outbox.seal();
    const message = await up.message();
    assert.deepEqual(planOf(message).copied, []);
    // Negative control: for the store that it names it would be copied.
    assert.equal(planOf(message, 8).copied.length, 4);
    await up.drain();
    const { rows } = await hq.db.query<{ key: string; sqlstate: string }>(
      'select key, sqlstate from possync.dead',
    );
    assert.deepEqual(rows, [{ key: sale, sqlstate: 'PS403' }]);
    const { n } = await queryOne<{ n: number }>(
      hq.db,
      'select count(*) as n from public.sale_lines where sale_id = $1::uuid',
      [sale],
    );
    assert.equal(n, 0);
    await hq.db.query('delete from possync.dead');
  });
});
