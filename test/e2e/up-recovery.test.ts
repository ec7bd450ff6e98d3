/** Restored stores, clones, a restored HQ: found by the chain, halted upstream only, and mended without losing a sale. */
import assert from 'node:assert/strict';
import type pg from 'pg';
import { queryOne } from '../../src/db/transaction.ts';
import { hello } from '../../src/hq/inbox/hello.ts';
import { reEnrol } from '../../src/hq/inbox/re-enrol.ts';
import { reEnrolStore } from '../../src/store/outbox/re-enrol.ts';
import { OutboxRetention } from '../../src/store/outbox/retention.ts';
import { systemClock } from '../../src/core/clock.ts';
import {
  addRegister,
  adjust,
  insertTransfer,
  moveTransfer,
  openHq,
  openSession,
  openStore,
  sell,
  voidSale,
  type TestSide,
} from '../support/pos.ts';
import { differences, Up } from '../support/up.ts';

const STORE_TABLES = `public.registers, public.register_sessions, public.sales, public.sale_lines, public.sale_line_taxes,
  public.sale_payments, public.inventory_adjustments`;

/** The tables of one side as a backup would hold them; `restore` puts them back. */
class Backup {
  readonly #db: pg.Client;
  readonly #tables: readonly string[];

  private constructor(db: pg.Client, tables: readonly string[]) {
    this.#db = db;
    this.#tables = tables;
  }

  static async take(db: pg.Client, tables: readonly string[]): Promise<Backup> {
    await db.query('drop schema if exists backup cascade; create schema backup');
    for (const table of tables) {
      await db.query(`create table backup.${table.replace('.', '__')} as select * from ${table}`);
    }
    return new Backup(db, tables);
  }

