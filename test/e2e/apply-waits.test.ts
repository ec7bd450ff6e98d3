/** A till that holds a product: the download gives way, says for whom it waits, and comes in by itself soon after. */
import assert from 'node:assert/strict';
import type { StoreStatusView } from '../../src/protocol/status.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { possync } from '../support/cli.ts';
import { until } from '../support/until.ts';

/** Longer than the test: what comes in before did not come by the next poll. */
const NEVER_MS = 3_600_000;
const LONG_MS = 60_000;

describe('an apply that has to wait for a till', function () {
  this.timeout(4 * LONG_MS);
  let hq: TestHq;
  let store: TestStore;

  before(async () => {
    hq = await TestHq.open('apply waits');
    await hq.pool.query(
      `insert into public.products (id, sku, name, price)
       select gen_random_uuid(), 'P' || n, 'p', 100 from generate_series(1, 3) n`,
    );
    store = await TestStore.open(hq, 'WAITS', { pullIntervalMs: NEVER_MS });
    await untilPrice('P1', 100);
  });
  after(async () => {
    await store.close();
    await hq.close();
  });

  const untilPrice = (sku: string, price: number): Promise<true> =>
    until(
      async () =>
        (
          await store.pool.query(`select from public.products where sku = $1::text and price = $2::numeric`, [
            sku,
            price,
          ])
        ).rowCount === 1,
      { what: `${sku} costs ${price} in the store`, timeoutMs: LONG_MS },
    );
  const downstream = async (): Promise<StoreStatusView['downstream']> =>
    (await store.running.status()).downstream;
  const cli = async (...args: string[]): Promise<string> =>
    (
      await possync(args, {
        env: { DATABASE_URL: store.database.url, POSSYNC_STATE_DIR: store.stateDir },
      })
    ).stdout;

  it('status names the program, the table and since when; when the row is free it comes in by itself, HQ away or not', async () => {
    const till = await store.database.connect();
    await till.query(`set application_name = 'till 3'`);
    await till.query(`begin; select from public.products where sku = 'P1' for update`);
    await hq.pool.query(`update public.products set price = 200`);

    const waiting = await until(
      async () => {
        const now = await downstream();
        return now.state === 'waiting' && now.error?.message.includes('till 3') === true && now;
      },
      { what: 'status says for whom the download waits', timeoutMs: LONG_MS },
    );
    assert.equal(waiting.error?.code, 'PS-APPLY-WAITS');
    assert.match(
      waiting.error.message,
      /^till 3 \(process \d+ of PostgreSQL\) holds products, or a row of it, in a transaction open since \d{4}-/,
    );
    assert.ok(waiting.error_since !== null);
    assert.match(await cli('status'), /Downstream +waiting, first .* ago: till 3 .*PS-APPLY-WAITS/);
    await hq.stop();
    const tries = (): number =>
      store.log.lines.filter(({ code, message }) => code === 'PS-APPLY-WAITS' && message === 'could not pull')
        .length;
    const before = tries();
    await until(() => tries() >= before + 2, { what: 'it was tried again, twice', timeoutMs: LONG_MS });
    assert.equal((await downstream()).error_since, waiting.error_since, 'since when it began');
    const held = await store.pool.query('select from public.products where price = 200');
    assert.equal(held.rowCount, 0, 'nothing of it came in before all of it can');

    await till.query('commit');
    await untilPrice('P1', 200);
    await untilPrice('P3', 200);
    await until(async () => (await downstream()).error === null, { what: 'status is well again' });
    assert.equal((await downstream()).error_since, null);
  });

  it('a pull that somebody asked for and that had to give way is tried again by itself as well', async () => {
    await hq.start();
    await store.untilLight('green', LONG_MS);
    const till = await store.database.connect();
    await till.query(`begin; lock table public.products in share mode`);
    await hq.pool.query(`update public.products set price = 300 where sku = 'P2'`);
    const asked = cli('status', '--wait', 'caught-up', '--timeout', '2m');
    await until(async () => (await downstream()).state === 'waiting', {
      what: 'the download waits',
      timeoutMs: LONG_MS,
    });
    await till.query('rollback');
    await untilPrice('P2', 300);
    assert.match(await asked, /up to date/);
  });
});
