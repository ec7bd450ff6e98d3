/**
 * recreated-target: a target whose database is made anew gets only what is written from then on, because the source
 * still remembers how far it had come (CouchDB #3897, SymmetricDS). Here each side says itself how far it is: an empty
 * one is filled again, in both directions.
 */
import assert from 'node:assert/strict';
import { compareStore, countDifferences } from '../../src/db/compare.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { HQ_TABLES, Recovery } from '../support/recovery.ts';
import { until } from '../support/until.ts';
import { differences } from '../support/up.ts';

describe('recreated-target', () => {
  it('HQ made anew: every sale that the store keeps is sent again, from the first', async () => {
    const r = await Recovery.open('recreated_target');
    await r.sell(3);
    await r.up.drain();
    await r.hq.db.query('set session_replication_role = replica');
    for (const table of HQ_TABLES) await r.hq.db.query(`delete from ${table}`);
    await r.hq.db.query('reset session_replication_role');
    assert.equal(await r.salesAtHq(), 0);
    await r.up.hello();
    assert.equal(await r.halted(), undefined);
    assert.equal((await r.up.outbox.counts()).queued, 9); // register, session and seven sales
    await r.up.drain();
    assert.deepEqual(await differences(r.hq, r.store), []);
    // Negative control: a source that goes by what was acknowledged to it has nothing to send.
    const { rowCount } = await r.store.db.query(
      'select from possync.outbox o join possync.sending d on (o.epoch, o.seq) > (d.epoch, d.seq)',
    );
    assert.equal(rowCount, 0);
    await r.close();
  });

  it("a store's server made anew: the whole catalogue comes again, although HQ had delivered it", async function () {
    this.timeout(120_000);
    const hq = await TestHq.open('recreated_target');
    await hq.pool.query(
      `insert into public.products (id, sku, name, price)
       select gen_random_uuid(), 'P' || n, 'p', n from generate_series(1, 50) n`,
    );
    const first = await TestStore.open(hq, 'ANEW');
    await until(async () => (await first.count('products')) === 50, {
      what: 'the first server had the catalogue',
    });
    const { id } = first;
    await first.close();
    const second = await TestStore.replacing(hq, { id, code: 'ANEW' });
    await until(async () => countDifferences(await compareStore(hq.pool, second.pool, id)) === 0, {
      what: 'the second server had the catalogue',
    });
    assert.equal(await second.count('products'), 50);
    await second.close();
    await hq.close();
  });
});
