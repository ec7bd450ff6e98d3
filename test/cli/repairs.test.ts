/** `possync verify --repairs`: what was repaired, listed at both ends. */
import assert from 'node:assert/strict';
import { TestHq, TestStore } from '../support/chain.ts';
import { possync } from '../support/cli.ts';
import { addRegister, openSession, sell } from '../support/pos.ts';
import { settled, tamper, verify } from '../support/verify.ts';
import { until } from '../support/until.ts';

interface Repairs {
  readonly schema: string;
  readonly more: boolean;
  readonly repairs: readonly {
    readonly store: string;
    readonly direction: string;
    readonly type: string;
    readonly key: string;
    readonly actor: string;
    readonly result: string;
    readonly replaced_rows: number | null;
  }[];
}

describe('verify --repairs', function () {
  this.timeout(180_000);
  let hq: TestHq;
  let store: TestStore;
  let sale: string;

  before(async () => {
    hq = await TestHq.open('repairs');
    await hq.pool.query(
      `insert into public.products (id, sku, name, price) values (gen_random_uuid(), 'P', 'p', 100)`,
    );
    store = await TestStore.open(hq, 'REPAIRS', { pullIntervalMs: 500 });
    const till = await store.database.connect();
    sale = await sell(till, await openSession(till, await addRegister(till, store.id), store.id), {
      storeId: store.id,
    });
    await settled(hq, store);
  });
  after(async () => {
    await store.close();
    await hq.close();
  });

  const at = (side: TestHq | TestStore, ...args: string[]): ReturnType<typeof possync> =>
    possync(['verify', '--repairs', ...args], { env: { DATABASE_URL: side.database.url } });
  const list = async (side: TestHq | TestStore, ...args: string[]): Promise<Repairs> => {
    const { code, stdout, stderr } = await at(side, ...args, '--json');
    assert.equal(code, 0, stdout + stderr);
    return JSON.parse(stdout) as Repairs;
  };

  it('is empty where nothing was', async () => {
    for (const side of [hq, store]) {
      const { schema, repairs, more } = await list(side);
      assert.deepEqual({ schema, repairs, more }, { schema: 'possync.repairs/1', repairs: [], more: false });
      assert.match((await at(side)).stdout, /Nothing was ever repaired/);
    }
  });

  it('names every record, who asked and what became of it, the newest first, and what HQ keeps of its own', async () => {
    await tamper(hq.pool, 'update public.sales set total = total + 1 where id = $1::uuid', [sale]);
    await tamper(store.pool, `update public.products set name = 'wrong'`);
    await verify(store, { repair: true });
    await settled(hq, store);
    await until(async () => (await list(hq)).repairs.every(({ result }) => result !== 'open'), {
      what: 'the store’s row has arrived',
      timeoutMs: 60_000,
    });
    const brief = async (side: TestHq | TestStore): Promise<string[]> =>
      (await list(side)).repairs
        .map((one) => `${one.direction} ${one.type} ${one.result} ${one.actor} ${one.replaced_rows ?? '-'}`)
        .sort();
    assert.deepEqual(await brief(hq), ['down product sent REPAIRS: test 0', 'up sale done REPAIRS: test 1']);
    assert.deepEqual(await brief(store), ['down product sent test -', 'up sale sent test -']);
    assert.ok((await list(hq)).repairs.some(({ key }) => key.includes(sale)));
    assert.equal((await list(hq, 'REPAIRS')).repairs.length, 2);
    const first = await list(hq, '--limit', '1');
    assert.deepEqual([first.repairs.length, first.more], [1, true]);
    const [newest] = (await list(hq)).repairs;
    assert.deepEqual(first.repairs[0], newest);
    assert.match((await at(hq)).stdout, /WHEN +STORE +WAY/);
  });

  it('repairs nothing itself, and refuses what makes no sense', async () => {
    await tamper(store.pool, `update public.products set name = 'wrong again'`);
    const before = (await list(hq)).repairs.length;
    await at(store);
    assert.equal((await list(hq)).repairs.length, before);
    for (const args of [['--repair'], ['--limit', '0']]) assert.equal((await at(hq, ...args)).code, 64);
    assert.match((await at(hq, 'NONE')).stderr, /PS-STORE-UNKNOWN/);
  });
});
