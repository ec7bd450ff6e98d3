/** Each wrong way to bring a head office's changes to a store, seen failing beside the right one. */
import assert from 'node:assert/strict';
import { queryOne } from '../../src/db/transaction.ts';
import { Mirror, type FetchPage } from '../../src/store/mirror/mirror.ts';
import { fetchFrom, NEVER, pull, seal } from '../support/feed.ts';
import { fromWirePage, toWirePage, type WirePage } from '../support/page.ts';
import { openHq, openStore, type TestSide } from '../support/pos.ts';
import { until } from '../support/until.ts';

/** A small HQ whose pair of products costs 1,000 together, and a store that has it. */
describe('wrong ways to do it', () => {
  let hq: TestSide;
  let store: TestSide;

  beforeEach(async () => {
    hq = await openHq('wrong ways', []);
    store = await openStore('wrong ways', 1);
    await hq.db.query(`insert into public.departments (id, code, name) values ($1, 'OLD', 'old')`, [OLD]);
    await hq.db.query(
      `insert into public.products (id, sku, name, price, barcode, department_id)
       values ($1, 'A', 'a', 500, '0', $3), ($2, 'B', 'b', 500, '0', $3)`,
      [A, B, OLD],
    );
    await seal(hq.db);
    await pull(hq.pool, store.pool, 1);
  });

  afterEach(async () => {
    await store.close();
    await hq.close();
  });

  /** One head-office transaction: what A gains, B loses. */
  const shift = (delta: number): Promise<unknown> =>
    hq.db.query(
      'update public.products set price = price + case when id = $2 then $1::int else -$1::int end',
      [delta, A],
    );

  const sum = async (): Promise<number> =>
    (await queryOne<{ sum: number }>(store.db, 'select sum(price)::int as sum from public.products')).sum;

  /** Pulls with one row a page; `meanwhile` runs once, after the first page that has a row. */
  const pullSlowly = async (fetchPage: FetchPage, meanwhile: () => Promise<unknown>): Promise<void> => {
    let done = false;
    const outcome = await new Mirror({ pool: store.pool, pageRows: 1 }).pull(async (query, signal) => {
      const answer = await fetchPage(query, signal);
      if (!done && answer.result === 'page' && toWirePage(answer.body).rows.length > 0) {
        done = true;
        await meanwhile();
      }
      return answer;
    }, NEVER);
    assert.notEqual(outcome.result, 'failed');
  };

  const again = async (): Promise<void> => {
    await shift(10);
    await seal(hq.db);
  };

  it('the right way holds where the next one fails: a round closes only at the head of its own snapshot', async () => {
    await again();
    await pullSlowly(fetchFrom(hq.pool, 1), again);
    assert.equal(await sum(), 1_000);
  });

  it('negative control: an upper bound fixed at the start applies half a transaction', async () => {
    await again();
    const until = await queryOne<{ head: number; nonce: string }>(
      hq.db,
      'select r.head, r.nonce from possync.rounds r order by r.head desc limit 1',
    );
    await pullSlowly(async (query, signal) => {
      const answer = await fetchFrom(hq.pool, 1)(query, signal);
      if (answer.result !== 'page') return answer;
      const rows = toWirePage(answer.body).rows.filter(([, , pos]) => pos <= until.head);
      const closing = rows.length === 0;
      const to = closing ? until.head : (rows.at(-1)?.[2] ?? until.head);
      return fromWirePage({ from: query.from, to, head: until.head, closing, nonce: until.nonce, rows });
    }, again);
    assert.notEqual(await sum(), 1_000);
  });

  it('negative control: documents read when they are asked for show half a transaction', async () => {
    await again();
    await pullSlowly(
      async (query, signal) => {
        const answer = await fetchFrom(hq.pool, 1)(query, signal);
        if (answer.result !== 'page') return answer;
        const page = toWirePage(answer.body);
        for (const row of page.rows) {
          const { doc } = await queryOne<{ doc: string }>(
            hq.db,
            'select to_jsonb(p) as doc from public.products p where p.id = ($1::json ->> 0)::uuid',
            [row[1]],
          );
          row[3] = JSON.parse(doc);
        }
        return fromWirePage(page);
      },
      () => shift(10), // committed, not yet sealed
    );
    assert.notEqual(await sum(), 1_000);
  });

  /** One transaction of HQ writes the same word into the department and the tax rate. */
  const write = async (word: string): Promise<void> => {
    await hq.db.query('begin');
    await hq.db.query('update public.departments set name = $1', [word]);
    await hq.db.query('update public.tax_rates set name = $1', [word]);
    await hq.db.query('commit');
  };

  const words = async (): Promise<string[]> =>
    (
      await store.db.query<{ name: string }>(
        'select name from public.departments union select name from public.tax_rates',
      )
    ).rows.map((row) => row.name);

  /**
   * A cache in front of HQ with the pages of an older round: department, product, tax rate. Then the words change
   * once more, so that department and tax rate move behind the product.
   */
  const staleCache = async (): Promise<Map<number, WirePage>> => {
    await hq.db.query(`insert into public.tax_rates (id, code, name, rate_bp) values ($1, 'T', 'old', 100)`, [
      NEW,
    ]);
    await seal(hq.db);
    await pull(hq.pool, store.pool, 1);
    await hq.db.query('update public.products set price = 501 where id = $1', [A]);
    await write('first');
    await seal(hq.db);
    const cache = new Map<number, WirePage>();
    let from = (await new Mirror({ pool: store.pool }).state()).pos;
    for (let closing = false; !closing;) {
      const answer = await fetchFrom(hq.pool, 1)({ from, limit: 1 }, NEVER);
      if (answer.result !== 'page') throw new Error(answer.result);
      const page = toWirePage(answer.body);
      cache.set(from, page);
      ({ to: from, closing } = page);
    }
    await write('second');
    await seal(hq.db);
    return cache;
  };

  it('invariant 9: a page that shows an older HQ than one already seen is refused', async () => {
    const cache = await staleCache();
    const outcome = await new Mirror({ pool: store.pool, pageRows: 1 }).pull(async (query, signal) => {
      const cached = cache.get(query.from);
      return cached === undefined || query.seen === undefined
        ? fetchFrom(hq.pool, 1)(query, signal)
        : fromWirePage(cached);
    }, NEVER);
    assert.equal(outcome.result, 'behind');
    assert.deepEqual(await words(), ['old'], 'nothing of it was applied');
    await pull(hq.pool, store.pool, 1);
    assert.deepEqual(await words(), ['second'], 'and the round goes on with pages that are young enough');
  });

  it('negative control: without that check the store applies half a transaction', async () => {
    const cache = await staleCache();
    let head = 0;
    let nonce = '';
    const outcome = await new Mirror({ pool: store.pool, pageRows: 1 }).pull(async (query, signal) => {
      const cached = cache.get(query.from);
      if (cached === undefined || query.seen === undefined) {
        const answer = await fetchFrom(hq.pool, 1)(query, signal);
        if (answer.result === 'page') ({ head, nonce } = toWirePage(answer.body));
        return answer;
      }
      // The same old page, dressed up so that the check cannot see its age.
      return fromWirePage({ ...cached, head, nonce, to: cached.closing ? head : cached.to });
    }, NEVER);
    assert.equal(outcome.result, 'applied');
    assert.notEqual((await words()).length, 1);
  });

  for (const { isolation, whole } of [
    { isolation: 'repeatable read', whole: true },
    { isolation: 'read committed', whole: false },
  ]) {
    const name = whole
      ? 'invariant 2: a round is one state of HQ'
      : 'negative control: a round in read committed is not';
    it(name, async () => {
      // The round is held while it stores the department; meanwhile a transaction makes another and moves A there.
      await hq.db.query(`update public.departments set name = 'held'`);
      await hq.db.query('update public.products set price = 501 where id = $1', [A]);
      const [sealer, holder] = [await hq.database.connect(), await hq.database.connect()];
      await holder.query('begin');
      await holder.query(`select 1 from possync.feed f where f.entity = 'department' for update`);
      const round = sealer.query(
        `begin isolation level ${isolation}; lock table possync.seal_lock in exclusive mode; select possync.seal(); commit`,
      );
      await until(
        async () => {
          const { held } = await queryOne<{ held: boolean }>(
            hq.db,
            `select count(*) > 0 as held from pg_stat_activity a
              where a.datname = current_database() and a.wait_event_type = 'Lock' and a.query like '%possync.seal%'`,
          );
          return held;
        },
        { what: 'the round waits' },
      );
      await hq.db.query('begin');
      await hq.db.query(`insert into public.departments (id, code, name) values ($1, 'NEW', 'new')`, [NEW]);
      await hq.db.query('update public.products set department_id = $2 where id = $1', [A, NEW]);
      await hq.db.query('commit');
      await holder.query('rollback');
      await round;
      // The department's own change is still captured: only the round that came too early has the product.
      const outcome = await pull(hq.pool, store.pool, 1);
      assert.equal(outcome.result, whole ? 'applied' : 'failed');
    });
  }

  it('negative control: a cursor over a sequence never delivers a slow transaction, the feed does', async () => {
    await hq.db.query(`create table public.log (seq bigserial primary key, what text)`);
    const slow = await hq.database.connect();
    await slow.query('begin');
    await slow.query(`insert into public.log (what) values ('slow')`);
    await slow.query('update public.products set price = 700 where id = $1', [A]);
    await hq.db.query(`insert into public.log (what) values ('fast')`);
    await hq.db.query('update public.products set price = 600 where id = $1', [B]);

    const read = async (after: number): Promise<{ seq: number; what: string }[]> =>
      (
        await hq.db.query<{ seq: number; what: string }>(
          'select seq, what from public.log where seq > $1 order by seq',
          [after],
        )
      ).rows;
    const first = await read(0);
    await seal(hq.db);
    await pull(hq.pool, store.pool, 1);
    await slow.query('commit');
    const second = await read(first.at(-1)?.seq ?? 0);
    await seal(hq.db);
    await pull(hq.pool, store.pool, 1);

    assert.deepEqual(
      [...first, ...second].map((row) => row.what),
      ['fast'],
      'the sequence has lost "slow"',
    );
    assert.equal(await sum(), 1_300, 'invariant 1: the feed has both');
  });
});

const OLD = '00000000-0000-7000-8000-00000000000d';
const NEW = '00000000-0000-7000-8000-00000000000e';
const A = '00000000-0000-7000-8000-00000000000a';
const B = '00000000-0000-7000-8000-00000000000b';
