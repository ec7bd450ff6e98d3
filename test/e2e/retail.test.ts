/**
 * The main job on real data: 19 stores of three chains replayed into their own databases while HQ changes its
 * catalogue; at the end both sides are equal row by row, and HQ's sums are the published daily totals.
 */
import assert from 'node:assert/strict';
import { silentLog } from '../../src/core/log.ts';
import { countDifferences } from '../../src/db/compare.ts';
import { connect } from '../../src/db/pool.ts';
import { Chain, type ChainStore } from '../../src/demo/chain.ts';
import { ledgerFindings } from '../../src/hq/ledger/findings.ts';
import { settleLedgerInTurn } from '../../src/hq/ledger/ledger.ts';
import { clusterUrl } from '../support/postgres.ts';
import { cents, field, idOf, readRetailData, retailFolder, type RetailData } from '../support/retail-data.ts';
import {
  addCashier,
  applyProductEvent,
  loadHeadOffice,
  receiveTransfers,
  replayStore,
  shipTransfers,
} from '../support/retail-replay.ts';

/** The warehouse ships to stores: in possync it is a store like any other. */
const WAREHOUSE = 'ia:STATE-WAREHOUSE';
/** Far more than it takes; a test that hangs must end. */
const SETTLE_MS = 240_000;

describe('real retail data', function () {
  this.timeout(900_000);

  before(function () {
    if (retailFolder === undefined) {
      console.log('      skipped: the retail data is not here (set POSSYNC_RETAIL_DATA to its folder)');
      this.skip();
    }
  });

  it('arrives whole: every table equal row by row on both sides, daily sums as published', async () => {
    assert.ok(retailFolder !== undefined);
    const data = readRetailData(retailFolder);
    const keys = [...data.stores.map((row) => field(row, 'store_id')), WAREHOUSE];
    const server = await clusterUrl('postgres');
    const chain = await Chain.start({
      databaseUrl: (database) => Object.assign(new URL(server), { pathname: `/${database}` }).href,
      prefix: `retail_${process.pid}`,
      stores: keys.map((key) => ({
        code: key.replace(/[^A-Za-z0-9]/g, '-'),
        name: key,
        timeZone: timeZoneOf(data, key),
      })),
      log: silentLog,
      pushIntervalMs: 1_000,
    });
    try {
      const stores = new Map(keys.map((key, index) => [key, chain.stores[index]]));
      const storeOf = (key: string): ChainStore => {
        const store = stores.get(key);
        assert.ok(store !== undefined, key);
        return store;
      };
      const started = performance.now();
      await loadHeadOffice(chain.hq, data);
      for (const key of keys) await addCashier(chain.hq, storeOf(key).id, key);
      await chain.settle(SETTLE_MS);
      const downloaded = performance.now();

      const rows = await replay(chain, data, keys, storeOf);
      const written = performance.now();
      await chain.settle(SETTLE_MS);
      // Receipts of transfers can only be written once the shipments are there.
      let received = 0;
      for (const key of keys) {
        received += await receiveTransfers(storeOf(key).pool, storeOf(key).id, idOf('user', key));
      }
      await chain.settle(SETTLE_MS);
      const settled = performance.now();

      for (const { store, tables } of await chain.compare()) {
        assert.equal(countDifferences(tables), 0, `${store}: ${JSON.stringify(differing(tables))}`);
      }
      await assertDailyTotals(chain, data, storeOf);
      assert.equal(await count(chain, 'sales'), data.sales.length);
      assert.equal(await count(chain, 'products'), data.products.length);
      assert.equal(await count(chain, 'transfer_receipts'), data.transfers.length);
      const { rows: dead } = await chain.hq.query('select seq from possync.dead');
      assert.deepEqual(dead, []);
      await assertLedger(chain);
      const seconds = (from: number, to: number): string => ((to - from) / 1_000).toFixed(1);
      console.log(
        `      ${rows + received} rows of ${data.sales.length} baskets: download ${seconds(started, downloaded)} s, ` +
          `replay ${seconds(downloaded, written)} s, drained ${seconds(written, settled)} s later, ` +
          `${Math.round(((rows + received) * 1_000) / (settled - downloaded))} rows/s`,
      );
    } finally {
      await chain.stop();
    }
  });
});

