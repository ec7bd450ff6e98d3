/** Tills and applies at the same time: a large change arrives as one, and no till waits for it. */
import assert from 'node:assert/strict';
import { uuidv7 } from '../../../src/core/ids.ts';
import { createPool } from '../../../src/db/pool.ts';
import { queryOne } from '../../../src/db/transaction.ts';
import { Mirror } from '../../../src/store/mirror/mirror.ts';
import { fetchFrom, NEVER, pull, seal } from '../../support/feed.ts';
import { openHq, openStore, type TestSide } from '../../support/pos.ts';
import { until } from '../../support/until.ts';

const STORE = 5;
const MANY = 100_000;

describe('tills while a store applies', function () {
  this.timeout(180_000);
  let hq: TestSide;
  let store: TestSide;

  before(async () => {
    hq = await openHq('tills', [STORE]);
    store = await openStore('tills', STORE);
    await hq.db.query(
      `insert into public.products (id, sku, name, price) select gen_random_uuid(), 'P' || i, 'p', 100 from generate_series(1, ${MANY}) i`,
    );
    await seal(hq.db);
    await pull(hq.pool, store.pool, STORE);
    // A table of the till that points at products, as the POS applications have them.
    await store.db.query(
      `create table public.basket (id bigint generated always as identity, product_id uuid not null references public.products)`,
    );
  });
  after(async () => {
    await store.close();
    await hq.close();
  });

  it('sees 100,000 new prices of one commit as one change, and invariant 12: sells without a wait', async () => {
    await hq.db.query('update public.products set price = 200');
    assert.equal((await seal(hq.db)).records, MANY);

    const till = await store.database.connect();
    const observer = await store.database.connect();
    await till.query(`set lock_timeout = '20ms'`); // any wait for the apply's locks is an error
    const seen = new Set<string>();
    let sold = 0;
    let soldDuring = 0;
    const applying = new AbortController();
    const selling = (async () => {
      while (!applying.signal.aborted) {
        await till.query(
          `insert into public.basket (product_id) select p.id from public.products p where p.sku = 'P' || (1 + $1::integer % ${MANY})`,
          [sold * 7_919],
        );
        sold += 1;
        const { busy } = await queryOne<{ busy: boolean }>(
          till,
          `select exists (select from pg_locks l join pg_class c on c.oid = l.relation
             where c.relname = 'products' and l.mode = 'RowExclusiveLock' and l.pid <> pg_backend_pid()) as busy`,
        );
        if (busy) soldDuring += 1;
        await till.query('select pg_sleep(0.005)');
      }
    })();
    const watching = (async () => {
      while (!applying.signal.aborted) {
        const { prices } = await queryOne<{ prices: string }>(
          observer,
          `select string_agg(distinct p.price::integer::text, ',') as prices from public.products p`,
        );
        seen.add(prices);
        await observer.query('select pg_sleep(0.05)'); // leaves the machine to the apply
      }
    })();
    const outcome = await pull(hq.pool, store.pool, STORE);
    applying.abort();
    await Promise.all([selling, watching]);
    assert.deepEqual(outcome.result === 'applied' && outcome.records, MANY);
    const { prices } = await queryOne<{ prices: string }>(
      observer,
      `select string_agg(distinct p.price::integer::text, ',') as prices from public.products p`,
    );
    assert.equal(prices, '200');
    for (const mix of seen) assert.ok(['100', '200'].includes(mix), `a mixed state was seen: ${mix}`);
    assert.ok(soldDuring > 0, 'something was sold while the apply was open');
  });

  /** Opens an apply by hand up to one statement, and tries to sell product A against it. */
  const sellAgainst = async (statement: string): Promise<string> => {
    const apply = await store.database.connect();
    const till = await store.database.connect();
    await apply.query(`begin; set local possync.applying = 'on'; set constraints all deferred`);
    await apply.query(statement);
    await till.query(`set lock_timeout = '50ms'`);
    try {
      await till.query(
        `insert into public.basket (product_id) select p.id from public.products p where p.sku = 'P1'`,
      );
      return 'sold';
    } catch (error) {
      return (error as { code: string }).code;
    } finally {
      await apply.query('rollback');
    }
  };

  it('negative control: ON CONFLICT DO UPDATE with the SKU in its list makes the till wait', async () => {
    assert.equal(
      await sellAgainst(`insert into public.products (id, sku, name, price) select p.id, p.sku, p.name, 300
        from public.products p where p.sku = 'P1' on conflict (id) do update set sku = excluded.sku, price = excluded.price`),
      '55P03',
    );
    assert.equal(
      await sellAgainst(`update public.products set sku = sku, price = 300 where sku = 'P1'`),
      'sold',
    );
  });

  it('gives way instead of the till when both want the same record', async () => {
    const [product] = (await hq.db.query<{ id: string }>(`select id from public.products where sku = 'P2'`))
      .rows;
    await hq.db.query(`update public.products set sku = 'changed' where id = $1`, [product?.id]);
    await seal(hq.db);
    const till = await store.database.connect();
    await till.query('begin');
    await till.query('insert into public.basket (product_id) values ($1)', [product?.id]);
    const pool = createPool({ url: store.database.url, applicationName: 'mirror' });
    const mirror = new Mirror({ pool });
    const applied = mirror.pull(fetchFrom(hq.pool, STORE), NEVER);
    await until(
      async () =>
        (
          await queryOne<{ n: number }>(
            store.db,
            `select count(*) as n from pg_stat_activity a where a.datname = current_database()
                and a.application_name = 'mirror' and a.wait_event_type = 'Lock'`,
          )
        ).n > 0,
      { what: 'the apply waits for the till' },
    );
    const outcome = await applied;
    assert.equal(outcome.result === 'failed' && outcome.error.code, 'PS-APPLY-WAITS');
    await till.query('insert into public.basket (product_id) values ($1)', [product?.id]);
    await till.query('commit');
    assert.equal((await mirror.pull(fetchFrom(hq.pool, STORE), NEVER)).result, 'applied');
    await pool.end();
  });

  it('leaves staging empty and small, so that one change finds its plan again', async () => {
    const { n, bytes } = await queryOne<{ n: number; bytes: number }>(
      store.db,
      `select count(*) as n, pg_relation_size('possync.staging') as bytes from possync.staging`,
    );
    assert.deepEqual([n, bytes < 1_000_000], [0, true]);
    const id = uuidv7();
    await hq.db.query(`insert into public.products (id, sku, name, price) values ($1, 'one', 'p', 1)`, [id]);
    await seal(hq.db);
    assert.equal((await pull(hq.pool, store.pool, STORE)).result, 'applied');
  });
});
