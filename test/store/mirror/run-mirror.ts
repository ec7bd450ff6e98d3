/** A process that mirrors HQ's feed page by page, made to be killed: prints each page it asks for, and each apply. */
import { createPool } from '../../../src/db/pool.ts';
import { Mirror } from '../../../src/store/mirror/mirror.ts';
import { fetchFrom, NEVER } from '../../support/feed.ts';

const [hqUrl, storeUrl, storeId, pageRows] = process.argv.slice(2);
const hq = createPool({ url: hqUrl, applicationName: 'run-mirror hq', max: 1 });
const store = createPool({ url: storeUrl, applicationName: 'run-mirror store', max: 2 });
const fetchPage = fetchFrom(hq, Number(storeId));
const mirror = new Mirror({ pool: store, pageRows: Number(pageRows) });
const outcome = await mirror.pull(async (query, signal) => {
  console.log(`page ${query.from}`);
  return fetchPage(query, signal);
}, NEVER);
console.log(`${outcome.result} ${outcome.result === 'applied' ? outcome.pos : ''}`);
await Promise.all([hq.end(), store.end()]);