  /** With all triggers off, as a restored base backup has seen none of it. */
  async restore(): Promise<void> {
    await this.#db.query('begin; set local session_replication_role = replica');
    for (const table of [...this.#tables].reverse()) await this.#db.query(`delete from ${table}`);
    for (const table of this.#tables) {
      await this.#db.query(
        `insert into ${table} overriding system value select * from backup.${table.replace('.', '__')}`,
      );
    }
    await this.#db.query('commit');
  }
}

const STORE = [
  ...STORE_TABLES.split(',').map((table) => table.trim()),
  'possync.raw',
  'possync.outbox',
  'possync.state',
  'possync.sending',
  'possync.tally',
  'possync.epochs',
];
const HQ = [
  ...STORE_TABLES.split(',').map((table) => table.trim()),
  'possync.inbox',
  'possync.inbox_chain',
  'possync.dead',
];

describe('recovery of the way up', () => {
  let store: TestSide;
  let hq: TestSide;
  let up: Up;
  let session: string;
  beforeEach(async () => {
    [store, hq] = await Promise.all([openStore('recovery'), openHq('recovery')]);
    up = new Up(store, hq);
    session = await openSession(store.db, await addRegister(store.db));
    for (let i = 0; i < 4; i += 1) await sell(store.db, session);
    await up.drain();
  });
  afterEach(async () => {
    await store.close();
    await hq.close();
  });

  const salesAt = async (side: TestSide): Promise<number> =>
    (await queryOne<{ n: number }>(side.db, 'select count(*) as n from public.sales')).n;
  const halted = async (): Promise<string | undefined> => (await up.outbox.halted())?.code;
  const renew = (reexportFrom?: string): Promise<{ epoch: number; renumbered: number; reexported: number }> =>
    reEnrolStore(store.pool, {
      instance: up.instance,
      ask: (request) => reEnrol(hq.pool, 7, request, () => Promise.resolve(false)),
      ...(reexportFrom === undefined ? {} : { reexportFrom }),
    });

  it('a store restored from a backup is found at hello: PS-UP-ROLLBACK; tills go on, re-enrolment sends all', async () => {
    const backup = await Backup.take(store.db, STORE);
    for (let i = 0; i < 3; i += 1) await sell(store.db, session);
    await up.drain();
    await backup.restore();
    await up.hello();
    assert.equal(await halted(), 'PS-UP-ROLLBACK');
    for (let i = 0; i < 2; i += 1) await sell(store.db, session);
    assert.equal(await up.outbox.seal(), 2);
    assert.equal(await up.message(), undefined);
    const { epoch, renumbered } = await renew();
    assert.deepEqual({ epoch, renumbered }, { epoch: 2, renumbered: 2 });
    await up.hello();
    assert.equal(await halted(), undefined);
    await up.drain();
    // 4 + 3 that only HQ still has + 2 new ones: nothing lost, nothing doubled.
    assert.equal(await salesAt(hq), 9);
    assert.deepEqual(
      (await differences(hq, store)).flatMap((t) => [...t.differing, ...t.missingAtHq]),
      [],
    );
  });

  it('a store restored and sold on past HQ’s number: PS-UP-DIVERGED (negative control: the number alone sees nothing)', async () => {
    const backup = await Backup.take(store.db, STORE);
    await sell(store.db, session);
    await up.drain();
    const { seq: atHq } = await queryOne<{ seq: number }>(hq.db, 'select seq from possync.inbox');
    await backup.restore();
    for (let i = 0; i < 3; i += 1) await sell(store.db, session);
    await up.outbox.seal();
    const { seq: mine } = await queryOne<{ seq: number }>(store.db, 'select seq from possync.state');
    // By numbers alone the store would believe that HQ has its entry and send only what follows: one sale lost.
    assert.ok(mine > atHq);
    await up.hello();
    assert.equal(await halted(), 'PS-UP-DIVERGED');
    await renew();
    await up.hello();
    await up.drain();
    assert.equal(await salesAt(hq), 8);
    assert.deepEqual(
      (await differences(hq, store)).flatMap((t) => [...t.differing, ...t.missingAtHq]),
      [],
    );
  });

  it('invariant 19: a clone is refused while the other lives, fenced when it does not, and found by the chain', async () => {
    const clone = new Up(store, hq);
    const refusedHello = await clone.hello((instance) => instance.daemon === up.instance.daemon);
    assert.ok(refusedHello.type === 'refuse' && refusedHello.code === 'other_instance_alive');
    await sell(store.db, session);
    await up.outbox.seal();
    const message = await up.message();
    assert.ok(message !== undefined);
    // The first machine is gone (its socket answers no ping): the second one takes over, the first is fenced.
    assert.equal((await clone.hello()).type, 'welcome');
    const late = await up.send(message);
    assert.ok(late.result === 'conflict' && late.conflict.code === 'fenced');
    assert.deepEqual(await up.outbox.conflicted(late.conflict), { result: 'hello' });
    // The clone's own entry with the same number: HQ took another one before, so its chain does not fit.
    const forged = { ...message, fence: clone.fence ?? '', prev: message.prev };
    assert.equal((await clone.send(forged)).result, 'ok');
    const other = await clone
      .send({ ...forged, txs: forged.txs.map((tx) => ({ ...tx, body: '{"registers":[]}' })) })
      .catch((error: unknown) => error);
    assert.ok(
      typeof other === 'object' && other !== null && 'result' in other && other.result === 'conflict',
    );
  });

  it('the old epoch is refused after a re-enrolment, which is itself refused while another machine is connected', async () => {
    await up.hello();
    await sell(store.db, session);
    await up.outbox.seal();
    const message = await up.message();
    assert.ok(message !== undefined);
    await assert.rejects(
      reEnrolStore(store.pool, {
        instance: { ...up.instance, daemon: '00000000-0000-4000-8000-000000000001' },
        ask: (request) => reEnrol(hq.pool, 7, request, () => Promise.resolve(true)),
      }),
      { code: 'PS-OTHER-INSTANCE' },
    );
    const oldHello = await up.helloMessage();
    assert.equal((await renew()).epoch, 2);
    assert.deepEqual(await differences(hq, store).then((d) => d.length), 4);
    const old = await hello(hq.pool, 7, oldHello, () => Promise.resolve(false));
    assert.ok(old.type === 'refuse' && old.code === 'epoch' && old.epoch === 2);
    await up.hello();
    const late = await up.send({ ...message, fence: up.fence ?? '' });
    assert.ok(late.result === 'conflict' && late.conflict.code === 'epoch');
    await up.drain();
    assert.deepEqual(await differences(hq, store), []);
  });

  it('a lost answer to re-enrol is asked again and carried out once', async () => {
    await sell(store.db, session);
    const asked: number[] = [];
    await assert.rejects(
      reEnrolStore(store.pool, {
        instance: up.instance,
        ask: async (request) => {
          asked.push((await reEnrol(hq.pool, 7, request, () => Promise.resolve(false))).epoch);
          throw new Error('the answer is lost');
        },
      }),
      /lost/,
    );
    assert.equal((await renew()).epoch, 2);
    assert.deepEqual(asked, [2]);
    await up.hello();
    await up.drain();
    assert.deepEqual(await differences(hq, store), []);
  });

  it('invariant 18: HQ restored from a backup gets again what it lost (negative control: without acknowledged entries it cannot)', async () => {
    const backup = await Backup.take(hq.db, HQ);
    for (let i = 0; i < 8; i += 1) await sell(store.db, session);
    await up.drain();
    await backup.restore();
    assert.equal(await salesAt(hq), 4);
    await up.hello();
    assert.equal((await up.outbox.counts()).queued, 8);
    await up.drain();
    assert.equal(await salesAt(hq), 12);
    assert.deepEqual(await differences(hq, store), []);
    assert.equal((await up.outbox.counts()).queued, 0);
    // The wrong variant: entries deleted when acknowledged. HQ is restored once more, and eight sales are gone.
    await store.db.query('delete from possync.outbox where acked_at is not null');
    await backup.restore();
    await up.hello();
    assert.equal(await halted(), 'PS-HQ-TOO-OLD');
    assert.equal(await up.message(), undefined);
    const { reexported, epoch } = await renew('2026-01-01');
    assert.ok(reexported >= 14 && epoch === 2);
    await up.hello();
    await up.drain({ transactions: 5 });
    assert.deepEqual(await differences(hq, store), []);
  });

  it('HQ restored to before a re-enrolment: the old epoch first, then the later one from 1', async () => {
    const backup = await Backup.take(hq.db, HQ);
    await sell(store.db, session);
    await up.drain();
    await renew();
    await sell(store.db, session);
    await up.hello();
    await up.drain();
    await sell(store.db, session);
    await backup.restore();
    const welcome = await up.hello();
    assert.ok(welcome.type === 'welcome' && welcome.epoch === 1);
    await up.outbox.seal();
    // Skipping the rest of epoch 1 is refused.
    const { rows } = await store.db.query<{ seq: number; v: number; body: string; chain: string }>(
      `select seq, v, body, encode(chain, 'hex') as chain from possync.outbox where epoch = 2 and seq = 1`,
    );
    const [jump] = rows;
    assert.ok(jump !== undefined);
    const jumped = await up.send({
      epoch: 2,
      fence: up.fence ?? '',
      first: 1,
      prev: '',
      txs: [jump],
      lastChain: jump.chain,
    });
    assert.ok(jumped.result === 'conflict' && jumped.conflict.code === 'epoch');
    await up.drain();
    assert.deepEqual(await differences(hq, store), []);
    const inbox = await queryOne<{ epoch: number }>(hq.db, 'select epoch from possync.inbox');
    assert.equal(inbox.epoch, 2);
  });

  it('an HQ that was restored and then fed by a clone gets everything that is kept, not only what is unacknowledged', async () => {
    const backup = await Backup.take(hq.db, HQ);
    for (let i = 0; i < 3; i += 1) await sell(store.db, session);
    await up.drain();
    await backup.restore();
    // Somebody else's entries under this store's numbers.
    await hq.db.query(`update possync.inbox set seq = seq + 9, chain = decode(repeat('ab', 32), 'hex')`);
    await up.hello();
    assert.equal(await halted(), 'PS-UP-ROLLBACK');
    await renew();
    await up.hello();
    await up.drain();
    assert.deepEqual(await differences(hq, store), []);
  });

  it('a re-export repeats transfers and states without going back', async () => {
    const sale = await sell(store.db, session);
    const transfer = await insertTransfer(store.db);
    await insertTransfer(store.db); // stays a draft
    await moveTransfer(store.db, transfer, 'pending');
    await up.drain();
    await moveTransfer(store.db, transfer, 'in_transit');
    await voidSale(store.db, sale);
    await up.drain();
    await adjust(store.db, 3);
    await renew('2026-01-01');
    await up.hello();
    await up.drain();
    const { rows } = await hq.db.query('select seq, error from possync.dead');
    assert.deepEqual(rows, []);
    const left = await differences(hq, store);
    assert.deepEqual(
      left.flatMap((t) => t.differing),
      [],
    );
    // Only the draft is not there.
    assert.deepEqual(
      left.map((t) => t.table),
      ['transfers', 'transfer_lines'],
    );
  });

  it('forgets acknowledged entries after 35 days, after 7 on a full disk, and never one that waits', async () => {
    await sell(store.db, session);
    await up.outbox.seal();
    await store.db.query(
      `update possync.outbox set acked_at = acked_at - make_interval(days => case when seq <= 2 then 40 else 10 end)`,
    );
    const kept = async (): Promise<number> =>
      (await queryOne<{ n: number }>(store.db, 'select count(*) as n from possync.outbox')).n;
    const round = (free: number): Promise<number> =>
      new OutboxRetention({
        pool: store.pool,
        clock: systemClock,
        freeShare: () => Promise.resolve(free),
      }).round();
    assert.equal(await kept(), 7);
    assert.equal(await round(0.5), 2);
    assert.equal(await round(0.05), 4);
    assert.equal(await kept(), 1);
    assert.equal((await up.outbox.counts()).queued, 1);
    await up.drain();
    assert.deepEqual(await differences(hq, store), []);
  });
});
