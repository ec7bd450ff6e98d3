/** What a till may and may not do, and what of it is captured: rules, drafts, guards, echo. */
import assert from 'node:assert/strict';
import type pg from 'pg';
import { installTriggers } from '../../../src/db/capture.ts';
import { uuidv7 } from '../../../src/core/ids.ts';
import { waitsForLock } from '../../support/locks.ts';
import {
  addRegister,
  adjust,
  insertReceipt,
  insertTransfer,
  moveTransfer,
  openSession,
  openStore,
  sell,
  together,
  voidSale,
  type TestSide,
} from '../../support/pos.ts';

describe('rules of a till', () => {
  let store: TestSide;
  let session: string;
  before(async () => {
    store = await openStore('rules');
    session = await openSession(store.db, await addRegister(store.db));
  });
  after(() => store.close());
  beforeEach(() => store.db.query('delete from possync.raw'));

  const captured = async (): Promise<Record<string, number>> => {
    const { rows } = await store.db.query<{ tbl: string; n: number }>(
      'select tbl, count(*) as n from possync.raw group by tbl order by tbl',
    );
    return Object.fromEntries(rows.map(({ tbl, n }) => [tbl, n]));
  };
  const refused = async (code: string, sql: string, values: unknown[] = []): Promise<void> => {
    await assert.rejects(store.db.query(sql, values), { code }, sql);
  };

  it('keys, store_id and business_date never change', async () => {
    const sale = await sell(store.db, session);
    for (const change of [`store_id = 9`, `business_date = '2020-01-01'`]) {
      await refused('PS003', `update public.sales set ${change} where id = $1::uuid`, [sale]);
    }
    await refused('PS003', `update public.registers set store_id = 9`);
    await adjust(store.db, 1);
    await refused('PS003', `update public.inventory_adjustments set id = gen_random_uuid()`);
  });

  it('a completed sale is voided once and changes in nothing else', async () => {
    const sale = await sell(store.db, session);
    await refused('PS004', `update public.sales set total = 1 where id = $1::uuid`, [sale]);
    await refused('PS004', `update public.sales set voided_at = now() where id = $1::uuid`, [sale]);
    await refused('PS004', `update public.sale_lines set quantity = 1 where sale_id = $1::uuid`, [sale]);
    await voidSale(store.db, sale);
    await refused('PS004', `update public.sales set voided_by = gen_random_uuid() where id = $1::uuid`, [
      sale,
    ]);
    await refused('PS004', `update public.sales set status = 'completed' where id = $1::uuid`, [sale]);
  });

  it('adjustments and reports do not change; a session only moves forward', async () => {
    await adjust(store.db, 5);
    await refused('PS004', `update public.inventory_adjustments set quantity_delta = 6`);
    const other = await openSession(store.db, await addRegister(store.db));
    const to = (status: string): Promise<unknown> =>
      store.db.query(`update public.register_sessions set status = $2::text where id = $1::uuid`, [
        other,
        status,
      ]);
    await to('closing');
    await refused('PS004', `update public.register_sessions set status = 'open' where id = $1::uuid`, [
      other,
    ]);
    await to('closed');
    await refused('PS004', `update public.register_sessions set status = 'closing' where id = $1::uuid`, [
      other,
    ]);
  });

  it('what the same transaction wrote may still be completed', async () => {
    await together(store.db, async () => {
      const id = await adjust(store.db, 5);
      await store.db.query(`update public.inventory_adjustments set quantity_delta = 6 where id = $1::uuid`, [
        id,
      ]);
    });
    assert.deepEqual(await captured(), { inventory_adjustments: 2 });
  });

  it('refuses TRUNCATE', async () => {
    await refused('PS006', 'truncate public.sale_payments');
  });

  it('a draft reaches no one; its submission carries header and all lines', async () => {
    const id = await insertTransfer(store.db, { lines: 3 });
    await store.db.query(`update public.transfers set tracking_note = 'x' where id = $1::uuid`, [id]);
    await store.db.query(`update public.transfer_lines set quantity = 7 where transfer_id = $1::uuid`, [id]);
    assert.deepEqual(await captured(), {});
    await moveTransfer(store.db, id, 'pending');
    assert.deepEqual(await captured(), { transfer_lines: 3, transfers: 1 });
    for (const change of [
      `update public.transfer_lines set quantity = 9 where transfer_id = '${id}'`,
      `delete from public.transfer_lines where transfer_id = '${id}'`,
      `insert into public.transfer_lines (transfer_id, line_no, product_id, quantity) values ('${id}', 9, gen_random_uuid(), 1)`,
    ]) {
      await refused('PS004', change);
    }
    await refused('PS004', `update public.transfers set status = 'draft' where id = $1::uuid`, [id]);
    await moveTransfer(store.db, id, 'in_transit');
    await refused('PS004', `update public.transfers set status = 'cancelled' where id = $1::uuid`, [id]);
    await refused('PS004', `update public.transfers set tracking_note = 'y' where id = $1::uuid`, [id]);
  });

  it('a transfer may be written and submitted in one transaction', async () => {
    await together(store.db, () => insertTransfer(store.db, { status: 'pending', lines: 2 }));
    assert.deepEqual(await captured(), { transfer_lines: 2, transfers: 1 });
  });

  it('a line written while somebody submits the draft is either among those captured or refused', async () => {
    const id = await insertTransfer(store.db, { lines: 1 });
    await store.db.query('delete from possync.raw');
    const other = await store.database.connect();
    await other.query('begin');
    await other.query(
      `insert into public.transfer_lines (transfer_id, line_no, product_id, quantity)
       values ($1::uuid, 5, gen_random_uuid(), 1)`,
      [id],
    );
    const submitted = moveTransfer(store.db, id, 'pending');
    await waitsForLock(other);
    await other.query('commit');
    await submitted;
    assert.deepEqual(await captured(), { transfer_lines: 2, transfers: 1 });
  });

  it('invariant 21: transfers of others and receipts that are not ours are read-only', async () => {
    const foreign = uuidv7();
    const incoming = uuidv7();
    await asApply(store.db, async () => {
      await insertTransfer(store.db, { id: foreign, from: 8, to: 9, status: 'in_transit' });
      await insertTransfer(store.db, { id: incoming, from: 8, to: 7, status: 'pending' });
    });
    await refused('PS002', `update public.transfers set status = 'cancelled' where id = $1::uuid`, [
      incoming,
    ]);
    await refused('PS002', `delete from public.transfer_lines where transfer_id = $1::uuid`, [incoming]);
    await assert.rejects(insertTransfer(store.db, { from: 8, to: 7 }), { code: 'PS002' });
    await assert.rejects(insertReceipt(store.db, foreign), { code: 'PS002' });
    await assert.rejects(insertReceipt(store.db, uuidv7()), { code: 'PS002' });
    await assert.rejects(insertReceipt(store.db, incoming), { code: 'PS004' });
    await asApply(store.db, () => moveTransfer(store.db, incoming, 'in_transit'));
    assert.deepEqual(await captured(), {});
    await together(store.db, () => insertReceipt(store.db, incoming));
    assert.deepEqual(await captured(), { transfer_receipt_lines: 2, transfer_receipts: 1 });
  });

  it('invariant 23: what an apply writes is not captured; the setting alone does not make an apply', async () => {
    await asApply(store.db, () => adjust(store.db, 1));
    assert.deepEqual(await captured(), {});
    const till = await store.database.psqlAs('possync_pos');
    await together(till, async () => {
      await till.query(`set local possync.applying = 'on'`);
      await adjust(till, 2);
    });
    assert.deepEqual(await captured(), { inventory_adjustments: 1 });
    await assert.rejects(till.query('select 1 from possync.raw'), { code: '42501' });
  });

  it('tells the daemon at once of a void, and not of an ordinary sale', async () => {
    const listener = await store.database.connect();
    let heard = 0;
    listener.on('notification', () => (heard += 1));
    await listener.query('listen possync_outbox');
    const sale = await sell(store.db, session);
    await listener.query('select 1');
    assert.equal(heard, 0);
    await voidSale(store.db, sale);
    await listener.query('select 1');
    assert.equal(heard, 1);
  });

  it('an upgrade puts the triggers in place beside a backup, so that no till waits behind the two', async () => {
    await store.db.query('alter table public.sales disable trigger possync_up_insert');
    const backup = await store.database.connect();
    await backup.query('begin; lock table public.sales, public.transfer_lines in access share mode');
    const upgrade = await store.database.connect();
    await upgrade.query(`set lock_timeout = '2s'`);
    await installTriggers(upgrade, 'store');
    await backup.query('rollback');
    await sell(store.db, session);
    assert.equal((await captured()).sales, 1, 'a disabled trigger came back enabled');
  });
});

async function asApply(db: pg.Client, work: () => Promise<unknown>): Promise<void> {
  await together(db, async () => {
    await db.query(`set local possync.applying = 'on'`);
    await work();
  });
}
