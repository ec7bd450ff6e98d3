/**
 * restored-HQ: an HQ restored from a backup lacks what stores have long deleted as delivered, and their cursors stand
 * beyond its positions, so that new changes are skipped. Here stores keep what was acknowledged and send it again;
 * the way down is held by "invariant 11" in test/hq/feed/pull.test.ts.
 */
import assert from 'node:assert/strict';
import { queryOne } from '../../src/db/transaction.ts';
import { sell } from '../support/pos.ts';
import { Backup, HQ_TABLES, Recovery } from '../support/recovery.ts';
import { differences } from '../support/up.ts';

describe('restored-HQ', () => {
  let r: Recovery;
  beforeEach(async () => {
    r = await Recovery.open('restored_hq');
  });
  afterEach(async () => {
    await r.close();
  });

  it('invariant 18: HQ restored from a backup gets again what it lost (negative control: without acknowledged entries it cannot)', async () => {
    const backup = await Backup.take(r.hq.db, HQ_TABLES);
    for (let i = 0; i < 8; i += 1) await sell(r.store.db, r.session);
    await r.up.drain();
    await backup.restore();
    assert.equal(await r.salesAtHq(), 4);
    await r.up.hello();
    assert.equal((await r.up.outbox.counts()).queued, 8);
    await r.up.drain();
    assert.equal(await r.salesAtHq(), 12);
    assert.deepEqual(await differences(r.hq, r.store), []);
    assert.equal((await r.up.outbox.counts()).queued, 0);
    // The wrong variant: entries deleted when acknowledged. HQ is restored once more, and eight sales are gone.
    await r.store.db.query(
      'delete from possync.outbox where (epoch, seq) <= (select epoch, seq from possync.sending)',
    );
    await backup.restore();
    await r.up.hello();
    assert.equal(await r.halted(), 'PS-HQ-TOO-OLD');
    assert.equal(await r.up.message(), undefined);
    const { reexported, epoch } = await r.renew('2026-01-01');
    assert.ok(reexported >= 14 && epoch === 2);
    await r.up.hello();
    await r.up.drain({ transactions: 5 });
    assert.deepEqual(await differences(r.hq, r.store), []);
  });

  it('HQ restored to before a re-enrolment: the old epoch first, then the later one from 1', async () => {
    const backup = await Backup.take(r.hq.db, HQ_TABLES);
    await sell(r.store.db, r.session);
    await r.up.drain();
    await r.renew();
    await sell(r.store.db, r.session);
    await r.up.hello();
    await r.up.drain();
    await sell(r.store.db, r.session);
    await backup.restore();
    const welcome = await r.up.hello();
    assert.ok(welcome.type === 'welcome' && welcome.epoch === 1);
    await r.up.outbox.seal();
    // Skipping the rest of epoch 1 is refused.
    const { rows } = await r.store.db.query<{ seq: number; v: number; body: string; chain: string }>(
      `select seq, v, body, encode(chain, 'hex') as chain from possync.outbox where epoch = 2 and seq = 1`,
    );
    const [jump] = rows;
    assert.ok(jump !== undefined);
    const jumped = await r.up.send({
      epoch: 2,
      fence: r.up.fence ?? '',
      first: 1,
      prev: '',
      txs: [jump],
      lastChain: jump.chain,
    });
    assert.ok(jumped.result === 'conflict' && jumped.conflict.code === 'epoch');
    await r.up.drain();
    assert.deepEqual(await differences(r.hq, r.store), []);
    const inbox = await queryOne<{ epoch: number }>(r.hq.db, 'select epoch from possync.inbox');
    assert.equal(inbox.epoch, 2);
  });

  it('an HQ that was restored and then fed by a clone gets everything that is kept, not only what is unacknowledged', async () => {
    const backup = await Backup.take(r.hq.db, HQ_TABLES);
    for (let i = 0; i < 3; i += 1) await sell(r.store.db, r.session);
    await r.up.drain();
    await backup.restore();
    // Somebody else's entries under this store's numbers.
    await r.hq.db.query(`update possync.inbox set seq = seq + 9, chain = decode(repeat('ab', 32), 'hex')`);
    await r.up.hello();
    assert.equal(await r.halted(), 'PS-UP-ROLLBACK');
    await r.renew();
    await r.up.hello();
    await r.up.drain();
    assert.deepEqual(await differences(r.hq, r.store), []);
  });
});
