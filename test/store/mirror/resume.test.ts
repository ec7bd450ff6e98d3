/** A download that is killed again and again. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { queryOne } from '../../../src/db/transaction.ts';
import { seal, stateOf } from '../../support/feed.ts';
import { openHq, openStore, type TestSide } from '../../support/pos.ts';
import { randomFor } from '../../support/random.ts';

const STORE = 5;
const PRODUCTS = 2_000;
const PAGE = 50;

describe('a download in a process that is killed', function () {
  this.timeout(180_000);
  let hq: TestSide;
  let store: TestSide;

  before(async () => {
    hq = await openHq('resume', [STORE]);
    store = await openStore('resume', STORE);
    await hq.db.query(
      `insert into public.products (id, sku, name, price) select gen_random_uuid(), 'P' || i, 'p', i from generate_series(1, ${PRODUCTS}) i`,
    );
    await seal(hq.db);
  });
  after(async () => {
    await store.close();
    await hq.close();
  });

  /** Runs until it has asked for so many pages and then kills it; returns what it printed. */
  const run = async (pages: number): Promise<string[]> => {
    const child = spawn(
      process.execPath,
      [
        '--import',
        'tsx',
        resolve(import.meta.dirname, 'run-mirror.ts'),
        hq.database.url,
        store.database.url,
        `${STORE}`,
        `${PAGE}`,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    const ended = once(child, 'exit');
    const lines: string[] = [];
    for await (const line of createInterface({ input: child.stdout })) {
      lines.push(line);
      if (lines.length === pages) child.kill('SIGKILL');
    }
    await ended;
    return lines;
  };

  it('invariant 10: goes on behind the last page it staged, and repeats at most one', async () => {
    const random = randomFor('resume');
    const asked: number[] = [];
    let repeated = 0;
    for (let n = 0; n < 4; n += 1) {
      const lines = await run(3 + random.int(5));
      const positions = lines.filter((line) => line.startsWith('page ')).map((line) => Number(line.slice(5)));
      const [first] = positions;
      // The page in hand when it was killed may have been staged or not; nothing before it comes again.
      assert.ok(
        first !== undefined && first >= (asked.at(-1) ?? 0),
        `started again at ${first}, after ${asked.at(-1)}`,
      );
      if (first === asked.at(-1)) repeated += 1;
      asked.push(...positions);
      const { n: applied } = await queryOne<{ n: number }>(
        store.db,
        'select count(*) as n from public.products',
      );
      assert.equal(applied, 0, 'invariant 7: nothing is visible before the closing page');
    }
    const lines = await run(Infinity);
    assert.match(lines.at(-1) ?? '', /^applied /);
    assert.ok(repeated <= 5);
    assert.equal(await stateOf(store.db, 'store', STORE), await stateOf(hq.db, 'hq', STORE));
  });
});
