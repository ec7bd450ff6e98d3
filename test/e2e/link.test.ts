/** HQ and stores over a real line that breaks in every way: both lights, both flows, and who is let in. */
import assert from 'node:assert/strict';
import { fillHeadOffice } from '../../src/demo/catalogue.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import {
  addRegister,
  insertReceipt,
  insertTransfer,
  openSession,
  moveTransfer,
  sell,
  together,
} from '../support/pos.ts';
import { until } from '../support/until.ts';

describe('HQ and two stores, end to end', function () {
  this.timeout(120_000);
  let hq: TestHq;
  let north: TestStore;
  let south: TestStore;

  before(async () => {
    hq = await TestHq.open('e2e');
    await fillHeadOffice(hq.pool, 50);
    north = await TestStore.open(hq, 'N-1');
    south = await TestStore.open(hq, 'S-2');
  });
  after(async () => {
    await north.close();
    await south.close();
    await hq.close();
  });

  it('turns green on both sides', async () => {
    await north.untilLight('green');
    await south.untilLight('green');
    await until(async () => (await hq.light(north.id)) === 'green', { what: 'HQ calls the store green' });
    await until(async () => (await hq.light(south.id)) === 'green', { what: 'HQ calls the store green' });
  });

  it('brings a product and its urgent price change to every store', async () => {
    for (const store of [north, south])
      await until(async () => (await store.count('products')) === 50, {
        what: `${store.code} has the catalogue`,
      });
    await hq.pool.query(`update public.products set price = 12345.6 where sku = 'SKU-00007'`);
    for (const store of [north, south])
      await until(
        async () =>
          (await store.pool.query(`select from public.products where sku = 'SKU-00007' and price = 12345.6`))
            .rowCount === 1,
        { what: `${store.code} has the price`, timeoutMs: 5_000 },
      );
  });

  it('brings a sale to HQ, whole and once', async () => {
    const till = await north.database.connect();
    const register = await addRegister(till, north.id);
    const session = await openSession(till, register, north.id);
    const sale = await sell(till, session, { storeId: north.id, lines: 3 });
    await until(
      async () => {
        const { rows } = await hq.pool.query<{ lines: number }>(
          `select (select count(*) from public.sale_lines l where l.sale_id = s.id) as lines
             from public.sales s where s.store_id = $1::integer and s.id = $2::uuid`,
          [north.id, sale],
        );
        return rows.length === 1 && rows[0]?.lines === 3;
      },
      { what: 'the sale is at HQ with its three lines' },
    );
    const { rows } = await hq.pool.query<{ n: number }>(`select count(*) as n from public.sales`);
    assert.equal(rows[0]?.n, 1);
  });

  it('takes a transfer through all its states, and nobody hears its own echo', async () => {
    const source = await north.database.connect();
    const target = await south.database.connect();
    const id = await insertTransfer(source, { from: north.id, to: south.id, status: 'draft' });
    await moveTransfer(source, id, 'pending');
    const statusAt = async (store: TestStore): Promise<string | undefined> =>
      (
        await store.pool.query<{ status: string }>(
          'select status from public.transfers where id = $1::uuid',
          [id],
        )
      ).rows[0]?.status;
    await until(async () => (await statusAt(south)) === 'pending', { what: 'the announcement is there' });
    await moveTransfer(source, id, 'in_transit');
    await until(async () => (await statusAt(south)) === 'in_transit', { what: 'the shipment is there' });
    await together(target, () => insertReceipt(target, id));
    await until(
      async () =>
        (await north.pool.query('select from public.transfer_receipts where transfer_id = $1::uuid', [id]))
          .rowCount === 1,
      { what: 'the receipt is back at the source' },
    );
    const { rows } = await south.pool.query<{ n: number }>(
      `select count(*) as n from possync.outbox o where o.body like '%' || $1::text || '%'`,
      [`"transfers"`],
    );
    assert.equal(rows[0]?.n, 0, 'the destination sends nothing of the transfer but its receipt');
  });
});
