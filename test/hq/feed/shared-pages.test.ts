/** Pages made once for many stores: each store gets what it would have got alone, and HQ reads once. */
import assert from 'node:assert/strict';
import { Joint } from '../../../src/core/joint.ts';
import { toPossyncError } from '../../../src/core/classify.ts';
import {
  hasOwnRecords,
  readPage,
  readSharedPage,
  type PageRequest,
  type SharedPage,
} from '../../../src/hq/feed/pull.ts';
import { SharedPages } from '../../../src/hq/feed/shared-pages.ts';
import { Gate } from '../../../src/hq/gate.ts';
import { seal } from '../../support/feed.ts';
import { openHq, type TestSide } from '../../support/pos.ts';
import { randomFor } from '../../support/random.ts';

const STORES = Array.from({ length: 40 }, (_, n) => n + 1);

describe('a page for many stores', () => {
  let hq: TestSide;
  let statements = 0;

  before(async () => {
    hq = await openHq('shared', STORES);
    await hq.db.query(
      `insert into public.products (id, sku, name, price) select gen_random_uuid(), 'P' || i, 'p', i from generate_series(1, 30) i`,
    );
    await seal(hq.db);
  });
  after(() => hq.close());

  const pagesOf = (
    gate = new Gate(24),
    shared: (request: PageRequest, storeIds: readonly number[]) => Promise<SharedPage> = (
      request,
      storeIds,
    ) => readSharedPage(hq.pool, request, storeIds),
  ): SharedPages =>
    new SharedPages({
      gate,
      page: (request) => {
        statements += 1;
        return readPage(hq.pool, request);
      },
      shared: (request, storeIds) => {
        statements += 1;
        return shared(request, storeIds);
      },
      hasOwn: (request) => hasOwnRecords(hq.pool, request),
    });

  const textOf = async (pages: SharedPages, request: PageRequest): Promise<string> => {
    const answer = await pages.read(request, undefined);
    return answer.result === 'page' ? answer.body.bytes.toString() : answer.result;
  };
  const aloneText = (request: PageRequest): Promise<string> => textOf(pagesOf(alone(), alwaysOwn), request);
  const alone = (): Gate => new Gate(1_000);
  const alwaysOwn = (_request: PageRequest, storeIds: readonly number[]): Promise<SharedPage> =>
    Promise.resolve({ page: { result: 'behind' }, own: storeIds });

  it('is read once for all who ask at the same moment, through a gate that is narrower than they are many', async () => {
    statements = 0;
    const pages = pagesOf(new Gate(2));
    const texts = await Promise.all(STORES.map((storeId) => textOf(pages, { storeId, from: 0, limit: 100 })));
    assert.equal(new Set(texts).size, 1);
    assert.match(texts[0] ?? '', /"closing":true/);
    assert.equal(statements, 1);
  });

  it('is never one from before the request, however many join it', async () => {
    const pages = pagesOf();
    for (let price = 1; price <= 20; price += 1) {
      const early = textOf(pages, { storeId: 1, from: 0, limit: 100 });
      await hq.db.query(`update public.products set price = $1::numeric where sku = 'P1'`, [1_000 + price]);
      const { head } = await seal(hq.db);
      const late = await textOf(pages, { storeId: 2, from: 0, limit: 100 });
      assert.equal((JSON.parse(late.split('\n')[0] ?? '') as { head: number }).head, head);
      await early;
    }
  });

  it('is for every store what it would have got alone, whatever is its own', async () => {
    const random = randomFor('shared pages');
    const pages = pagesOf(alone());
    for (let round = 1; round <= 15; round += 1) {
      await hq.db.query(`update public.products set price = $1::numeric where sku = $2::text`, [
        2_000 + round,
        `P${1 + random.int(30)}`,
      ]);
      await hq.db.query(
        `insert into public.store_prices (store_id, product_id, price)
         select $1::integer, p.id, $2::numeric from public.products p where p.sku = $3::text
         on conflict (store_id, product_id) do update set price = excluded.price`,
        [1 + random.int(STORES.length), round, `P${1 + random.int(30)}`],
      );
      const { head } = await seal(hq.db);
      const asked = STORES.map((storeId) => ({
        storeId,
        from: random.int(3) === 0 ? 0 : Math.max(0, head - random.int(7)),
        limit: random.int(2) === 0 ? 100 : 5,
      }));
      const together = await Promise.all(asked.map((request) => textOf(pages, request)));
      for (const [n, request] of asked.entries())
        assert.equal(together[n], await aloneText(request), JSON.stringify(request));
    }
  });

  it('would leave out what is a store’s own if nobody looked for that', async () => {
    await hq.db.query(
      `insert into public.store_prices (store_id, product_id, price) select 3, p.id, 7 from public.products p
       on conflict (store_id, product_id) do update set price = excluded.price`,
    );
    await seal(hq.db);
    const request = { storeId: 3, from: 0, limit: 100 };
    const blind = pagesOf(alone(), async (asked, storeIds) => ({
      ...(await readSharedPage(hq.pool, asked, storeIds)),
      own: [],
    }));
    assert.notEqual(await textOf(blind, request), await aloneText(request));
    assert.equal(await textOf(pagesOf(), request), await aloneText(request));
  });

  it('knows no round that HQ does not know, for nobody', async () => {
    const foreign = { pos: 1, nonce: '00000000-0000-4000-8000-000000000000' };
    const pages = pagesOf();
    const texts = await Promise.all(
      STORES.map((storeId) => textOf(pages, { storeId, from: 1, limit: 100, cursor: foreign })),
    );
    assert.deepEqual(new Set(texts), new Set(['resync']));
  });

  it('is refused to each by itself when there is no place, with a time of its own to return', async () => {
    let asked = 0;
    const gate = new Gate(1, () => (asked += 1) / 1_000, 1);
    let leave: () => void = () => undefined;
    const inside = gate.run(
      () =>
        new Promise<void>((resolve) => {
          leave = resolve;
        }),
    );
    const pages = pagesOf(gate);
    const refused = await Promise.allSettled(
      STORES.map((storeId) => textOf(pages, { storeId, from: 0, limit: 100 })),
    );
    const errors = refused.map((one) => (one.status === 'rejected' ? toPossyncError(one.reason) : undefined));
    assert.ok(errors.every((error) => error?.code === 'PS-HQ-BUSY'));
    assert.ok(new Set(errors.map((error) => error?.details.retryMs)).size > 1);
    leave();
    await inside;
  });

  it('fails for all who wait for it, and works again for the next', async () => {
    let fail = true;
    const joint = new Joint<number, number>((keys) =>
      fail ? Promise.reject(new Error('away')) : Promise.resolve(keys.length),
    );
    const failed = await Promise.allSettled([joint.join(1), joint.join(2)]);
    assert.deepEqual(
      failed.map(({ status }) => status),
      ['rejected', 'rejected'],
    );
    fail = false;
    assert.deepEqual(await Promise.all([joint.join(1), joint.join(2), joint.join(3)]), [3, 3, 3]);
  });
});
