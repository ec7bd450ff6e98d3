/**
 * Figures of the way down: sealing, pages and applies at catalogue size, on a private PostgreSQL that is durable.
 * `npx tsx bench/feed.ts [products]` prints one line per step, in milliseconds.
 */
import { installTriggers } from '../src/db/capture.ts';
import { migrate, type Role } from '../src/db/migrations.ts';
import { connect, createPool } from '../src/db/pool.ts';
import { startPostgres } from '../src/demo/postgres.ts';
import { pageBody, readPage } from '../src/hq/feed/pull.ts';
import { sealOnce } from '../src/hq/feed/seal.ts';
import { Mirror, type FetchPage } from '../src/store/mirror/mirror.ts';

const products = Number(process.argv[2] ?? 100_000);
const server = await startPostgres({ durable: true, prefer: 'npm' });
const admin = await connect({ url: server.url('postgres'), applicationName: 'bench' });

async function database(role: Role): Promise<string> {
  await admin.query(`create database bench_${role}`);
  const url = server.url(`bench_${role}`);
  await migrate(role, url, (db) => installTriggers(db, role));
  return url;
}

async function measure(what: string, work: () => Promise<unknown>, repeat = 1): Promise<void> {
  const times: number[] = [];
  for (let n = 0; n < repeat; n += 1) {
    const start = performance.now();
    await work();
    times.push(performance.now() - start);
  }
  const median = times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)] ?? 0;
  console.log(
    `${what.padEnd(52)} ${median.toFixed(2).padStart(10)} ms${repeat > 1 ? ` (median of ${repeat})` : ''}`,
  );
}

try {
  const [hqUrl, storeUrl] = [await database('hq'), await database('store')];
  const hq = createPool({ url: hqUrl, applicationName: 'bench hq' });
  const store = createPool({ url: storeUrl, applicationName: 'bench store' });
  const db = await connect({ url: hqUrl, applicationName: 'bench writer' });
  const never = new AbortController().signal;
  const fetchPage: FetchPage = async ({ from, limit = 5_000 }) => {
    const page = await readPage(hq, { storeId: 1, from, limit });
    return page.result === 'page' ? { result: 'page', body: Buffer.from(pageBody(page)) } : page;
  };
  const mirror = new Mirror({ pool: store });
  const seal = (): Promise<unknown> => sealOnce(db);
  const pull = async (): Promise<void> => {
    const outcome = await mirror.pull(fetchPage, never);
    if (outcome.result === 'failed') throw outcome.error;
  };
  /** Everything but the apply. */
  const download = (pages: number): Promise<unknown> => {
    let left = pages;
    return mirror.pull((query, signal) => {
      left -= 1;
      return left < 0 ? Promise.resolve({ result: 'behind' as const }) : fetchPage(query, signal);
    }, never);
  };
  const pages = Math.floor(products / 5_000);

  console.log(`PostgreSQL ${server.version}, ${products} products`);
  await measure('insert the catalogue at HQ', () =>
    db.query(
      `insert into public.products (id, sku, name, price)
       select gen_random_uuid(), 'SKU-' || i, 'product number ' || i, i / 7.0 from generate_series(1, $1::integer) i`,
      [products],
    ),
  );
  await measure('seal it', seal);
  await measure('download it', () => download(pages));
  await measure('apply it', pull);
  await measure('change every price at HQ', () => db.query('update public.products set price = price + 1'));
  await measure('seal that', seal);
  await measure('download it', () => download(pages));
  await measure('apply it', pull);
  await measure('touch every row (updated_at)', () =>
    db.query('update public.products set updated_at = now()'),
  );
  await measure('seal that: nothing travels', seal);
  await db.query('vacuum possync.capture');
  await measure('an idle round', seal, 200);
  await measure('a page with nothing new', pull, 200);
  await measure('one price: update', () => onePrice(), 1);
  await measure('one price: update and seal', () => onePrice().then(seal), 50);
  await pull();
  await measure('one price: update, seal, pull and apply', () => onePrice().then(seal).then(pull), 50);
  await mirror.resync();
  await measure('download and apply everything again, all equal', pull);

  function onePrice(): Promise<unknown> {
    return db.query(`update public.products set price = price + 1 where sku = 'SKU-77'`);
  }
  await db.end();
  await hq.end();
  await store.end();
} finally {
  await admin.end();
  await server.stop();
}
