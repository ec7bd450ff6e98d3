/** What time alone does to the feed, and what an administrator may ask of it. */
import assert from 'node:assert/strict';
import { uuidv7 } from '../../../src/core/ids.ts';
import { queryOne } from '../../../src/db/transaction.ts';
import { CursorBook } from '../../../src/hq/feed/cursors.ts';
import { maintainFeed, pruneRounds } from '../../../src/hq/feed/maintenance.ts';
import { reproject } from '../../../src/hq/feed/reproject.ts';
import { pull, seal } from '../../support/feed.ts';
import { openHq, openStore, type TestSide } from '../../support/pos.ts';

describe('upkeep of the feed', () => {
  let hq: TestSide;

  beforeEach(async () => {
    hq = await openHq('upkeep', [1, 2]);
    await seal(hq.db);
  });
  afterEach(() => hq.close());

  const heads = async (): Promise<number[]> =>
    (await hq.db.query<{ head: number }>('select head from possync.rounds order by head')).rows.map(
      (r) => r.head,
    );

  it('forgets old rounds, but neither the newest nor one that a store stands on', async () => {
    for (let n = 0; n < 4; n += 1) {
      await hq.db.query(
        `insert into public.departments (id, code, name) values (gen_random_uuid(), $1, 'd')`,
        [`D${n}`],
      );
      await seal(hq.db);
    }
    assert.deepEqual(await heads(), [0, 2, 3, 4, 5, 6]);
    await hq.db.query(`update possync.rounds set sealed_at = now() - interval '36 days' where head <> 5`);
    const book = new CursorBook();
    book.note(1, 2);
    book.note(1, 3);
    book.note(2, 3);
    await book.flush(hq.db);
    await book.flush(hq.db);
    assert.equal(await pruneRounds(hq.db), 3);
    assert.deepEqual(await heads(), [3, 5, 6]);
  });

  it('takes a transfer out of both audiences 90 days after its end, and the stores keep their rows', async () => {
    const [from, to] = [await openStore('upkeep from', 1), await openStore('upkeep to', 2)];
    const [received, cancelled, young] = [uuidv7(), uuidv7(), uuidv7()];
    const insert = (id: string, status: string): string => `
      insert into public.transfers (id, number, from_store_id, to_store_id, status, created_by)
      values ('${id}', 'T', 1, 2, '${status}', '${id}');
      insert into public.transfer_lines (transfer_id, line_no, product_id, quantity) values ('${id}', 1, '${id}', 5);`;
    const receive = (id: string, at: string): string => `
      insert into public.transfer_receipts (transfer_id, store_id, received_by, received_at) values ('${id}', 2, '${id}', ${at});`;
    const apply = (text: string): Promise<unknown> =>
      hq.db.query(`begin; set local possync.applying = 'on'; ${text} commit`);
    await apply(
      insert(received, 'in_transit') +
        insert(cancelled, 'cancelled') +
        insert(young, 'in_transit') +
        receive(received, 'now()') +
        receive(young, 'now()'),
    );
    await seal(hq.db);
    for (const [side, id] of [
      [from, 1],
      [to, 2],
    ] as const)
      await pull(hq.pool, side.pool, id);
    const count = async (side: TestSide, table: string): Promise<number> =>
      (await queryOne<{ n: number }>(side.db, `select count(*) as n from public.${table}`)).n;
    assert.deepEqual(
      [await count(to, 'transfers'), await count(from, 'transfers'), await count(from, 'transfer_receipts')],
      [3, 0, 2], // nobody gets its own rows back
    );
    // The destination has counted it in: its own row there.
    await to.db.query(`begin; set local possync.applying = 'on';
      insert into public.transfer_receipts (transfer_id, received_by, received_at) values ('${received}', '${received}', now()); commit`);

    // Three months pass; no trigger sees that.
    await hq.db
      .query(`alter table public.transfers disable trigger user; alter table public.transfer_receipts disable trigger user;
      update public.transfers set updated_at = now() - interval '91 days' where id = '${cancelled}';
      update public.transfer_receipts set received_at = now() - interval '91 days' where transfer_id = '${received}';
      alter table public.transfers enable trigger user; alter table public.transfer_receipts enable trigger user`);
    assert.deepEqual(await maintainFeed(hq.db), { prunedRounds: 0, retiredTransfers: 3 });
    await seal(hq.db);
    for (const [side, id] of [
      [from, 1],
      [to, 2],
    ] as const)
      assert.equal((await pull(hq.pool, side.pool, id)).result, 'applied');
    assert.deepEqual(
      [
        await count(to, 'transfers'),
        await count(to, 'transfer_lines'),
        await count(from, 'transfer_receipts'),
      ],
      [3, 3, 2],
    );
    assert.deepEqual(await maintainFeed(hq.db), { prunedRounds: 0, retiredTransfers: 0 });
    const { live } = await queryOne<{ live: number }>(
      hq.db,
      `select count(*) as live from possync.feed f where f.entity like 'transfer%' and f.doc is not null`,
    );
    assert.equal(live, 2, 'a store that starts new gets the young one only');
    await from.close();
    await to.close();
  });

  it('deletes a transfer that was only announced and went to another store', async () => {
    const [old, other] = [await openStore('reroute old', 2), await openStore('reroute new', 3)];
    const id = uuidv7();
    const apply = (text: string): Promise<unknown> =>
      hq.db.query(`begin; set local possync.applying = 'on'; ${text}; commit`);
    await apply(`insert into public.transfers (id, number, from_store_id, to_store_id, status, created_by)
      values ('${id}', 'T', 1, 2, 'pending', '${id}')`);
    await seal(hq.db);
    await pull(hq.pool, old.pool, 2);
    await apply(`update public.transfers set to_store_id = 3`);
    await seal(hq.db);
    await pull(hq.pool, old.pool, 2);
    await pull(hq.pool, other.pool, 3);
    const n = async (side: TestSide): Promise<number> =>
      (await queryOne<{ n: number }>(side.db, 'select count(*) as n from public.transfers')).n;
    assert.deepEqual([await n(old), await n(other)], [0, 1]);
    await old.close();
    await other.close();
  });

  it('projects a type again: what changed unseen travels, and nothing else', async () => {
    await hq.db.query(
      `insert into public.departments (id, code, name) select gen_random_uuid(), 'D' || i, 'd' from generate_series(1, 5) i`,
    );
    await seal(hq.db);
    await hq.db.query(`alter table public.departments disable trigger user;
      update public.departments set name = 'unseen' where code = 'D1'; delete from public.departments where code = 'D2';
      alter table public.departments enable trigger user`);
    assert.equal(await reproject(hq.pool, 'department'), 2);
    assert.equal(await reproject(hq.pool, 'department'), 0);
    await assert.rejects(reproject(hq.pool, 'sale'), { code: 'PS-USAGE' });
  });
});
