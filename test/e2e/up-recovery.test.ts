/** Re-enrolment and re-export: a new epoch loses nothing and goes back to nothing. What makes them necessary: test/regressions. */
import assert from 'node:assert/strict';
import { queryOne } from '../../src/db/transaction.ts';
import { hello } from '../../src/hq/inbox/hello.ts';
import { reEnrol } from '../../src/hq/inbox/re-enrol.ts';
import { ackedPosition } from '../../src/store/outbox/position.ts';
import { reEnrolStore } from '../../src/store/outbox/re-enrol.ts';
import { OutboxRetention } from '../../src/store/outbox/retention.ts';
import { systemClock } from '../../src/core/clock.ts';
import { adjust, insertTransfer, moveTransfer, sell, voidSale } from '../support/pos.ts';
import { Backup, HQ_TABLES, Recovery } from '../support/recovery.ts';
import { until } from '../support/until.ts';
import { differences } from '../support/up.ts';

describe('recovery of the way up', () => {
  let r: Recovery;
  beforeEach(async () => {
    r = await Recovery.open('recovery');
  });
  afterEach(async () => {
    await r.close();
  });

  it('the old epoch is refused after a re-enrolment, which is itself refused while another machine is connected', async () => {
    await r.up.hello();
    await sell(r.store.db, r.session);
    await r.up.outbox.seal();
    const message = await r.up.message();
    assert.ok(message !== undefined);
    await assert.rejects(
      reEnrolStore(r.store.pool, {
        instance: { ...r.up.instance, daemon: '00000000-0000-4000-8000-000000000001' },
        ask: (request) => reEnrol(r.hq.pool, 7, request, () => Promise.resolve(true)),
      }),
      { code: 'PS-OTHER-INSTANCE' },
    );
    const oldHello = await r.up.helloMessage();
    assert.equal((await r.renew()).epoch, 2);
    assert.deepEqual(await differences(r.hq, r.store).then((d) => d.length), 4);
    const old = await hello(r.hq.pool, 7, oldHello, () => Promise.resolve(false));
    assert.ok(old.type === 'refuse' && old.code === 'epoch' && old.epoch === 2);
    await r.up.hello();
    const late = await r.up.send({ ...message, fence: r.up.fence ?? '' });
    assert.ok(late.result === 'conflict' && late.conflict.code === 'epoch');
    await r.up.drain();
    assert.deepEqual(await differences(r.hq, r.store), []);
  });

  it('a lost answer to re-enrol is asked again and carried out once', async () => {
    await sell(r.store.db, r.session);
    const asked: number[] = [];
    await assert.rejects(
      reEnrolStore(r.store.pool, {
        instance: r.up.instance,
        ask: async (request) => {
          asked.push((await reEnrol(r.hq.pool, 7, request, () => Promise.resolve(false))).epoch);
          throw new Error('the answer is lost');
        },
      }),
      /lost/,
    );
    assert.equal((await r.renew()).epoch, 2);
    assert.deepEqual(asked, [2]);
    await r.up.hello();
    await r.up.drain();
    assert.deepEqual(await differences(r.hq, r.store), []);
  });

  it('a daemon that notes what it sends at the same moment only makes it begin again', async () => {
    await sell(r.store.db, r.session);
    const daemon = await r.store.database.connect();
    await daemon.query(`begin; update possync.sending set last_error = 'PS-HQ-UNREACHABLE'`);
    const renewed = r.renew();
    await until(
      async () =>
        (
          await queryOne<{ n: number }>(
            r.store.db,
            `select count(*) as n from pg_stat_activity a
              where a.datname = current_database() and a.wait_event_type = 'Lock'`,
          )
        ).n > 0,
      { what: 'the new epoch waits for the daemon' },
    );
    await daemon.query('commit');
    assert.equal((await renewed).epoch, 2);
    await r.up.hello();
    await r.up.drain();
    assert.deepEqual(await differences(r.hq, r.store), []);
  });

  it('a re-export repeats transfers and states without going back', async () => {
    const sale = await sell(r.store.db, r.session);
    const transfer = await insertTransfer(r.store.db);
    await insertTransfer(r.store.db); // stays a draft
    await moveTransfer(r.store.db, transfer, 'pending');
    await r.up.drain();
    await moveTransfer(r.store.db, transfer, 'in_transit');
    await voidSale(r.store.db, sale);
    await r.up.drain();
    await adjust(r.store.db, 3);
    await r.renew('2026-01-01');
    await r.up.hello();
    await r.up.drain();
    const { rows } = await r.hq.db.query('select seq, error from possync.dead');
    assert.deepEqual(rows, []);
    assert.deepEqual(await differences(r.hq, r.store), []);
    const there = await r.hq.db.query('select t.id, t.status from public.transfers t');
    assert.deepEqual(there.rows, [{ id: transfer, status: 'in_transit' }], 'the draft is not there');
  });

  it('forgets acknowledged entries after 35 days, after 7 on a full disk, and never one that waits', async () => {
    await sell(r.store.db, r.session);
    await r.up.outbox.seal();
    await r.store.db.query(
      `with gone as (delete from possync.acks returning epoch, seq)
       insert into possync.acks (epoch, seq, acked_at)
       select a.epoch, x.seq, now() - make_interval(days => x.days)
         from (select max(g.epoch) as epoch, max(g.seq) as seq from gone g) a
        cross join lateral (values (2, 40), (a.seq, 10)) x (seq, days)`,
    );
    const kept = async (): Promise<number> =>
      (await queryOne<{ n: number }>(r.store.db, 'select count(*) as n from possync.outbox')).n;
    const round = (free: number): Promise<number> =>
      new OutboxRetention({
        pool: r.store.pool,
        clock: systemClock,
        freeShare: () => Promise.resolve(free),
      }).round();
    assert.equal(await kept(), 7);
    assert.equal(await round(0.5), 2);
    assert.equal(await round(0.05), 4);
    assert.equal(await kept(), 1);
    assert.equal((await r.up.outbox.counts()).queued, 1);
    await r.up.drain();
    assert.deepEqual(await differences(r.hq, r.store), []);
  });

  it('keeps what a restored HQ acknowledges again for as long as if it were the first time', async () => {
    const backup = await Backup.take(r.hq.db, HQ_TABLES);
    const { seq: before } = await ackedPosition(r.store.db);
    await sell(r.store.db, r.session);
    await r.up.drain();
    await r.store.db.query(`update possync.acks set acked_at = now() - interval '40 days'`);
    await backup.restore();
    await r.up.hello();
    assert.equal((await ackedPosition(r.store.db)).seq, before);
    await r.up.drain();
    const retention = new OutboxRetention({
      pool: r.store.pool,
      clock: systemClock,
      freeShare: () => Promise.resolve(0.5),
    });
    assert.equal(await retention.round(), before, 'what HQ had before as well');
    const { rows } = await r.store.db.query<{ seq: number }>('select o.seq from possync.outbox o');
    assert.deepEqual(rows, [{ seq: before + 1 }]);
  });
});
