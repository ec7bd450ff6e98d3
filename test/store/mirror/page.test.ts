/** Pages into staging: what HQ has written is there to the letter, and what is no page leaves nothing. */
import assert from 'node:assert/strict';
import { queryOne, withTransaction } from '../../../src/db/transaction.ts';
import { pageBody, readPage as readFeed } from '../../../src/hq/feed/pull.ts';
import { readPage } from '../../../src/protocol/page.ts';
import { stagePage } from '../../../src/store/mirror/cursor.ts';
import { Mirror, type PullResult } from '../../../src/store/mirror/mirror.ts';
import { fetchFrom, NEVER, seal } from '../../support/feed.ts';
import { fromWirePage, toWirePage, type WireRow } from '../../support/page.ts';
import { openHq, openStore, type TestSide } from '../../support/pos.ts';
import { randomFor } from '../../support/random.ts';

const A = '00000000-0000-7000-8000-00000000000a';
const B = '00000000-0000-7000-8000-00000000000b';

describe('a page in the store', () => {
  let hq: TestSide;
  let store: TestSide;
  let mirror: Mirror;
  beforeEach(async () => {
    [store, hq] = await Promise.all([openStore('page', 1), openHq('page', [1])]);
    mirror = new Mirror({ pool: store.pool });
    await hq.db.query(`insert into public.products (id, sku, name, price) values ($1, 'A', 'first', 1)`, [A]);
    await seal(hq.db);
    await mirror.pull(fetchFrom(hq.pool, 1), NEVER);
  });
  afterEach(async () => {
    await store.close();
    await hq.close();
  });

  /** Pulls what HQ has sealed since, with the rows of the page changed on their way. */
  async function pullChanged(change: (rows: WireRow[]) => WireRow[]): Promise<PullResult> {
    return mirror.pull(async (query, signal) => {
      const answer = await fetchFrom(hq.pool, 1)(query, signal);
      if (answer.result !== 'page') return answer;
      const page = toWirePage(answer.body);
      return fromWirePage({ ...page, rows: change(page.rows) });
    }, NEVER);
  }

  const names = async (): Promise<string[]> =>
    (await store.db.query<{ name: string }>('select p.name from public.products p order by p.sku')).rows.map(
      ({ name }) => name,
    );

  it('has every key and every document to the letter, whatever is in them', async () => {
    const random = randomFor('odd pages');
    const odd = ['\t', '\n', '\r', '\\', '"', '\\N', '\\.', "'", 'ü', '€', '𝄞', '\u0001', '\u2028', ' ', ''];
    const text = (): string => Array.from({ length: random.int(6) }, () => random.pick(odd)).join('');
    const { pos } = await queryOne<{ pos: number }>(hq.db, 'select h.pos from possync.head h');
    const rows = Array.from({ length: 300 }, (_, n) => ({
      entity: 'own',
      pk: n % 2 === 0 ? JSON.stringify([text(), n]) : `${text()} ${n}`,
      pos: pos + 1 + n,
      doc: random.int(5) === 0 ? null : { text: text(), [text()]: n, list: [text(), null, 1.5] },
    }));
    await hq.db.query(
      `with moved as (
         update possync.head h set pos = $2::bigint),
       round as (
         insert into possync.rounds (head, records) values ($2::bigint, 300))
       insert into possync.feed (entity, pk, store_id, pos, doc)
       select r.entity, r.pk, 0, r.pos, r.doc
         from jsonb_to_recordset($1::jsonb) as r(entity text, pk text, pos bigint, doc jsonb)`,
      [JSON.stringify(rows), pos + 300],
    );
    const answer = await readFeed(hq.pool, { storeId: 1, from: pos, limit: 1_000 });
    assert.ok(answer.result === 'page');
    const page = readPage(Buffer.from(pageBody(answer)), pos);
    assert.ok(typeof page !== 'string');
    assert.ok(await withTransaction(store.pool, (tx) => stagePage(tx, page)));
    const all = (table: string): string =>
      `select x.entity, x.pk, x.pos, x.doc::text as doc from possync.${table} x where x.entity = 'own' order by x.pos`;
    const sent = await hq.db.query(all('feed'));
    assert.equal(sent.rows.length, 300);
    assert.deepEqual((await store.db.query(all('staging'))).rows, sent.rows);
  });

  it('keeps of a record that comes twice the newer state, whichever comes first', async () => {
    for (const order of [(rows: WireRow[]) => rows, (rows: WireRow[]) => rows.toReversed()]) {
      await hq.db.query(`update public.products set name = name || '+' where id = $1`, [A]);
      await hq.db.query(
        `insert into public.products (id, sku, name, price) values ($1, 'B', 'b', 1) on conflict (id) do update set name = 'b2'`,
        [B],
      );
      await seal(hq.db);
      const { pos } = await mirror.state();
      const outcome = await pullChanged((rows) => {
        // As when a record has moved while the store was paging: its older state on an earlier page.
        const [type, pk, , doc] = rows.find(([, key]) => key.includes(A)) ?? assert.fail('A has changed');
        const older: WireRow = [type, pk, pos + 0.5, { ...(doc as object), name: 'older' }];
        const both = order([older, ...rows]);
        return both.map(([t, k, at, d]): WireRow => [t, k, at === pos + 0.5 ? pos : at, d]);
      });
      assert.equal(outcome.result, 'applied', outcome.result === 'failed' ? outcome.error.why : '');
      assert.equal(outcome.records, 2);
      const [first] = await names();
      assert.match(first ?? '', /^first\++$/);
    }
  });

  for (const [what, body] of [
    ['fewer lines than it announces', (text: string) => text.replace('"rows":1', '"rows":2')],
    ['more lines than it announces', (text: string) => `${text}${text.split('\n')[1] ?? ''}\n`],
    [
      'the end of the data in the middle',
      (text: string) => text.replace('"rows":1', '"rows":2').replace('\n', '\n\\.\n'),
    ],
    ['a document that is no object', (text: string) => text.replace(/\t\{.*\}\n$/, '\t[]\n')],
    ['a document that is no JSON', (text: string) => text.replace(/\}\n$/, '\n')],
    ['a column too many', (text: string) => text.replace(/\n$/, '\tmore\n')],
    ['a broken last line', (text: string) => text.slice(0, -3)],
  ] as const)
    it(`is refused with a code when it has ${what}, and leaves nothing`, async () => {
      await hq.db.query(`update public.products set name = 'second' where id = $1`, [A]);
      await seal(hq.db);
      const before = await mirror.state();
      await assert.rejects(
        mirror.pull(async (query, signal) => {
          const answer = await fetchFrom(hq.pool, 1)(query, signal);
          return answer.result === 'page'
            ? { result: 'page', body: Buffer.from(body(answer.body.toString())) }
            : answer;
        }, NEVER),
        { code: 'PS-PROTOCOL' },
      );
      assert.deepEqual(await mirror.state(), before);
      assert.equal((await store.db.query('select from possync.staging')).rowCount, 0);
      await mirror.pull(fetchFrom(hq.pool, 1), NEVER);
      assert.deepEqual(await names(), ['second']);
    });
});