function timeZoneOf(data: RetailData, key: string): string {
  const row = data.stores.find((store) => field(store, 'store_id') === key);
  return row === undefined ? 'America/Chicago' : field(row, 'timezone');
}

/** All stores at once, each in its own time order; HQ's product events spread over the whole run, in their order. */
async function replay(
  chain: Chain,
  data: RetailData,
  keys: readonly string[],
  storeOf: (key: string) => ChainStore,
): Promise<number> {
  let baskets = 0;
  let applied = 0;
  let headOffice = Promise.resolve();
  const onBasket = (): void => {
    baskets += 1;
    const due = Math.floor((baskets * data.productEvents.length) / data.sales.length);
    for (; applied < due; applied++) {
      const event = data.productEvents[applied];
      if (event !== undefined) headOffice = headOffice.then(() => applyProductEvent(chain.hq, data, event));
    }
  };
  const written = await Promise.all(
    keys.map(async (key) => {
      const store = storeOf(key);
      const db = await connect({ url: store.databaseUrl, applicationName: `till ${key}` });
      try {
        return key === WAREHOUSE
          ? await shipTransfers(db, data, (other) => storeOf(other).id)
          : await replayStore(db, data, { storeId: store.id, storeKey: key, onBasket });
      } finally {
        await db.end();
      }
    }),
  );
  await headOffice;
  assert.equal(applied, data.productEvents.length);
  return written.reduce((sum, rows) => sum + rows, 0);
}

async function assertDailyTotals(
  chain: Chain,
  data: RetailData,
  storeOf: (key: string) => ChainStore,
): Promise<void> {
  const { rows } = await chain.hq.query<
    Record<'key' | 'sales' | 'lines' | 'gross' | 'discount' | 'total', string>
  >(
    `select s.store_id || ' ' || s.business_date as key, count(*)::text as sales,
            sum((select count(*) from public.sale_lines l
                  where l.store_id = s.store_id and l.business_date = s.business_date and l.sale_id = s.id))::text as lines,
            sum(s.subtotal)::text as gross, sum(s.discount_total)::text as discount, sum(s.total)::text as total
       from public.sales s group by s.store_id, s.business_date`,
  );
  const atHq = new Map(rows.map((row) => [row.key, row]));
  assert.equal(atHq.size, data.dailyTotals.length);
  for (const expected of data.dailyTotals) {
    const key = `${storeOf(field(expected, 'store_id')).id} ${field(expected, 'sold_on')}`;
    assert.deepEqual(atHq.get(key), {
      key,
      sales: field(expected, 'sale_count'),
      lines: field(expected, 'line_count'),
      gross: cents(field(expected, 'gross')),
      discount: cents(field(expected, 'discount')),
      total: cents(field(expected, 'total')),
    });
  }
}

/** Every Z report agrees with the baskets of its session, and nothing is to be acted upon. */
async function assertLedger(chain: Chain): Promise<void> {
  assert.ok(await settleLedgerInTurn(chain.hq, AbortSignal.timeout(SETTLE_MS)));
  const { rows } = await chain.hq.query<{ state: string; reports: number; why: unknown }>(
    `select coalesce(l.state, 'unknown') as state, count(*) as reports, min(f.detail::text) as why
       from public.z_reports z left join possync.ledger_z l on l.store_id = z.store_id and l.z_id = z.id
       left join possync.findings f on f.store_id = z.store_id and f.scope like '%' || z.session_id || '%'
      group by l.state`,
  );
  assert.deepEqual(
    rows.map(({ state }) => state),
    ['complete'],
    JSON.stringify(rows),
  );
  const found = (await ledgerFindings(chain.hq)).filter(({ note }) => !note);
  assert.deepEqual(found.slice(0, 5), [], `${found.length} findings`);
}

async function count(chain: Chain, table: 'sales' | 'products' | 'transfer_receipts'): Promise<number> {
  const { rows } = await chain.hq.query<{ count: number }>(`select count(*) as count from public.${table}`);
  return rows[0]?.count ?? 0;
}

function differing(tables: Awaited<ReturnType<Chain['compare']>>[number]['tables']): unknown {
  return tables
    .filter((table) => countDifferences([table]) > 0)
    .map((table) => ({
      table: table.table,
      direction: table.direction,
      differing: table.differing.slice(0, 3),
      missingAtHq: table.missingAtHq.slice(0, 3),
      missingAtStore: table.missingAtStore.slice(0, 3),
    }));
}
