/** Pages: what a store gets, in which order, and when it is told that its cursor belongs to another HQ. */
import assert from 'node:assert/strict';
import { connect, createPool } from '../../../src/db/pool.ts';
import { withConnection } from '../../../src/db/transaction.ts';
import { readPage, type FeedPage, type PageRequest } from '../../../src/hq/feed/pull.ts';
import { fetchFrom, NEVER, seal } from '../../support/feed.ts';
import { Mirror } from '../../../src/store/mirror/mirror.ts';
import { linesToRows } from '../../support/page.ts';
import { openHq, openStore, type TestSide } from '../../support/pos.ts';
import { clusterUrl, hqDatabase } from '../../support/postgres.ts';
import { until } from '../../support/until.ts';

describe('a page of the feed', () => {
  let hq: TestSide;

  before(async () => {
    hq = await openHq('pull', [1, 2]);
    await hq.db.query(
      `insert into public.products (id, sku, name, price) select gen_random_uuid(), 'P' || i, 'p', i from generate_series(1, 50) i`,
    );
    await hq.db.query(
      `insert into public.store_prices (store_id, product_id, price) select 1 + row_number() over () % 2, id, 1 from public.products`,
    );
    await seal(hq.db);
  });
  after(() => hq.close());

  const page = async (request: Partial<PageRequest>): Promise<FeedPage> => {
    const answer = await readPage(hq.pool, { storeId: 1, from: 0, limit: 10, ...request });
    if (answer.result !== 'page') throw new Error(answer.result);
    return answer;
  };

  it('brings what is for all and what is for this store, by position, until it reaches the head', async () => {
    const rows: [string, string, number, { store_id?: number } | null][] = [];
    let closing = false;
    for (let from = 0; !closing;) {
      const next = await page({ from, limit: 7 });
      rows.push(...(linesToRows(next.lines) as typeof rows));
      assert.equal(next.closing, next.count < 7);
      assert.equal(next.to, next.closing ? next.head : rows.at(-1)?.[2]);
      ({ to: from, closing } = next);
    }
    assert.equal(rows.length, 2 + 50 + 25);
    const positions = rows.map((row) => row[2]);
    assert.deepEqual(
      positions,
      positions.toSorted((a, b) => a - b),
    );
    assert.ok(rows.every(([type, , , doc]) => type !== 'store_price' || doc?.store_id === 1));
  });

  it('has nothing to remove from an empty store', async () => {
    await hq.db.query(`delete from public.store_prices where store_id = 1`);
    const { head } = await seal(hq.db);
    const first = linesToRows((await page({ limit: 1_000 })).lines);
    assert.ok(first.every((row) => row[3] !== null));
    const later = linesToRows((await page({ from: head - 25, limit: 1_000 })).lines);
    assert.equal(later.filter((row) => row[3] === null).length, 25);
  });

  it('reads two index ranges in order and sorts nothing', async () => {
    await hq.db.query('analyze possync.feed');
    const seen: string[] = [];
    const spy = createPool({ url: hq.database.url, applicationName: 'spy', max: 1 });
    const query = spy.query.bind(spy) as (text: string, values: unknown[]) => Promise<{ rows: unknown[] }>;
    spy.query = ((text: string, values: unknown[]) => {
      seen.push(text);
      return query(text, values);
    }) as typeof spy.query;
    await readPage(spy, { storeId: 1, from: 0, limit: 5 });
    const { rows } = await query(`explain ${seen[0] ?? ''}`, [1, 0, 5, null, null, null, null]);
    await spy.end();
    const plan = rows.map((row) => Object.values(row as object).join()).join('\n');
    assert.match(plan, /Merge Append/);
    assert.equal(plan.match(/Index Scan using feed_pos/g)?.length, 2, plan);
  });

  it('fresh: covers what was committed before it was asked for, sealed or not', async () => {
    const before = await page({ limit: 1_000 });
    await hq.db.query(
      `insert into public.products (id, sku, name, price) values (gen_random_uuid(), 'NEW', 'p', 1)`,
    );
    assert.equal((await page({ from: before.to })).count, 0);
    assert.equal((await page({ from: before.to, fresh: true })).count, 1);
  });

  it('invariant 11: refuses a cursor, or a page seen, that names a round it does not know', async () => {
    const { head, nonce } = await page({ limit: 1_000 });
    const stranger = { pos: head, nonce: '00000000-0000-4000-8000-000000000000' };
    const good = { pos: head, nonce };
    const ask = async (request: Partial<PageRequest>): Promise<string> =>
      (await readPage(hq.pool, { storeId: 1, from: head, limit: 10, ...request })).result;
    assert.equal(await ask({ cursor: good, seen: good }), 'page');
    assert.equal(await ask({ cursor: stranger }), 'resync');
    assert.equal(await ask({ cursor: good, seen: stranger }), 'resync');
    assert.equal(await ask({ from: head + 1 }), 'resync');
  });

  it('invariant 11: a store follows an HQ that was restored from a backup; a bare cursor would not', async () => {
    const store = await openStore('pull restored', 1);
    const mirror = new Mirror({ pool: store.pool });
    const original = await hqDatabase('restored');
    const lost = createPool({ url: original.url, applicationName: 'lost HQ' });
    await lost.query(
      `insert into public.products (id, sku, name, price) select gen_random_uuid(), 'P' || i, 'p', i from generate_series(1, 5) i`,
    );
    await withConnection(lost, seal);
    await mirror.pull(fetchFrom(lost, 1), NEVER);
    const backup = `${original.name}_backup`;
    const admin = await connect({ url: await clusterUrl('postgres'), applicationName: 'possync test' });
    await lost.end();
    await until(() => admin.query(`create database ${backup} template ${original.name}`), {
      what: 'the backup',
    });

    // The old HQ goes on: the store hears of a change that the backup has not.
    const last = createPool({ url: original.url, applicationName: 'lost HQ' });
    await last.query(`update public.products set name = 'forgotten' where sku = 'P1'`);
    await withConnection(last, seal);
    await mirror.pull(fetchFrom(last, 1), NEVER);
    await last.end();

    // The restored one gives the same position to something else.
    const url = new URL(original.url);
    url.pathname = `/${backup}`;
    const restored = createPool({ url: url.href, applicationName: 'restored HQ' });
    await restored.query(`update public.products set name = 'remembered' where sku = 'P2'`);
    await withConnection(restored, seal);

    const state = await mirror.state();
    const bare = await readPage(restored, { storeId: 1, from: state.pos, limit: 100 });
    assert.equal(bare.result === 'page' ? bare.count : -1, 0, 'negative control: nothing would ever come');
    assert.equal((await mirror.pull(fetchFrom(restored, 1), NEVER)).result, 'applied');
    const { rows } = await store.db.query<{ sku: string; name: string }>(
      `select sku, name from public.products where sku in ('P1', 'P2') order by sku`,
    );
    assert.deepEqual(rows, [
      { sku: 'P1', name: 'p' },
      { sku: 'P2', name: 'remembered' },
    ]);
    await restored.end();
    await admin.query(`drop database ${backup} with (force)`);
    await admin.end();
    await store.close();
    await original.drop();
  });
});
