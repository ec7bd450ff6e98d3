/**
 * What others pay for and possync does not, in blocks of PostgreSQL instead of seconds: numbers that were never used, a
 * transaction that stays open, and stores that have been away for long. A measure that could not see such costs would
 * prove nothing, so each test ends with a way of doing it that has them.
 */
import assert from 'node:assert/strict';
import type pg from 'pg';
import { createPool } from '../../src/db/pool.ts';
import { queryOne } from '../../src/db/transaction.ts';
import { readPage, type PageRequest } from '../../src/hq/feed/pull.ts';
import { pull, seal } from '../support/feed.ts';
import {
  addRegister,
  insertSale,
  openHq,
  openSession,
  openStore,
  sell,
  type TestSide,
} from '../support/pos.ts';
import { Up } from '../support/up.ts';

/** Blocks that one statement touches, all that its functions do included. */
async function blocksOf(db: pg.Client, sql: string, values: unknown[] = []): Promise<number> {
  const { rows } = await db.query<Record<string, unknown>>(
    `explain (analyze, buffers, timing off, format json) ${sql}`,
    values,
  );
  const [plan] = Object.values(rows[0] ?? {});
  const [{ Plan: root }] = (typeof plan === 'string' ? JSON.parse(plan) : plan) as [
    { Plan: Record<string, number> },
  ];
  return (root['Shared Hit Blocks'] ?? 0) + (root['Shared Read Blocks'] ?? 0);
}

/** A sealing round, whole; it gives up where it would go through numbers one by one. */
async function roundBlocks(db: pg.Client, call: string): Promise<number> {
  await db.query(`begin isolation level repeatable read; set local statement_timeout = '20s';
    lock table possync.seal_lock in exclusive mode`);
  try {
    const blocks = await blocksOf(db, `select * from ${call}`);
    await db.query('commit');
    return blocks;
  } catch (error) {
    await db.query('rollback');
    throw error;
  }
}

/** The most of three, so that a page split or a first touch of an index is in it. */
async function mostOf(work: () => Promise<number>): Promise<number> {
  const seen: number[] = [];
  for (let n = 0; n < 3; n += 1) seen.push(await work());
  return Math.max(...seen);
}

