/** `possync verify` beside running tills and price changes: no false difference; and repairs that were killed. */
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import type pg from 'pg';
import { uuidv7 } from '../../src/core/ids.ts';
import { Random } from '../../src/core/random.ts';
import { compareStore, countDifferences } from '../../src/db/compare.ts';
import { queryOne } from '../../src/db/transaction.ts';
import { changeSomething, fillHeadOffice } from '../../src/demo/catalogue.ts';
import { Till } from '../../src/demo/till.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { addRegister, openSession, sell } from '../support/pos.ts';
import { startPossync } from '../support/process.ts';
import { randomFor } from '../support/random.ts';
import { until } from '../support/until.ts';
import { differencesIn, settled, tamper, verify, verifyAlone } from '../support/verify.ts';

const ROUNDS = 3;

describe('verify beside work', function () {
  this.timeout(240_000);
  const random = randomFor('verify busy');
  let hq: TestHq;
  let here: TestStore;
  let there: TestStore;

  before(async () => {
    hq = await TestHq.open('verify_busy');
    await fillHeadOffice(hq.pool, 300);
    here = await TestStore.open(hq, 'B-1', { pullIntervalMs: 300, pushIntervalMs: 300 });
    there = await TestStore.open(hq, 'B-2', { pullIntervalMs: 300, pushIntervalMs: 300 });
    await settled(hq, here);
    await settled(hq, there);
  });
  after(async () => {
    await here.close();
    await there.close();
    await hq.close();
  });

  async function sellAt(store: TestStore, code: string, seed: number, open: AbortSignal): Promise<void> {
    const client = await store.database.connect();
    const registerId = uuidv7();
    await client.query(
      `insert into public.registers (id, store_id, code, name) values ($1::uuid, $2::integer, $3::text, $3::text)`,
      [registerId, store.id, code],
    );
    const till = new Till(client, {
      storeId: store.id,
      registerId,
      registerCode: code,
      random: new Random(seed),
    });
    while (!open.aborted) {
      await till.step();
      await pause(5);
    }
    await client.end();
  }

  async function headOffice(seed: number, open: AbortSignal): Promise<void> {
    const changes = new Random(seed);
    while (!open.aborted) {
      await changeSomething(hq.pool, changes);
      await pause(20);
    }
  }

  it('calls nothing different while tills sell and prices change, where a comparison without regard to what is on its way does', async () => {
    const closing = new AbortController();
    const { signal } = closing;
    const work = [
      headOffice(random.int(1_000_000), signal),
      ...[here, there].flatMap((store) =>
        ['R1', 'R2'].map((code) => sellAt(store, code, random.int(1_000_000), signal)),
      ),
    ];
    try {
      for (let n = 0; n < ROUNDS; n += 1) {
        // Several at once, with and without a push and a pull first.
        const reports = await Promise.all([
          verify(here),
          verifyAlone(here),
          verify(there),
          verifyAlone(there),
        ]);
        for (const report of reports) {
          assert.deepEqual(differencesIn(report), []);
          assert.equal(report.state, 'equal');
        }
      }
    } finally {
      closing.abort();
      await Promise.all(work);
    }
    await settled(hq, here);
    await settled(hq, there);
    for (const store of [here, there]) {
      assert.deepEqual(differencesIn(await verify(store)), []);
      assert.equal(countDifferences(await compareStore(hq.pool, store.pool, store.id)), 0);
    }
    // The control: a sale that has not been sent, a price that is not sealed, and one that is sealed and not pulled.
    await here.stop();
    const till = await here.database.connect();
    await sell(till, await openSession(till, await addRegister(till, here.id), here.id), {
      storeId: here.id,
    });
    const products = `select p.id from public.products p order by p.id`;
    await hq.pool.query(`update public.products set price = 1 where id = (${products} limit 1)`);
    await until(
      async () =>
        (await queryOne<{ n: number }>(hq.pool, 'select count(*) as n from possync.capture')).n === 0,
      { what: 'the price is sealed' },
    );
    const sealer = await hq.pool.connect();
    try {
      await sealer.query('begin; lock table possync.seal_lock in exclusive mode');
      await hq.pool.query(`update public.products set price = 2 where id = (${products} offset 1 limit 1)`);
      const report = await verifyAlone(here);
      assert.deepEqual(differencesIn(report), []);
      const left = report.tables
        .filter((t) => (t.in_flight ?? 0) > 0)
        .map((t) => `${t.table} ${t.in_flight}`);
      assert.deepEqual(left, [
        'products 2',
        'registers 1',
        'register_sessions 1',
        'sales 1',
        'sale_lines 2',
        'sale_line_taxes 2',
        'sale_payments 1',
      ]);
      const naive = await compareStore(hq.pool, here.pool, here.id);
      assert.equal(countDifferences(naive), 10);
      // A real difference shows all the same, in the tables where something is on its way.
      await tamper(
        here.pool,
        `update public.products set price = 9 where id = (${products} offset 5 limit 1)`,
      );
      assert.deepEqual(differencesIn(await verifyAlone(here)), ['products down: 1/0/0']);
    } finally {
      await sealer.query('rollback');
      sealer.release();
    }
    await here.start();
    await settled(hq, here);
    const repaired = await verify(here, { repair: true });
    assert.equal(repaired.state, 'equal');
    assert.equal(repaired.repaired.length, 1);
  });

  it('does not call what HQ has parked a difference, and calls it one when it was given up there', async () => {
    await settled(hq, here);
    const till = await here.database.connect();
    const session = await openSession(till, await addRegister(till, here.id), here.id);
    await hq.pool.query(
      `alter table public.inventory_adjustments add constraint no_thanks check (reason <> 'damaged') not valid`,
    );
    await till.query(
      `insert into public.inventory_adjustments (id, store_id, product_id, quantity_delta, reason, user_id, occurred_at, business_date)
       values ($1::uuid, $2::int, $1::uuid, 1, 'damaged', $1::uuid, now(), '2026-11-20')`,
      [uuidv7(), here.id],
    );
    await sell(till, session, { storeId: here.id });
    await settled(hq, here);
    const parked = await verify(here);
    assert.deepEqual(differencesIn(parked), []);
    assert.equal(parked.tables.find(({ table }) => table === 'inventory_adjustments')?.in_flight, 1);
    await hq.pool.query('alter table public.inventory_adjustments drop constraint no_thanks');
    await hq.pool.query('delete from possync.dead');
    assert.deepEqual(differencesIn(await verify(here)), ['inventory_adjustments up: 0/1/0']);
    assert.equal((await verify(here, { repair: true })).state, 'equal');
  });

  it('leaves nothing behind that the next run does not finish: killed in a repair up, and in one down', async () => {
    await settled(hq, here);
    await here.stop();
    const changed = await tamper(
      hq.pool,
      `update public.sales set total = total + 1 where store_id = $1::int`,
      [here.id],
    );
    await killedIn(
      'select from possync.repairs',
      'lock table possync.repairs in access exclusive mode',
      `select count(*) from possync.raw`,
    );
    await here.start();
    const up = await verify(here, { repair: true });
    assert.equal(up.state, 'equal');
    assert.ok(changed > 0);
    assert.equal((await queryOne<{ n: number }>(hq.pool, 'select count(*) as n from possync.dead')).n, 0);

    await settled(hq, here);
    await here.stop();
    await tamper(here.pool, `update public.products set name = 'Changed'`);
    await killedIn(
      'select from possync.cursor',
      'select from possync.cursor for update',
      `select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`,
    );
    assert.notDeepEqual(differencesIn(await verifyAlone(here)), []);
    await here.start();
    const down = await verify(here, { repair: true });
    assert.equal(down.state, 'equal');
    assert.equal(countDifferences(await compareStore(hq.pool, here.pool, here.id)), 0);
  });

  /** `verify --repair` without a daemon, stopped by a lock at a known step and killed there. */
  async function killedIn(what: string, lock: string, reached: string): Promise<void> {
    const blocker: pg.PoolClient = await here.pool.connect();
    try {
      await blocker.query(`begin; ${lock}`);
      const repair = await startPossync(['verify', '--repair'], {
        env: { DATABASE_URL: here.database.url, POSSYNC_STATE_DIR: here.stateDir },
      });
      await until(async () => (await queryOne<{ count: number }>(here.pool, reached)).count > 0, {
        what: `the repair came to ${what}`,
        timeoutMs: 60_000,
      });
      const { signal } = await repair.kill();
      assert.equal(signal, 'SIGKILL');
    } finally {
      await blocker.query('rollback');
      blocker.release();
    }
  }
});
