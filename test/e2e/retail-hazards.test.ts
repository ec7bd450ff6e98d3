/** Hazards of retail itself: a catalogue that moves under late sales, people and sessions, names that change, purges. */
import assert from 'node:assert/strict';
import { uuidv7 } from '../../src/core/ids.ts';
import { queryOne } from '../../src/db/transaction.ts';
import { possync } from '../support/cli.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { addRegister, openHq, openSession, openStore, sell, together, insertSale } from '../support/pos.ts';
import { differences, Up } from '../support/up.ts';
import { until } from '../support/until.ts';
import { settled } from '../support/verify.ts';

describe('hazards of retail', function () {
  this.timeout(120_000);
  let hq: TestHq;
  let store: TestStore;
  let other: TestStore;
  before(async () => {
    hq = await TestHq.open('retail hazards');
    store = await TestStore.open(hq, 'HAZ-1');
    other = await TestStore.open(hq, 'HAZ-2');
    await store.untilLight('green');
    await other.untilLight('green');
  });
  after(async () => {
    await store.close();
    await other.close();
    await hq.close();
  });

  const arrives = async (id: string): Promise<void> => {
    await until(
      async () => (await hq.pool.query('select from public.sales where id = $1::uuid', [id])).rowCount === 1,
      {
        what: 'the sale is at HQ',
        timeoutMs: 20_000,
      },
    );
  };

  it('hazards 15, 16: a sale of a product that HQ has switched off, never had or taxes anew stays as it was sold', async () => {
    const [product, rate] = [uuidv7(), uuidv7()];
    await hq.pool.query(
      `insert into public.tax_rates (id, code, name, rate_bp) values ($1::uuid, 'VAT', 'VAT', 700)`,
      [rate],
    );
    await hq.pool.query(
      `insert into public.products (id, sku, name, price, tax_rate_id) values ($1::uuid, 'OLD', 'old', 100, $2::uuid)`,
      [product, rate],
    );
    await until(async () => (await store.count('products')) === 1, { what: 'the product is in the store' });
    await store.stop();
    await hq.pool.query(`update public.products set active = false, name = 'renamed', price = 999`);
    await hq.pool.query('update public.tax_rates set rate_bp = 1900');
    const till = await store.database.connect();
    const session = await openSession(till, await addRegister(till, store.id), store.id);
    const id = await together(till, async () => {
      const sale = await insertSale(till, session, { storeId: store.id, lines: 2 });
      // Line 2 keeps its product, which HQ has never had.
      await till.query(
        `update public.sale_lines set product_id = $2::uuid, sku = 'OLD', name = 'old', unit_price = 100 where sale_id = $1::uuid and line_no = 1`,
        [sale, product],
      );
      // The rate by which it was sold, under whatever id the till knows it.
      await till.query(`update public.sale_line_taxes set rate_bp = 700 where sale_id = $1::uuid`, [sale]);
      return sale;
    });
    await store.start();
    await arrives(id);
    const kept = await queryOne<Record<string, unknown>>(
      hq.pool,
      `select l.sku, l.name, l.unit_price::text as price, t.rate_bp, (select count(*) from possync.dead) as dead
         from public.sale_lines l join public.sale_line_taxes t using (sale_id, line_no)
        where l.sale_id = $1::uuid and l.line_no = 1`,
      [id],
    );
    assert.deepEqual(kept, { sku: 'OLD', name: 'old', price: '100.0000', rate_bp: 700, dead: 0 });
  });

  it('hazard 13: an open session neither reaches another store nor stands in the way of the same cashier there', async () => {
    const cashier = uuidv7();
    for (const place of [store, other]) {
      const till = await place.database.connect();
      const register = await addRegister(till, place.id);
      await till.query(
        `insert into public.register_sessions (id, store_id, register_id, user_id, status, opened_at)
         values ($1::uuid, $2::int, $3::uuid, $4::uuid, 'open', now())`,
        [uuidv7(), place.id, register, cashier],
      );
    }
    await until(
      async () =>
        (await hq.pool.query('select from public.register_sessions where user_id = $1::uuid', [cashier]))
          .rowCount === 2,
      { what: 'HQ has both as facts' },
    );
    assert.equal(
      (await store.pool.query('select from public.register_sessions where store_id <> $1::int', [store.id]))
        .rowCount,
      0,
    );
    // What would go down is captured in the transaction that brought it: it waits there, or is sealed.
    const { n } = await queryOne<{ n: number }>(
      hq.pool,
      `select (select count(*) from possync.capture c where c.entity in ('register', 'register_session'))
              + (select count(*) from possync.feed f where f.entity in ('register', 'register_session')) as n`,
    );
    assert.equal(n, 0, 'nothing of a session goes down');
  });

  it('hazard 19: a store that is renamed and moved to another time zone keeps its code, its documents and their days', async () => {
    const till = await store.database.connect();
    const session = await openSession(till, await addRegister(till, store.id), store.id);
    const before = await sell(till, session, { storeId: store.id, businessDate: '2026-11-20' });
    await arrives(before);
    await hq.pool.query(
      `update public.stores set name = 'New name', time_zone = 'Pacific/Auckland' where id = $1::int`,
      [store.id],
    );
    await until(
      async () =>
        (
          await store.pool.query(
            `select from public.stores where id = $1::int and time_zone = 'Pacific/Auckland'`,
            [store.id],
          )
        ).rowCount === 1,
      { what: 'the new zone is in the store' },
    );
    const after = await sell(till, session, { storeId: store.id, businessDate: '2026-11-21' });
    await arrives(after);
    const { rows } = await hq.pool.query(
      `select s.store_id, s.business_date::text as day from public.sales s where s.id = any($1::uuid[]) order by day`,
      [[before, after]],
    );
    assert.deepEqual(rows, [
      { store_id: store.id, day: '2026-11-20' },
      { store_id: store.id, day: '2026-11-21' },
    ]);
    assert.equal((await store.link()).indicator, 'green');
  });

  it('hazard 21: a PIN hash goes only where its user works, and into no log, status or queue', async () => {
    const hash = '$2b$12$possyncPossyncPossyncOeVYzq9n2mTq';
    const [user, role] = [uuidv7(), uuidv7()];
    await hq.pool.query(`insert into public.roles (id, name) values ($1::uuid, 'cashier')`, [role]);
    await hq.pool.query(
      `insert into public.users (id, username, display_name, pin_hash) values ($1::uuid, 'anna', 'Anna', $2::text)`,
      [user, hash],
    );
    await hq.pool.query(
      `insert into public.user_store_roles (id, user_id, role_id, store_id) values ($1::uuid, $2::uuid, $3::uuid, $4::int)`,
      [uuidv7(), user, role, store.id],
    );
    await until(
      async () =>
        (await store.pool.query('select from public.users where pin_hash = $1::text', [hash])).rowCount === 1,
      {
        what: 'Anna is where she works',
      },
    );
    await settled(hq, other);
    assert.equal(await other.count('roles'), 1, 'it has all that is for every store');
    assert.equal((await other.pool.query('select from public.users')).rowCount, 0);
    const env = { DATABASE_URL: store.database.url, POSSYNC_STATE_DIR: store.stateDir };
    const outputs = await Promise.all(
      [['status', '--json'], ['queue', 'ls', '--json'], ['status'], ['diagnose', 'db', '--json']].map(
        async (args) => {
          const { stdout, stderr } = await possync(args, { env });
          return stdout + stderr;
        },
      ),
    );
    const logs = [hq, store, other].map(({ log }) => JSON.stringify(log.lines));
    for (const text of [...outputs, ...logs]) assert.ok(!text.includes(hash));
  });

  it('pain 9: a store that is away keeps nothing of the write-ahead log of HQ', async () => {
    await other.stop();
    const { slots } = await queryOne<{ slots: number }>(
      hq.pool,
      'select count(*) as slots from pg_replication_slots',
    );
    assert.equal(slots, 0);
    await other.start();
  });
});

describe('a store that purges', () => {
  it('hazard 32: sales that are deleted before they were sent arrive whole, sealed or not', async () => {
    const [store, hq] = await Promise.all([openStore('purge'), openHq('purge')]);
    const up = new Up(store, hq);
    const session = await openSession(store.db, await addRegister(store.db));
    const sealed = await sell(store.db, session, { lines: 3 });
    await up.outbox.seal();
    const captured = await sell(store.db, session, { lines: 3 });
    await store.db.query('begin');
    for (const table of ['sale_line_taxes', 'sale_payments', 'sale_lines'])
      await store.db.query(`delete from public.${table}`);
    await store.db.query('delete from public.sales');
    await store.db.query('commit');
    await up.drain();
    const { rows } = await hq.db.query<{ id: string; lines: number }>(
      `select s.id, (select count(*) from public.sale_lines l where l.sale_id = s.id) as lines from public.sales s order by s.id`,
    );
    assert.deepEqual(
      rows,
      [sealed, captured].sort().map((id) => ({ id, lines: 3 })),
    );
    assert.deepEqual(
      (await differences(hq, store)).flatMap((t) => [...t.differing, ...t.missingAtHq]),
      [],
    );
    await store.close();
    await hq.close();
  });
});
