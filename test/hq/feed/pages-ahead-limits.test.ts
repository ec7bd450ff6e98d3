/** Whom a page that was read ahead is not for: a store with a record of its own, another encoding, a clock set back. */
import assert from 'node:assert/strict';
import { brotliDecompressSync } from 'node:zlib';
import { PagesAhead } from '../../../src/hq/feed/pages-ahead.ts';
import {
  hasOwnRecords,
  pageBody,
  readPage,
  readSharedPage,
  type PageRequest,
} from '../../../src/hq/feed/pull.ts';
import { SharedPages } from '../../../src/hq/feed/shared-pages.ts';
import { Gate } from '../../../src/hq/gate.ts';
import { seal } from '../../support/feed.ts';
import { HandClock } from '../../support/hand-clock.ts';
import { openHq, type TestSide } from '../../support/pos.ts';
import { until } from '../../support/until.ts';

const PAGE = 7;

describe('a page that was read ahead for all', () => {
  let hq: TestSide;
  before(async () => {
    hq = await openHq('ahead limits', [1, 2, 3]);
  });
  after(() => hq.close());

  /** As the store has it when it is unpacked. */
  const textOf = async (pages: SharedPages, request: PageRequest, takes?: string): Promise<string> => {
    const answer = await pages.read(request, takes);
    assert.ok(answer.result === 'page');
    const { bytes, encoding } = answer.body;
    assert.equal(encoding, takes);
    return (encoding === 'br' ? brotliDecompressSync(bytes) : bytes).toString();
  };
  /** Sealed as a round of its own: behind everything before it. */
  const addProducts = async (from: number, to: number): Promise<void> => {
    await hq.db.query(
      `insert into public.products (id, sku, name, price)
       select gen_random_uuid(), 'P' || i, 'a product with a long name', i from generate_series($1::integer, $2::integer) i`,
      [from, to],
    );
    await seal(hq.db);
  };

  it('is not for a store that has a record of its own behind its beginning, and for each as it unpacks', async () => {
    const { head: from } = await seal(hq.db); // behind what a new HQ has of itself
    await addProducts(1, PAGE + 1);
    await hq.db.query(
      `insert into public.store_prices (store_id, product_id, price)
       select 2, p.id, 5 from public.products p where p.sku = 'P1'`,
    );
    await seal(hq.db);
    await addProducts(PAGE + 2, 5 * PAGE);
    const reads: number[] = [];
    const pages = new SharedPages({
      gate: new Gate(1_000),
      clock: new HandClock(),
      page: (request) => readPage(hq.pool, request),
      shared: (request, storeIds) => {
        reads.push(request.from);
        return readSharedPage(hq.pool, request, storeIds);
      },
      hasOwn: (request) => hasOwnRecords(hq.pool, request),
    });
    const first = await readPage(hq.pool, { storeId: 1, from, limit: PAGE });
    assert.ok(first.result === 'page');
    for (const takes of ['br', undefined]) await textOf(pages, { storeId: 1, from, limit: PAGE }, takes);
    await until(() => reads.filter((at) => at === first.to).length === 2, {
      what: 'HQ reads the second page by itself, packed and not',
    });
    const next = { from: first.to, limit: PAGE, seen: { pos: first.head, nonce: first.nonce } };
    for (const storeId of [2, 3]) {
      const alone = await readPage(hq.pool, { storeId, ...next });
      assert.ok(alone.result === 'page');
      assert.equal(pageBody(alone).includes('store_price'), storeId === 2);
      for (const takes of ['br', undefined])
        assert.equal(await textOf(pages, { storeId, ...next }, takes), pageBody(alone), `store ${storeId}`);
    }
  });

  it('is for nobody once the clock was set back: nobody knows how old it is', async () => {
    const clock = new HandClock();
    const ahead = new PagesAhead(clock);
    const page = { body: { bytes: Buffer.from('x'), encoding: undefined }, to: 1, head: 2, nonce: 'n' };
    ahead.begin('a', () => Promise.resolve(page));
    assert.equal(await ahead.find('a'), page);
    clock.advance(-1);
    assert.equal(await ahead.find('a'), undefined);
  });
});