describe('what costs nothing', function () {
  this.timeout(240_000);

  describe('gaps in numbers, and a transaction that stays open', () => {
    const BURNT = 1_000_000_000;
    let store: TestSide;
    let hq: TestSide;
    let session: string;
    before(async () => {
      [store, hq] = await Promise.all([openStore('gaps'), openHq('gaps')]);
      session = await openSession(store.db, await addRegister(store.db));
    });
    after(async () => {
      await store.close();
      await hq.close();
    });

    it('a round in a store looks for none of a billion numbers that nobody used, and waits for no one', async () => {
      const up = new Up(store, hq);
      await up.drain();
      const one = async (): Promise<number> => {
        await sell(store.db, session);
        return roundBlocks(store.db, 'possync.seal_outbox()');
      };
      const before = await mostOf(one);

      const open = await store.database.connect();
      await open.query('begin');
      await insertSale(open, session, { receipt: 'open' });
      await store.db.query(
        `select setval(pg_get_serial_sequence('possync.raw', 'id'),
                       nextval(pg_get_serial_sequence('possync.raw', 'id')) + $1::bigint)`,
        [BURNT],
      );
      const beside = await mostOf(one);
      assert.ok(beside <= before * 1.5 + 20, `${beside} blocks beside the gap, ${before} without it`);
      await up.drain();
      const atHq = async (): Promise<number> =>
        (await queryOne<{ n: number }>(hq.db, 'select count(*) as n from public.sales')).n;
      assert.equal(await atHq(), 6, 'whoever was not open has arrived');
      await open.query('commit');
      await up.drain();
      assert.equal(await atHq(), 7);

      // Negative control: who goes through the numbers to find what may still come meets the limit.
      await store.db.query(`begin; set local statement_timeout = '1s'`);
      await assert.rejects(
        blocksOf(
          store.db,
          `select count(*) from generate_series(1::bigint, $1::bigint) n (id)
            where not exists (select from possync.raw r where r.id = n.id)`,
          [BURNT],
        ),
        (error: unknown) => (error as { code?: string }).code === '57014',
      );
      await store.db.query('rollback');
    });

    it('a round at HQ leaves out one transaction that stays open and nothing else', async () => {
      await hq.db.query(
        `insert into public.products (id, sku, name, price) select gen_random_uuid(), 'G' || n, 'p', n from generate_series(1, 1000) n`,
      );
      await seal(hq.db);
      const one = async (): Promise<number> => {
        await hq.db.query(`update public.products set price = price + 1 where sku = 'G1'`);
        return roundBlocks(hq.db, 'possync.seal()');
      };
      const before = await mostOf(one);
      const open = await hq.database.connect();
      await open.query(`begin; update public.products set price = price + 1 where sku = 'G2'`);
      const other = await hq.database.connect();
      for (let n = 0; n < 200; n += 1)
        await other.query(`begin; update public.products set price = price + 1 where sku = 'G3'; rollback`);
      const beside = await mostOf(one);
      assert.ok(beside <= before * 1.5 + 50, `${beside} blocks beside it, ${before} without it`);
      await open.query('commit');
      const { records } = await seal(hq.db);
      assert.equal(records, 1);
    });
  });

  describe('stores that have been away for long', () => {
    const AWAY = 300;
    const PRODUCTS = 200;
    let hq: TestSide;
    let store: TestSide;
    before(async () => {
      hq = await openHq('away', [1]);
      store = await openStore('away', 1);
      await hq.db.query(
        `insert into public.products (id, sku, name, price) select gen_random_uuid(), 'A' || n, 'p', n from generate_series(1, ${PRODUCTS}) n;
         insert into public.store_prices (store_id, product_id, price) select 1, p.id, 1 from public.products p`,
      );
      await seal(hq.db);
      await pull(hq.pool, store.pool, 1);
    });
    after(async () => {
      await store.close();
      await hq.close();
    });

    /** The product's own statement for a page, and its values. */
    const pageStatement = async (request: PageRequest): Promise<[string, unknown[]]> => {
      const seen: [string, unknown[]][] = [];
      const spy = createPool({ url: hq.database.url, applicationName: 'spy', max: 1 });
      const query = spy.query.bind(spy) as (text: string, values: unknown[]) => Promise<{ rows: unknown[] }>;
      spy.query = ((text: string, values: unknown[]) => {
        seen.push([text, values]);
        return query(text, values);
      }) as typeof spy.query;
      await readPage(spy, request);
      await spy.end();
      const [statement] = seen;
      assert.ok(statement !== undefined);
      return statement;
    };
    /** One price of the store that is there changes, is sealed, asked for and applied; blocks of round and page. */
    const one = async (): Promise<number> => {
      await hq.db.query(
        `update public.store_prices set price = price + 1
          where store_id = 1 and product_id = (select p.id from public.products p where p.sku = 'A1')`,
      );
      const round = await roundBlocks(hq.db, 'possync.seal()');
      const { pos } = await queryOne<{ pos: number }>(store.db, 'select c.pos from possync.cursor c');
      const [text, values] = await pageStatement({ storeId: 1, from: pos, limit: 5_000 });
      const page = await blocksOf(hq.db, text, values);
      const outcome = await pull(hq.pool, store.pool, 1);
      assert.equal(outcome.result === 'applied' && outcome.records, 1);
      return round + page;
    };

    it(`${AWAY} stores that are away, with all their prices changed: a live store’s change is sealed and read as before`, async () => {
      const before = await mostOf(one);
      await hq.db.query(
        `insert into public.stores (id, code, name, time_zone) select n, 'AWAY-' || n, 'away', 'UTC' from generate_series(2, ${AWAY + 1}) n`,
      );
      await hq.db.query(
        `insert into public.store_prices (store_id, product_id, price)
         select s.id, p.id, 1 from public.stores s cross join public.products p where s.id > 1`,
      );
      await seal(hq.db);
      for (let price = 2; price <= 3; price += 1) {
        await hq.db.query('update public.store_prices set price = $1::numeric where store_id > 1', [price]);
        assert.equal((await seal(hq.db)).records, AWAY * PRODUCTS);
      }
      await pull(hq.pool, store.pool, 1);
      // What the three large rounds themselves leave behind autovacuum takes away within a minute.
      for (const table of ['possync.capture', 'possync.feed', 'public.store_prices'])
        await hq.db.query(`vacuum (analyze) ${table}`);
      const { kept } = await queryOne<{ kept: number }>(
        hq.db,
        'select count(*) as kept from possync.feed f where f.store_id > 1',
      );
      assert.equal(kept, AWAY * PRODUCTS, 'a state of each record, not a queue of changes');
      const beside = await mostOf(one);
      assert.ok(beside <= before * 1.5 + 50, `${beside} blocks beside them, ${before} without them`);

      // Negative control: who asks for everything after a position and keeps his own reads the others' backlog.
      await hq.db.query('begin; set local enable_indexscan = off; set local enable_bitmapscan = off');
      const scanned = await blocksOf(
        hq.db,
        'select count(*) from possync.feed f where f.pos > 0 and f.store_id in (0, 1)',
      );
      await hq.db.query('rollback');
      assert.ok(scanned > beside * 2, `${scanned} blocks`);
      console.log(
        `      blocks: ${before} alone, ${beside} beside ${kept} records of others, ${scanned} by scanning`,
      );
    });
  });
});
