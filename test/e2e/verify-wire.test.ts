/** `possync verify` between the two sides: what HQ lets a store ask, what HQ asks of a store, and the documents. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { uuidv7 } from '../../src/core/ids.ts';
import { PossyncError } from '../../src/core/errors.ts';
import { ENTITIES } from '../../src/protocol/entities.ts';
import { comparedTables } from '../../src/db/compared.ts';
import { rowsAnswerSchema } from '../../src/protocol/verify.ts';
import type { HqClient } from '../../src/store/link/hq-client.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { possync, type CliResult } from '../support/cli.ts';
import { addRegister, openSession, sell } from '../support/pos.ts';
import { clientOf, settled, tamper, verify, verifyAlone } from '../support/verify.ts';

interface Document {
  readonly schema: string;
  readonly exit_code: number;
  readonly stores: readonly {
    readonly code: string;
    readonly state: string;
    readonly tables: readonly Record<string, unknown>[];
    readonly repaired: readonly Record<string, unknown>[];
    readonly findings: readonly Record<string, unknown>[];
  }[];
}

describe('verify over the wire', function () {
  this.timeout(120_000);
  let hq: TestHq;
  let here: TestStore;
  let there: TestStore;
  let client: HqClient;
  let product: string;

  before(async () => {
    hq = await TestHq.open('verify_wire');
    here = await TestStore.open(hq, 'W-1', { pullIntervalMs: 500 });
    there = await TestStore.open(hq, 'W-2', { pullIntervalMs: 500 });
    product = uuidv7();
    await hq.pool.query(`insert into public.products (id, sku, name, price) values ($1::uuid, 'S', 'P', 1)`, [
      product,
    ]);
    await hq.pool.query(
      `insert into public.store_prices (store_id, product_id, price) values ($1::int, $3::uuid, 5), ($2::int, $3::uuid, 6)`,
      [here.id, there.id, product],
    );
    for (const store of [here, there]) {
      const till = await store.database.connect();
      const session = await openSession(till, await addRegister(till, store.id), store.id);
      await sell(till, session, { storeId: store.id });
      await settled(hq, store);
    }
    client = await clientOf(here);
  });
  after(async () => {
    client.close();
    await here.close();
    await there.close();
    await hq.close();
  });

  const run = (): { id: string; done: number; total: number } => ({ id: randomUUID(), done: 0, total: 0 });
  const ask = (step: string, body: object): Promise<{ text: string }> => client.verify(step, body);
  const question = (table: string, direction: 'up' | 'down'): Record<string, unknown> => ({
    run: run(),
    table,
    direction,
    buckets: 8,
    floor: null,
  });
  const everything = { wanted: [0, 1, 2, 3, 4, 5, 6, 7] };
  const cursorOf = async (store: TestStore): Promise<object> => {
    const { rows } = await store.pool.query<{ pos: number; nonce: string }>(
      'select c.pos, c.nonce from possync.cursor c',
    );
    return rows[0] ?? {};
  };
  const refused = async (step: string, body: object): Promise<void> => {
    await assert.rejects(
      ask(step, body),
      (error) => error instanceof PossyncError && error.code === 'PS-PROTOCOL',
      `${step} ${JSON.stringify(body)}`,
    );
  };
  const command = (side: TestHq | TestStore, args: readonly string[]): Promise<CliResult> =>
    possync(['verify', ...args], {
      env: {
        DATABASE_URL: side.database.url,
        ...(side instanceof TestStore ? { POSSYNC_STATE_DIR: side.stateDir } : {}),
      },
    });

  it('a request that names another store is refused, and no answer shows what is another store’s', async () => {
    const rows = { ...question('store_prices', 'down'), ...everything, cursor: await cursorOf(here) };
    await refused('rows', { ...rows, store: there.id });
    await refused('rows', { ...rows, store_id: there.id });
    await refused('digests', {
      ...question('sales', 'up'),
      digest: `0:${'0'.repeat(16)}`,
      storeId: there.id,
    });
    const prices = rowsAnswerSchema.parse(JSON.parse((await ask('rows', rows)).text));
    assert.deepEqual(
      prices.rows.map(([key]) => key),
      [`["${here.id}","${product}"]`],
    );
    const sales = rowsAnswerSchema.parse(
      JSON.parse((await ask('rows', { ...question('sales', 'up'), ...everything, cursor: null })).text),
    );
    assert.equal(sales.rows.length, 1);
    // The other store's price is named outright: it is none of this store's, and nothing of it comes back.
    const answer = await ask('repair', {
      run: run(),
      actor: 'somebody',
      records: [{ type: 'store_price', direction: 'down', key: `["${there.id}","${product}"]` }],
    });
    assert.deepEqual((JSON.parse(answer.text) as { documents: unknown }).documents, [
      ['store_price', `["${there.id}","${product}"]`, 0, null],
    ]);
  });

  it('bounds and parses everything that a store asks, and a made-up key stops no sealing', async () => {
    const digests = { ...question('products', 'down'), digest: `0:${'0'.repeat(16)}` };
    for (const wrong of [
      { ...digests, buckets: 3 },
      { ...digests, buckets: 1 << 20 },
      { ...digests, table: 'pg_authid' },
      { ...digests, table: 'sales', direction: 'down' },
      { ...digests, floor: "2026-01-01'; drop table public.sales" },
      { ...digests, digest: 'x' },
    ])
      await refused('digests', wrong);
    await refused('rows', { ...question('products', 'down'), cursor: null, wanted: [] });
    const records = (key: string, type = 'product'): object => ({
      run: run(),
      actor: 'somebody',
      records: [{ type, direction: 'down', key }],
    });
    await refused('repair', records('["not a uuid"]'));
    await refused('repair', records('nonsense'));
    await refused('repair', records(`["${product}"]`, 'sale'));
    await refused('report', { run: run(), store: {} });
    // What nobody at HQ asked for is not taken.
    const report = await verify(here);
    await refused('report', { run: run(), store: report });
    const { rows } = await hq.pool.query<{ n: number }>('select count(*) as n from possync.capture');
    assert.equal(rows[0]?.n, 0);
    await hq.pool.query('update public.products set price = 2');
    await settled(hq, here);
  });

  it('HQ asks the store over its live link and gets its report; a store that is cut off is unknown: 69', async () => {
    await settled(hq, here);
    await settled(hq, there);
    await here.untilLight('green');
    await there.untilLight('green');
    const equal = await command(hq, ['--json']);
    assert.equal(equal.code, 0, `${equal.stdout}${equal.stderr}`);
    await tamper(here.pool, 'update public.products set price = 3');
    const different = JSON.parse((await command(hq, ['--json'])).stdout) as Document;
    assert.equal(different.exit_code, 1);
    assert.deepEqual(
      different.stores.map(({ code, state }) => [code, state]),
      [
        ['W-1', 'different'],
        ['W-2', 'equal'],
      ],
    );
    const repaired = await command(hq, ['W-1', '--repair', '--json']);
    assert.equal(repaired.code, 0, repaired.stdout);
    const [store] = (JSON.parse(repaired.stdout) as Document).stores;
    assert.deepEqual(store?.repaired, [
      { type: 'product', direction: 'down', key: `["${product}"]`, result: 'sent' },
    ]);
    const { rows: audit } = await hq.pool.query<{ actor: string; type: string; state: string }>(
      `select actor, type, state from possync.repairs where key = $1::text order by id desc limit 1`,
      [`["${product}"]`],
    );
    assert.equal(audit[0]?.state, 'sent');
    assert.match(audit[0].actor, /^W-1: HQ: .+@/);
    const { rows: kept } = await here.pool.query<{ result: string }>(
      `select result from possync.repairs order by id desc limit 1`,
    );
    assert.equal(kept[0]?.result, 'sent');
    await there.stop();
    const cut = await command(hq, ['W-2', '--json']);
    assert.equal(cut.code, 69);
    const [gone] = (JSON.parse(cut.stdout) as Document).stores;
    assert.equal(gone?.state, 'unknown');
    assert.equal(gone.tables.length, comparedTables(ENTITIES).length);
    for (const table of gone.tables) assert.equal(table.differing, null);
    // One that could be asked is told all the same.
    const both = JSON.parse((await command(hq, ['--json'])).stdout) as Document;
    assert.deepEqual(
      both.stores.map(({ state }) => state),
      ['equal', 'unknown'],
    );
    assert.equal(both.exit_code, 69);
    await there.start();
    await there.untilLight('green');
  });

  it('in a store: through the daemon, without it, and without HQ', async () => {
    await settled(hq, here);
    const through = await command(here, []);
    assert.equal(through.code, 0, `${through.stdout}${through.stderr}`);
    assert.match(through.stdout, /^✓ W-1 equal {2}\d+ rows in \d+ comparisons, .* moved\n$/);
    assert.equal((await command(here, ['W-1'])).code, 64);
    await here.stop();
    await tamper(here.pool, `update public.sales set total = 1`);
    const alone = await command(here, []);
    assert.equal(alone.code, 1, alone.stderr);
    assert.match(alone.stdout, /✗ W-1 1 row differs .*PS-VERIFY-DIFFERS/);
    assert.match(alone.stdout, /sales +up +1 +1 +1 +0 +0 +\["[0-9a-f-]{36}"\]/);
    await hq.stop();
    const nowhere = await command(here, ['--json']);
    assert.equal(nowhere.code, 69, nowhere.stdout);
    assert.equal((JSON.parse(nowhere.stdout) as Document).stores[0]?.state, 'unknown');
    await hq.start();
    // Captured again without a daemon: the entry waits for it, and is no difference until then.
    const repaired = await verifyAlone(here, { repair: true });
    assert.equal(repaired.state, 'equal');
    assert.equal(repaired.tables.find(({ table }) => table === 'sales')?.in_flight, 1);
    await here.start();
    await settled(hq, here);
    const after = await verify(here);
    assert.equal(after.state, 'equal');
    assert.equal(after.tables.find(({ table }) => table === 'sales')?.in_flight, 0);
  });

  it('prints the document that scripts know, with nothing else in it', async () => {
    await here.untilLight('green');
    const { stdout } = await command(here, ['--json']);
    const document = JSON.parse(stdout) as Document;
    assert.deepEqual(Object.keys(document), ['schema', 'generated_at', 'possync', 'exit_code', 'stores']);
    assert.equal(document.schema, 'possync.verify/1');
    const [store] = document.stores;
    assert.deepEqual(Object.keys(store ?? {}), [
      'id',
      'code',
      'state',
      'reason',
      'tables',
      'repaired',
      'findings',
      'bytes',
      'duration_ms',
    ]);
    for (const table of store?.tables ?? [])
      assert.deepEqual(Object.keys(table), [
        'table',
        'direction',
        'rows_hq',
        'rows_store',
        'differing',
        'missing_at_hq',
        'missing_at_store',
        'only_at_hq',
        'in_flight',
        'keys',
        'reason',
      ]);
    assert.deepEqual(
      store?.tables.map(({ table, direction }) => `${String(table)} ${String(direction)}`),
      comparedTables(ENTITIES).map(({ table, direction }) => `${table.table} ${direction}`),
    );
  });

  it('ends with 1 where the ledger has an open finding, even if every row is equal', async () => {
    await hq.pool.query(
      `insert into possync.findings (store_id, kind, type, key, detail)
       values ($1::int, 'z_hole', 'z_report', 'x', '{"number":"13","expected":"13","text":"Z 13 is missing"}')`,
      [here.id],
    );
    const { code, stdout } = await command(here, ['--json']);
    assert.equal(code, 1);
    const [store] = (JSON.parse(stdout) as Document).stores;
    assert.equal(store?.state, 'equal');
    const { since, ...finding } = store.findings[0] ?? {};
    assert.ok(typeof since === 'string');
    assert.deepEqual(finding, {
      kind: 'z_hole',
      code: 'PS-LEDGER-Z-HOLE',
      register: null,
      number: '13',
      expected: '13',
      found: null,
      note: false,
      detail: 'Z 13 is missing',
    });
    assert.match(
      (await command(here, [])).stdout,
      /1 finding and 0 notes .*\n {4}Z 13 is missing \(PS-LEDGER-Z-HOLE\)\n/,
    );
  });
});
