/** What an apply does to the tables of a store: changes in any order, removals by their rules, nothing by halves. */
import assert from 'node:assert/strict';
import { uuidv7 } from '../../../src/core/ids.ts';
import { queryOne } from '../../../src/db/transaction.ts';
import { stagePage } from '../../../src/store/mirror/cursor.ts';
import { readPage } from '../../../src/protocol/page.ts';
import { Mirror, type PullResult } from '../../../src/store/mirror/mirror.ts';
import { fetchFrom, NEVER, seal, stateOf } from '../../support/feed.ts';
import { waitsForLock } from '../../support/locks.ts';
import { fromWirePage } from '../../support/page.ts';
import { openHq, openStore, type TestSide } from '../../support/pos.ts';

const STORE = 5;

describe('an apply in a store', () => {
  let hq: TestSide;
  let store: TestSide;
  let mirror: Mirror;

  beforeEach(async () => {
    hq = await openHq('apply', [STORE, 6]);
    store = await openStore('apply', STORE);
    mirror = new Mirror({ pool: store.pool });
  });
  afterEach(async () => {
    await store.close();
    await hq.close();
  });

  /** Runs statements at HQ as one transaction each, then brings the store up to date. */
  const bring = async (...statements: string[]): Promise<PullResult> => {
    for (const statement of statements) await hq.db.query(statement);
    await seal(hq.db);
    return mirror.pull(fetchFrom(hq.pool, STORE), NEVER);
  };
  const brought = async (...statements: string[]): Promise<void> => {
    const outcome = await bring(...statements);
    if (outcome.result === 'failed') throw outcome.error;
    assert.equal(outcome.result, 'applied');
    assert.equal(await stateOf(store.db, 'store', STORE), await stateOf(hq.db, 'hq', STORE));
  };
  const rows = async (text: string): Promise<string[]> =>
    (await store.db.query({ text, rowMode: 'array' })).rows.map((row) => (row as unknown[]).join(' '));
  const product = (id: string, sku: string, rest = ''): string =>
    `insert into public.products (id, sku, name, price${rest === '' ? '' : ', department_id'}) values ('${id}', '${sku}', 'p', 12.3456${rest})`;
  const user = (id: string, name: string): string =>
    `insert into public.users (id, username, display_name, pin_hash) values ('${id}', '${name}', '${name}', 'secret')`;
  const [A, B, C, D] = [uuidv7(), uuidv7(), uuidv7(), uuidv7()];

  it('swaps the SKUs of two products, and gives the SKU of a deleted one to another', async () => {
    await brought(product(A, 'A'), product(B, 'B'));
    await brought(
      `begin; update public.products set sku = '~' where id = '${A}'; update public.products set sku = 'A' where id = '${B}';
       update public.products set sku = 'B' where id = '${A}'; commit`,
    );
    await brought(`delete from public.products where id = '${A}'`, product(C, 'B'));
    assert.deepEqual(await rows('select sku, active from public.products order by sku'), [
      'A true',
      'B true',
      `B~${A} false`,
    ]);
  });

  it('takes children before parents, in one statement or in several rounds', async () => {
    await brought(
      `insert into public.departments (id, code, name, parent_id) values ('${B}', 'B', 'child', '${A}'), ('${A}', 'A', 'parent', null)`,
      product(C, 'C', `, '${B}'`),
    );
    await brought(
      `begin; update public.products set department_id = null; delete from public.departments where id = '${B}';
       delete from public.departments where id = '${A}'; commit`,
    );
    assert.deepEqual(await rows('select code from public.departments'), []);
  });

  it('writes only rows that differ', async () => {
    await brought(product(A, 'A'), product(B, 'B'));
    const versions = (): Promise<string[]> =>
      rows('select sku, xmin, updated_at from public.products order by sku');
    const before = await versions();
    await hq.db.query(
      `insert into possync.capture (entity, pk) select 'product', f.pk from possync.feed f where f.entity = 'product'`,
    );
    await hq.db.query(
      `update possync.feed set doc = doc || '{"updated_at": "2001-01-01T00:00:00Z"}', pos = pos + 100 where entity = 'product'`,
    );
    await hq.db.query(
      `update possync.head set pos = pos + 100; insert into possync.rounds (head, records) select pos, 2 from possync.head`,
    );
    assert.equal((await mirror.pull(fetchFrom(hq.pool, STORE), NEVER)).result, 'applied');
    assert.deepEqual(await versions(), before);
  });

  it('brings the permissions of a role as a set: new ones come, missing ones go', async () => {
    await brought(
      `insert into public.roles (id, name) values ('${A}', 'cashier')`,
      `insert into public.role_permissions (role_id, permission) values ('${A}', 'pos:sell'), ('${A}', 'pos:void_sale')`,
    );
    await brought(
      `update public.role_permissions set active = false where permission = 'pos:sell'`,
      `insert into public.role_permissions (role_id, permission) values ('${A}', 'ü "quoted"')`,
    );
    assert.deepEqual(await rows('select permission from public.role_permissions order by 1'), [
      'pos:void_sale',
      'ü "quoted"',
    ]);
  });

  it('deactivates a user who leaves the store, wipes the PIN hash, and takes both back with the user', async () => {
    await brought(
      user(A, 'anna'),
      `insert into public.roles (id, name) values ('${B}', 'cashier')`,
      `insert into public.user_store_roles (id, user_id, role_id, store_id) values ('${C}', '${A}', '${B}', ${STORE})`,
    );
    await brought(`update public.user_store_roles set store_id = 6`);
    assert.deepEqual(await rows('select username, pin_hash, active from public.users'), [`anna~${A}  false`]);
    assert.deepEqual(await rows('select pk from possync.kept'), [`["${A}"]`]);
    assert.deepEqual(await rows('select id from public.user_store_roles'), []);
    await brought(`update public.user_store_roles set store_id = null`);
    assert.deepEqual(await rows('select username, pin_hash, active from public.users'), ['anna secret true']);
    assert.deepEqual(await rows('select pk from possync.kept'), []);
  });

  it('is not stuck when a name passes on after its owner left this store', async () => {
    await brought(
      user(A, 'anna'),
      `insert into public.roles (id, name) values ('${B}', 'cashier')`,
      `insert into public.user_store_roles (id, user_id, role_id, store_id) values ('${C}', '${A}', '${B}', ${STORE})`,
    );
    await brought(`update public.user_store_roles set store_id = 6`);
    await brought(
      `update public.users set username = 'anna.old'`, // store 5 does not hear of it any more
      user(D, 'anna'),
      `insert into public.user_store_roles (id, user_id, role_id, store_id) values ('${D}', '${D}', '${B}', ${STORE})`,
    );
    assert.deepEqual(await rows('select username from public.users where active'), ['anna']);
  });

  it('negative control: a kept row that keeps its name does get the store stuck', async () => {
    await brought(
      user(A, 'anna'),
      `insert into public.roles (id, name) values ('${B}', 'cashier')`,
      `insert into public.user_store_roles (id, user_id, role_id, store_id) values ('${C}', '${A}', '${B}', ${STORE})`,
    );
    await brought(`update public.user_store_roles set store_id = 6`);
    await store.db.query(
      `begin; set local possync.applying = 'on'; update public.users set username = 'anna'; commit`,
    );
    const outcome = await bring(
      `update public.users set username = 'anna.old'`,
      user(D, 'anna'),
      `insert into public.user_store_roles (id, user_id, role_id, store_id) values ('${D}', '${D}', '${B}', ${STORE})`,
    );
    assert.equal(outcome.result === 'failed' && outcome.error.code, 'PS-APPLY-FAILED');
  });

  it('keeps a department that any table here refers to, a local one included, and deletes the others', async () => {
    await brought(
      `insert into public.departments (id, code, name) values ('${A}', 'A', 'a'), ('${B}', 'B', 'b'), ('${C}', 'C', 'c')`,
      `insert into public.departments (id, code, name, parent_id) values ('${D}', 'D', 'd', '${C}')`,
    );
    await store.db.query(
      `create table public."Shelf labels" (department uuid references public.departments); insert into public."Shelf labels" values ('${A}')`,
    );
    await brought(`delete from public.departments where id = '${D}'`, `delete from public.departments`);
    assert.deepEqual(await rows('select code, active from public.departments'), [`A~${A} false`]);
    await brought(`insert into public.departments (id, code, name) values ('${A}', 'A', 'a')`);
    assert.deepEqual(await rows('select code, active from public.departments'), ['A true']);
    assert.deepEqual(await rows('select pk from possync.kept'), []);
  });

  it('deletes prices of this store that are taken away, and never has those of another', async () => {
    await brought(
      product(A, 'A'),
      `insert into public.store_prices (store_id, product_id, price) values (${STORE}, '${A}', 1), (6, '${A}', 2)`,
    );
    assert.deepEqual(await rows('select store_id, price from public.store_prices'), [`${STORE} 1.0000`]);
    await brought(`update public.store_prices set active = false`);
    assert.deepEqual(await rows('select store_id from public.store_prices'), []);
  });

  it('keeps every digit and every blank', async () => {
    await brought(
      product(A, ' a  b '),
      `update public.products set price = 9999999999.9999, cost = 0.0001, low_stock_threshold = 9007199254740993,
              description = E'tab\\there \\\\ "quotes" \\u00fc€'`,
    );
    assert.deepEqual(
      await rows('select sku, price, cost, low_stock_threshold::text, description from public.products'),
      [` a  b  9999999999.9999 0.0001 9007199254740993 tab\there \\ "quotes" ü€`],
    );
  });

  it('forgets all pages when everything is pulled again, one that is just being staged included', async () => {
    await brought(product(A, 'A'));
    const { pos } = await mirror.state();
    const other = await store.database.connect();
    await other.query('begin');
    const { body } = fromWirePage({
      from: pos,
      to: pos + 9,
      head: pos + 9,
      closing: true,
      nonce: uuidv7(),
      rows: [['product', `["${B}"]`, pos + 9, null]],
    });
    const page = readPage(body, pos);
    assert.ok(typeof page !== 'string');
    assert.ok(await stagePage(other, page));
    const resynced = mirror.resync();
    await waitsForLock(other);
    await other.query('commit');
    await resynced;
    assert.deepEqual(await rows('select pk from possync.staging'), []);
  });

  it('says why it failed, stays on the last whole state, and goes on when the cause is gone', async () => {
    await brought(product(A, 'A'));
    await store.db.query(`alter table public.products add constraint local_rule check (sku <> 'B')`);
    const failed = await bring(product(B, 'B'), `update public.products set name = 'new' where id = '${A}'`);
    assert.equal(failed.result === 'failed' && failed.error.code, 'PS-APPLY-FAILED');
    const state = await mirror.state();
    assert.ok(state.pos < state.paged, 'invariant 7: the cursor stays where the last apply has left it');
    assert.match(state.error?.message ?? '', /local_rule/);
    assert.deepEqual(await rows('select sku, name from public.products'), ['A p']);
    assert.equal((await queryOne<{ n: number }>(store.db, 'select count(*) as n from possync.staging')).n, 2);
    await store.db.query('alter table public.products drop constraint local_rule');
    await brought(product(C, 'C'));
    assert.equal((await mirror.state()).error, null);
  });

  describe('after HQ asks to pull everything again', () => {
    it('removes what HQ no longer has, by the rule of each type, and passes over what was kept', async () => {
      await brought(
        product(A, 'A'),
        product(B, 'B'),
        `insert into public.departments (id, code, name) values ('${C}', 'C', 'c')`,
        `insert into public.store_prices (store_id, product_id, price) values (${STORE}, '${A}', 1)`,
      );
      await brought(`delete from public.products where id = '${B}'`);
      // HQ forgets: the feed has no removal of what is gone.
      await hq.db
        .query(`delete from public.store_prices; delete from public.products; delete from public.departments;
        delete from possync.capture; delete from possync.feed where entity <> 'store'`);
      await mirror.resync();
      const outcome = await mirror.pull(fetchFrom(hq.pool, STORE), NEVER);
      assert.equal(outcome.result, 'applied');
      assert.deepEqual(await rows('select sku, active from public.products order by sku'), [
        `A~${A} false`,
        `B~${B} false`,
      ]);
      assert.deepEqual(await rows('select 1 from public.departments'), []);
      assert.deepEqual(await rows('select 1 from public.store_prices'), []);
      assert.deepEqual(await rows('select code from public.stores order by code'), ['S-5', 'S-6']);
    });

    it('never sweeps the transfers and receipts that this store wrote itself', async () => {
      const apply = `begin; set local possync.applying = 'on'`;
      for (const [id, from, to] of [
        [A, STORE, 6],
        [B, 6, STORE],
      ] as const) {
        await store.db
          .query(`${apply}; insert into public.transfers (id, number, from_store_id, to_store_id, status, created_by)
          values ('${id}', 'T', ${from}, ${to}, 'in_transit', '${C}'); commit`);
      }
      await store.db
        .query(`${apply}; insert into public.transfers (id, number, from_store_id, to_store_id, status, created_by)
        values ('${D}', 'T', 6, ${STORE}, 'in_transit', '${C}');
        insert into public.transfer_receipts (transfer_id, received_by, received_at)
        values ('${A}', '${C}', now()), ('${D}', '${C}', now()); commit`);
      await brought(product(C, 'C'));
      assert.deepEqual(
        await rows('select id from public.transfers order by id'),
        [A, D].toSorted(), // B was announced and is unknown to HQ; D was counted in here
      );
      assert.deepEqual(
        await rows('select transfer_id from public.transfer_receipts order by 1'),
        [A, D].toSorted(),
      );
      assert.deepEqual(await rows('select entity, pk from possync.kept order by 1, 2'), [
        `transfer ["${D}"]`,
        `transfer_receipt ["${A}"]`,
      ]);
    });

    it('does so by itself when another version has filled the tables with other columns', async () => {
      await brought(product(A, 'A'));
      await store.db
        .query(`begin; set local possync.applying = 'on'; update public.products set name = 'stale'; commit;
        update possync.cursor set shape = 'of an older version'`);
      assert.equal((await mirror.pull(fetchFrom(hq.pool, STORE), NEVER)).result, 'applied');
      assert.deepEqual(await rows('select name from public.products'), ['p']);
    });
  });
});
