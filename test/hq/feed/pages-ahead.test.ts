/** Pages read before they are asked for: HQ reads less often, and no store sees anything else for it. */
import assert from 'node:assert/strict';
import { PagesAhead, type MiddlePage } from '../../../src/hq/feed/pages-ahead.ts';
import { hasOwnRecords, readPage, readSharedPage } from '../../../src/hq/feed/pull.ts';
import { SharedPages } from '../../../src/hq/feed/shared-pages.ts';
import { Gate } from '../../../src/hq/gate.ts';
import { Mirror, type FetchPage } from '../../../src/store/mirror/mirror.ts';
import { NEVER, seal, stateOf } from '../../support/feed.ts';
import { HandClock } from '../../support/hand-clock.ts';
import { openHq, openStore, type TestSide } from '../../support/pos.ts';
import { randomFor } from '../../support/random.ts';
import { until } from '../../support/until.ts';

const STORES = [1, 2, 3];
const PRODUCTS = 60;
const PAGE = 7;

describe('pages read ahead', () => {
  let hq: TestSide;
  let stores: TestSide[];
  /** Pages that HQ has read, and from where. */
  let reads: number[] = [];

  before(async () => {
    hq = await openHq('ahead', STORES);
    stores = await Promise.all(STORES.map((id) => openStore('ahead', id)));
    await hq.db.query(
      `insert into public.products (id, sku, name, price) select gen_random_uuid(), 'P' || i, 'p', i from generate_series(1, ${PRODUCTS}) i`,
    );
    await seal(hq.db);
  });
  beforeEach(() => {
    reads = [];
  });
  after(async () => {
    for (const store of stores) await store.close();
    await hq.close();
  });

  const pagesOf = (clock = new HandClock()): SharedPages =>
    new SharedPages({
      gate: new Gate(1_000),
      clock,
      page: (request) => {
        reads.push(request.from);
        return readPage(hq.pool, request);
      },
      shared: (request, storeIds) => {
        reads.push(request.from);
        return readSharedPage(hq.pool, request, storeIds);
      },
      hasOwn: (request) => hasOwnRecords(hq.pool, request),
    });

  /** What a store asks of these pages; `asked` hears of each question before it is put. */
  const fetchOf =
    (pages: SharedPages, storeId: number, asked: (from: number) => Promise<void>): FetchPage =>
    async ({ from, limit = PAGE, cursor, seen }) => {
      await asked(from);
      const mark = (text: string): { pos: number; nonce: string } => {
        const [pos = '', nonce = ''] = text.split(',');
        return { pos: Number(pos), nonce };
      };
      const answer = await pages.read(
        {
          storeId,
          from,
          limit,
          ...(cursor === undefined ? {} : { cursor: mark(cursor) }),
          ...(seen === undefined ? {} : { seen: mark(seen) }),
        },
        undefined,
      );
      return answer.result === 'page' ? { result: 'page', body: answer.body.bytes } : answer;
    };

  const nobody = (): Promise<void> => Promise.resolve();

  /** Everything again, as a new store gets it. */
  async function download(
    pages: SharedPages,
    n: number,
    asked: (from: number) => Promise<void> = nobody,
  ): Promise<void> {
    const side = stores[n];
    const storeId = STORES[n];
    assert.ok(side !== undefined && storeId !== undefined);
    const mirror = new Mirror({ pool: side.pool, pageRows: PAGE });
    await mirror.resync();
    const outcome = await mirror.pull(fetchOf(pages, storeId, asked), NEVER);
    assert.equal(outcome.result, 'applied', outcome.result === 'failed' ? outcome.error.why : '');
  }

  async function equal(n: number): Promise<void> {
    const storeId = STORES[n] ?? 0;
    const side = stores[n];
    assert.ok(side !== undefined);
    assert.equal(await stateOf(side.db, 'store', storeId), await stateOf(hq.db, 'hq', storeId));
  }

  it('are there when the store asks, and for the next store that downloads', async () => {
    const pages = pagesOf();
    // Asks for a page only when HQ has begun to read it.
    await download(pages, 0, async (from) => {
      if (from > 0) await until(() => reads.includes(from), { what: `HQ reads from ${from} by itself` });
    });
    const before = reads.length;
    await download(pages, 1);
    const middle = reads.slice(before).filter((from) => reads.slice(0, before).includes(from) && from > 0);
    // The one that closes the round is read again, and the first, which nobody could foresee.
    assert.ok(middle.length <= 1, `read again: ${middle.join(', ')}`);
    await equal(0);
    await equal(1);
  });

  it('are given up after some seconds', async () => {
    const clock = new HandClock();
    const ahead = new PagesAhead(clock);
    const page = { body: { bytes: Buffer.from('x'), encoding: undefined }, to: 1, head: 2, nonce: 'n' };
    let made = 0;
    const make = (): Promise<MiddlePage> => {
      made += 1;
      return Promise.resolve(page);
    };
    ahead.begin('a', make);
    ahead.begin('a', make);
    assert.equal(await ahead.find('a'), page);
    assert.equal(made, 1);
    clock.advance(4_999);
    assert.equal(await ahead.take('a'), page);
    assert.equal(await ahead.find('a'), undefined);
    ahead.begin('a', make);
    clock.advance(5_000);
    assert.equal(await ahead.find('a'), undefined);
    ahead.begin('b', () => Promise.reject(new Error('the database is away')));
    assert.equal(await ahead.find('b'), undefined);
  });

  it('never take the place of others that somebody may come for', () => {
    const ahead = new PagesAhead(new HandClock());
    let made = 0;
    for (let n = 0; n < 100; n += 1)
      ahead.begin(`${n}`, () => {
        made += 1;
        return Promise.resolve(undefined);
      });
    assert.equal(made, 32);
  });

  it('bring every store to HQ’s state, whatever moves between two of its pages', async () => {
    const random = randomFor('pages ahead');
    const pages = pagesOf();
    const move = async (): Promise<void> => {
      const sku = `P${1 + random.int(PRODUCTS)}`;
      const what = random.int(4);
      const ofSku = '(select p.id from public.products p where p.sku = $1::text)';
      if (what === 0) {
        await hq.db.query(`delete from public.store_prices s where s.product_id = ${ofSku}`, [sku]);
      } else if (what === 1) {
        await hq.db.query(
          `insert into public.store_prices (store_id, product_id, price) values ($2::integer, ${ofSku}, $3::numeric)
           on conflict (store_id, product_id) do update set price = excluded.price`,
          [sku, STORES[random.int(STORES.length)], random.int(1_000)],
        );
      } else {
        await hq.db.query('update public.products set price = $2::numeric where sku = $1::text', [
          sku,
          random.int(100_000),
        ]);
      }
    };
    for (let round = 1; round <= 12; round += 1) {
      await Promise.all(
        STORES.map((_, n) => download(pages, n, () => (random.int(3) > 0 ? nobody() : moving(move)))),
      );
      // What moved behind the last page of a store comes with its next pull, as ever.
      await Promise.all(STORES.map((id, n) => catchUp(pages, n, id)));
      for (const n of STORES.keys()) await equal(n);
    }
  });

  it('never are the last of a round: the store that asks for that one hears of all that was sealed by then', async () => {
    let head = 0;
    await download(pagesOf(), 0, async (from) => {
      if (from === 0) return;
      await until(() => reads.includes(from), { what: `HQ reads from ${from} by itself` });
      await hq.db.query(`update public.products set price = price + 1 where sku = 'P1'`);
      head = (await seal(hq.db)).head;
    });
    const side = stores[0];
    assert.ok(side !== undefined);
    assert.equal((await new Mirror({ pool: side.pool }).state()).pos, head);
    await equal(0);
  });

  /** One change at a time: a connection runs one statement after the other, and a round is sealed by one. */
  let line: Promise<void> = Promise.resolve();
  function moving(move: () => Promise<void>): Promise<void> {
    line = line.then(async () => {
      await move();
      await seal(hq.db).catch(() => undefined);
    });
    return line;
  }

  async function catchUp(pages: SharedPages, n: number, storeId: number): Promise<void> {
    const side = stores[n];
    assert.ok(side !== undefined);
    const mirror = new Mirror({ pool: side.pool, pageRows: PAGE });
    const outcome = await mirror.pull(fetchOf(pages, storeId, nobody), NEVER);
    assert.ok(outcome.result === 'applied' || outcome.result === 'nothing', outcome.result);
  }
});
