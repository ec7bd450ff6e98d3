/**
 * restored-store: SymmetricDS, its store database restored from a backup, dropped 50 of 50 new sales with every batch
 * marked OK, because the numbers of the new ones were already known. Here the histories are compared, not the numbers.
 */
import assert from 'node:assert/strict';
import { queryOne } from '../../src/db/transaction.ts';
import { sell } from '../support/pos.ts';
import { Backup, Recovery, STORE_TABLES } from '../support/recovery.ts';
import { differences } from '../support/up.ts';

describe('restored-store', () => {
  let r: Recovery;
  beforeEach(async () => {
    r = await Recovery.open('restored_store');
  });
  afterEach(async () => {
    await r.close();
  });

  it('a store restored from a backup is found at hello: PS-UP-ROLLBACK; tills go on, re-enrolment sends all', async () => {
    const backup = await Backup.take(r.store.db, STORE_TABLES);
    for (let i = 0; i < 3; i += 1) await sell(r.store.db, r.session);
    await r.up.drain();
    await backup.restore();
    await r.up.hello();
    assert.equal(await r.halted(), 'PS-UP-ROLLBACK');
    for (let i = 0; i < 2; i += 1) await sell(r.store.db, r.session);
    assert.equal(await r.up.outbox.seal(), 2);
    assert.equal(await r.up.message(), undefined);
    const { epoch, renumbered } = await r.renew();
    assert.deepEqual({ epoch, renumbered }, { epoch: 2, renumbered: 2 });
    await r.up.hello();
    assert.equal(await r.halted(), undefined);
    await r.up.drain();
    // 4 + 3 that only HQ still has + 2 new ones: nothing lost, nothing doubled.
    assert.equal(await r.salesAtHq(), 9);
    assert.deepEqual(
      (await differences(r.hq, r.store)).flatMap((t) => [...t.differing, ...t.missingAtHq]),
      [],
    );
  });

  it('a store restored and sold on past HQ’s number: PS-UP-DIVERGED (negative control: the number alone sees nothing)', async () => {
    const backup = await Backup.take(r.store.db, STORE_TABLES);
    await sell(r.store.db, r.session);
    await r.up.drain();
    const { seq: atHq } = await queryOne<{ seq: number }>(r.hq.db, 'select seq from possync.inbox');
    await backup.restore();
    for (let i = 0; i < 3; i += 1) await sell(r.store.db, r.session);
    await r.up.outbox.seal();
    const { seq: mine } = await queryOne<{ seq: number }>(r.store.db, 'select seq from possync.state');
    // By numbers alone the store would believe that HQ has its entry and send only what follows: one sale lost.
    assert.ok(mine > atHq);
    await r.up.hello();
    assert.equal(await r.halted(), 'PS-UP-DIVERGED');
    await r.renew();
    await r.up.hello();
    await r.up.drain();
    assert.equal(await r.salesAtHq(), 8);
    assert.deepEqual(
      (await differences(r.hq, r.store)).flatMap((t) => [...t.differing, ...t.missingAtHq]),
      [],
    );
  });
});
