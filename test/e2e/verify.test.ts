/** `possync verify`: every kind of tampering, in both directions, is found and repaired; what is on its way is not. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { uuidv7 } from '../../src/core/ids.ts';
import { queryOne } from '../../src/db/transaction.ts';
import { compareStore, countDifferences } from '../../src/db/compare.ts';
import type { StoreReport } from '../../src/protocol/verify.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import {
  addRegister,
  adjust,
  insertReceipt,
  insertTransfer,
  moveTransfer,
  openSession,
  sell,
  together,
} from '../support/pos.ts';
import { differencesIn, settled, tamper, verify } from '../support/verify.ts';
import { until } from '../support/until.ts';

const PRODUCTS = 40;

describe('verify', function () {
  this.timeout(120_000);
  let hq: TestHq;
  let here: TestStore;
  let there: TestStore;
  let products: string[];
  let department: string;
  let session: string;
  let sales: string[];
  let sent: string;
  let received: string;

  before(async () => {
    hq = await TestHq.open('verify');
    here = await TestStore.open(hq, 'V-1', { pullIntervalMs: 500 });
    there = await TestStore.open(hq, 'V-2', { pullIntervalMs: 500 });
    await fillCatalogue();
    await settled(hq, here);
    await settled(hq, there);
    const till = await here.database.connect();
    session = await openSession(till, await addRegister(till, here.id), here.id);
    sales = [];
    for (let n = 0; n < 20; n += 1)
      sales.push(await sell(till, session, { storeId: here.id, receipt: `R-${n}` }));
    await adjust(till, -1000, { storeId: here.id });
    sent = await together(till, () => insertTransfer(till, { from: here.id, to: there.id, status: 'draft' }));
    // A second one stays a draft: it reaches no one and is no difference.
    await together(till, () => insertTransfer(till, { from: here.id, to: there.id, status: 'draft' }));
    await moveTransfer(till, sent, 'pending');
    await moveTransfer(till, sent, 'in_transit');
    received = sent;
    await settled(hq, here);
    await settled(hq, there);
    const other = await there.database.connect();
    await together(other, () => insertReceipt(other, sent));
    await settled(hq, there);
    await settled(hq, here);
  });
  after(async () => {
    await here.close();
    await there.close();
    await hq.close();
  });

  async function fillCatalogue(): Promise<void> {
    department = randomUUID();
    const role = randomUUID();
    const user = randomUUID();
    products = Array.from({ length: PRODUCTS }, () => uuidv7());
    await hq.pool.query(`insert into public.departments (id, code, name) values ($1::uuid, 'D', 'Drinks')`, [
      department,
    ]);
    await hq.pool.query(
      `insert into public.products (id, sku, name, price, department_id)
       select p.id, 'SKU-' || p.n, 'Product ' || p.n, 100 + p.n, $2::uuid
         from unnest($1::uuid[]) with ordinality as p (id, n)`,
      [products, department],
    );
    await hq.pool.query(
      `insert into public.store_prices (store_id, product_id, price) values ($1::int, $3::uuid, 55.5), ($2::int, $3::uuid, 66)`,
      [here.id, there.id, products[0]],
    );
    await hq.pool.query(`insert into public.roles (id, name) values ($1::uuid, 'cashier')`, [role]);
    await hq.pool.query(
      `insert into public.role_permissions (role_id, permission) values ($1::uuid, 'pos:sell'), ($1::uuid, 'pos:void')`,
      [role],
    );
    await hq.pool.query(
      `insert into public.users (id, username, display_name, pin_hash) values ($1::uuid, 'anna', 'Anna', 'x')`,
      [user],
    );
    await hq.pool.query(
      `insert into public.user_store_roles (id, user_id, role_id, store_id) values ($1::uuid, $2::uuid, $3::uuid, $4::int)`,
      [randomUUID(), user, role, here.id],
    );
  }

  async function equalRowByRow(store: TestStore): Promise<void> {
    const compared = await compareStore(hq.pool, store.pool, store.id);
    // What the store has purged is at HQ alone, and meant to be.
    const counted = compared.map((t) => (t.direction === 'up' ? { ...t, missingAtStore: [] } : t));
    assert.equal(countDifferences(counted), 0, JSON.stringify(counted.filter((t) => t.differing.length > 0)));
  }

  /** Found exactly so, repaired, then equal for digests and row by row. */
  async function foundAndRepaired(store: TestStore, expected: readonly string[]): Promise<StoreReport> {
    assert.deepEqual(differencesIn(await verify(store)), expected);
    const repaired = await verify(store, { repair: true });
    assert.deepEqual(differencesIn(repaired), []);
    assert.equal(repaired.state, 'equal');
    // The repair sealed what every store must have: the other one follows a moment later.
    await settled(hq, there);
    await equalRowByRow(here);
    await equalRowByRow(there);
    return repaired;
  }

  it('calls two sides equal that are, in every table and both ways, and moves next to nothing for it', async () => {
    for (const store of [here, there]) {
      const report = await verify(store);
      assert.deepEqual(differencesIn(report), []);
      assert.equal(report.state, 'equal');
      const rows = (table: string, direction: string): number | null | undefined =>
        report.tables.find((t) => t.table === table && t.direction === direction)?.rows_store;
      assert.equal(rows('products', 'down'), PRODUCTS);
      assert.equal(rows('store_prices', 'down'), 1);
      assert.equal(rows('transfers', 'up'), store === here ? 1 : 0);
      assert.equal(rows('transfers', 'down'), store === here ? 0 : 1);
      assert.ok(report.bytes < 20_000, `${report.bytes} bytes`);
      for (const table of report.tables) assert.equal(table.rows_hq, table.rows_store, table.table);
    }
  });

  it('finds a product, a permission and a department that a superuser changed or deleted in the store', async () => {
    await tamper(here.pool, `update public.products set price = price + 1 where id = $1::uuid`, [
      products[3],
    ]);
    await tamper(here.pool, `delete from public.products where id = $1::uuid`, [products[4]]);
    await tamper(here.pool, `delete from public.role_permissions where permission = 'pos:void'`);
    await tamper(here.pool, `update public.departments set name = 'Changed'`);
    const { repaired } = await foundAndRepaired(here, [
      'departments down: 1/0/0',
      'products down: 1/0/1',
      'role_permissions down: 0/0/1',
    ]);
    assert.deepEqual(repaired.map(({ type, result }) => `${type} ${result}`).sort(), [
      'department sent',
      'product sent',
      'product sent',
      'role sent',
    ]);
  });

  it('finds rows that only the store has, and removes them as anything that leaves a store', async () => {
    await tamper(
      here.pool,
      `insert into public.products (id, sku, name, price) values ($1::uuid, 'FREE', 'Free', 0)`,
      [randomUUID()],
    );
    await tamper(
      here.pool,
      `insert into public.store_prices (store_id, product_id, price) values ($1::int, $2::uuid, 0)`,
      [here.id, products[9]],
    );
    const { repaired } = await foundAndRepaired(here, ['products down: 0/1/0', 'store_prices down: 0/1/0']);
    assert.deepEqual(
      repaired.map(({ result }) => result),
      ['removed', 'removed'],
    );
    const free = await queryOne<{ active: boolean }>(
      here.pool,
      `select active from public.products where sku like 'FREE%'`,
    );
    assert.equal(free.active, false);
  });

  it('finds a table of HQ that was changed with its triggers disabled, and repairs every store with it', async () => {
    await tamper(hq.pool, `update public.products set price = 7777 where id = $1::uuid`, [products[5]]);
    await tamper(
      hq.pool,
      `insert into public.products (id, sku, name, price) values ($1::uuid, 'NEW', 'New', 1)`,
      [randomUUID()],
    );
    await tamper(hq.pool, `delete from public.store_prices where store_id = $1::int`, [here.id]);
    const expected = ['products down: 1/0/1', 'store_prices down: 0/1/0'];
    assert.deepEqual(differencesIn(await verify(there)), ['products down: 1/0/1']);
    await foundAndRepaired(here, expected);
    assert.deepEqual(differencesIn(await verify(there)), []);
  });

  it('finds what was changed or deleted by hand at HQ of what the store wrote; the store’s rows win', async () => {
    const [first, second, third] = sales;
    await tamper(hq.pool, `update public.sales set total = total + 5 where id = $1::uuid`, [first]);
    await tamper(
      hq.pool,
      `update public.sale_lines set quantity = 1 where sale_id = $1::uuid and line_no = 1`,
      [second],
    );
    for (const table of ['sale_payments', 'sale_line_taxes', 'sale_lines'])
      await tamper(hq.pool, `delete from public.${table} where sale_id = $1::uuid`, [third]);
    await tamper(hq.pool, `delete from public.sales where id = $1::uuid`, [third]);
    await tamper(hq.pool, `update public.inventory_adjustments set quantity_delta = 0`);
    await tamper(hq.pool, `update public.registers set name = 'Changed'`);
    await tamper(hq.pool, `update public.transfers set number = 'X' where id = $1::uuid`, [sent]);
    const { repaired } = await foundAndRepaired(here, [
      'registers up: 1/0/0',
      'sales up: 1/1/0',
      'sale_lines up: 1/2/0',
      'sale_line_taxes up: 0/2/0',
      'sale_payments up: 0/1/0',
      'inventory_adjustments up: 1/0/0',
      'transfers up: 1/0/0',
    ]);
    assert.equal(repaired.filter(({ direction }) => direction === 'up').length, 6);
    // What HQ had is kept beside who asked for it.
    const kept = await queryOne<{ before: string; actor: string }>(
      hq.pool,
      `select w.before ->> 'total' as before, p.actor from possync.repaired_rows w join possync.repairs p on p.id = w.repair
        where w.tbl = 'sales' and p.state = 'done'`,
    );
    assert.equal(kept.before, '2165');
    assert.equal(kept.actor, 'V-1: test');
    const open = await queryOne<{ n: number }>(
      hq.pool,
      `select count(*) as n from possync.repairs where state = 'open'`,
    );
    assert.equal(open.n, 0);
    const entries = await queryOne<{ dead: number }>(hq.pool, 'select count(*) as dead from possync.dead');
    assert.equal(entries.dead, 0);
  });

  it('finds what was changed in the store’s own tables by hand, and a row that no trigger saw', async () => {
    const extra = randomUUID();
    await tamper(here.pool, `update public.sales set receipt_number = 'R-changed' where id = $1::uuid`, [
      sales[6],
    ]);
    await tamper(
      here.pool,
      `insert into public.registers (id, store_id, code, name) values ($1::uuid, $2::int, 'R9', 'Unseen')`,
      [extra, here.id],
    );
    await foundAndRepaired(here, ['registers up: 0/1/0', 'sales up: 1/0/0']);
  });

  it('counts what the store no longer has apart: it was purged, and HQ keeps it', async () => {
    const doomed = sales.slice(10, 14);
    const till = await here.database.connect();
    for (const table of ['sale_payments', 'sale_line_taxes', 'sale_lines'])
      await till.query(`delete from public.${table} where sale_id = any ($1::uuid[])`, [doomed]);
    await till.query('delete from public.sales where id = any ($1::uuid[])', [doomed]);
    const report = await verify(here, { repair: true });
    assert.equal(report.state, 'equal');
    assert.deepEqual(report.repaired, []);
    const table = report.tables.find((t) => t.table === 'sales' && t.direction === 'up');
    assert.deepEqual(
      [table?.rows_hq, table?.rows_store, table?.only_at_hq],
      [sales.length, sales.length - 4, 4],
    );
    const { n } = await queryOne<{ n: number }>(hq.pool, 'select count(*) as n from public.sales');
    assert.equal(n, sales.length);
  });

  it('compares transfers at both parties: what came down is the other party’s', async () => {
    await tamper(there.pool, `update public.transfer_lines set quantity = 9 where transfer_id = $1::uuid`, [
      sent,
    ]);
    await tamper(
      here.pool,
      `update public.transfer_receipt_lines set quantity = 9 where transfer_id = $1::uuid`,
      [received],
    );
    assert.deepEqual(differencesIn(await verify(there)), ['transfer_lines down: 2/0/0']);
    assert.deepEqual(differencesIn(await verify(here)), ['transfer_receipt_lines down: 2/0/0']);
    assert.equal((await verify(there, { repair: true })).state, 'equal');
    assert.equal((await verify(here, { repair: true })).state, 'equal');
    await equalRowByRow(here);
    await equalRowByRow(there);
  });

  it('never moves a state backwards: HQ’s later state stays, and the difference is shown', async () => {
    await tamper(hq.pool, `update public.register_sessions set status = 'closed' where id = $1::uuid`, [
      session,
    ]);
    const report = await verify(here, { repair: true });
    assert.deepEqual(differencesIn(report), ['register_sessions up: 1/0/0']);
    const { status } = await queryOne<{ status: string }>(
      hq.pool,
      'select status from public.register_sessions where id = $1::uuid',
      [session],
    );
    assert.equal(status, 'closed');
    await tamper(hq.pool, `update public.register_sessions set status = 'open' where id = $1::uuid`, [
      session,
    ]);
    await until(async () => (await verify(here)).state === 'equal', { what: 'equal again' });
  });
});
