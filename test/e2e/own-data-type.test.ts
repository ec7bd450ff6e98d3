/** A chain's own data types: tables of its own and a file that describes them, no line of program. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { uuidv7 } from '../../src/core/ids.ts';
import { installTriggers } from '../../src/db/capture.ts';
import { readEntities, saveOwnTypes } from '../../src/db/own-types.ts';
import { queryOne } from '../../src/db/transaction.ts';
import { Mirror } from '../../src/store/mirror/mirror.ts';
import { ENTITIES, type Entity } from '../../src/protocol/entities.ts';
import { parseEntities } from '../../src/protocol/entity-file.ts';
import { fetchFrom, NEVER, seal } from '../support/feed.ts';
import { openHq, openStore, type TestSide } from '../support/pos.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';
import { runPossync, startPossync, type Ended, type TestProcess } from '../support/process.ts';
import { Up } from '../support/up.ts';

const FILE = {
  entities: [
    {
      type: 'supplier',
      title: 'supplier',
      direction: 'down',
      root: { table: 'suppliers', key: ['id'], columns: ['id', 'code', 'settings', 'active'], stamped: true },
      children: [
        {
          table: 'supplier_contacts',
          field: 'contacts',
          key: ['supplier_id', 'n'],
          columns: ['supplier_id', 'n', 'phone'],
          parentKey: ['supplier_id'],
        },
      ],
      down: {
        audience: {
          kind: 'query',
          sql: 'select s.store_id from public.supplier_stores s where s.supplier_id = r.id',
        },
        removal: 'deactivate',
        unique: ['code'],
        alsoMarkedBy: [{ table: 'supplier_stores', key: ['supplier_id'] }],
        priority: { highColumns: ['settings'] },
      },
    },
    {
      type: 'stock_count',
      title: 'stock count',
      direction: 'up',
      root: { table: 'stock_counts', key: ['id'], columns: ['id', 'store_id', 'counted'] },
      up: { change: { kind: 'append' }, storeColumn: 'store_id' },
    },
  ],
};

const STORE = 5;

const downTables = (deferrable: string): string => `
  create table public.suppliers (id uuid primary key, code text not null unique ${deferrable}, settings json,
    active boolean not null default true, updated_at timestamptz not null default now());
  create table public.supplier_contacts (supplier_id uuid not null references public.suppliers ${deferrable},
    n integer not null, phone text, primary key (supplier_id, n));`;

const HQ_TABLES = `${downTables('')}
  create table public.supplier_stores (supplier_id uuid, store_id integer, primary key (supplier_id, store_id));
  create table public.stock_counts (store_id integer, id uuid, counted bigint, received_at timestamptz not null default now(),
    primary key (store_id, id))`;

const STORE_TABLES = `${downTables('deferrable initially immediate')}
  create table public.stock_counts (id uuid primary key, store_id integer, counted bigint)`;

function parsed(json: unknown): ReturnType<typeof parseEntities> {
  return parseEntities(json, ENTITIES);
}

describe('a data type of a chain', () => {
  let hq: TestSide;
  let store: TestSide;
  let entities: readonly Entity[];

  before(async () => {
    hq = await openHq('own type', [STORE, 6]);
    store = await openStore('own type', STORE);
    await hq.db.query(HQ_TABLES);
    await store.db.query(STORE_TABLES);
    for (const [db, role] of [
      [hq.db, 'hq'],
      [store.db, 'store'],
    ] as const) {
      await saveOwnTypes(db, JSON.stringify(FILE));
      await installTriggers(db, role);
    }
    entities = await readEntities(store.db);
  });
  after(async () => {
    await store.close();
    await hq.close();
  });

  const suppliers = async (): Promise<unknown[]> =>
    (
      await store.db.query({
        text: `select s.code, s.settings::text, s.active, array(select c.phone from public.supplier_contacts c
                 where c.supplier_id = s.id order by c.n) as phones from public.suppliers s order by s.code`,
        rowMode: 'array',
      })
    ).rows;

  it('comes down to its audience with its children, and leaves it by its rule', async () => {
    const mirror = new Mirror({ pool: store.pool, entities });
    const bring = async (statements: string): Promise<boolean> => {
      await hq.db.query(statements);
      const { urgent } = await seal(hq.db);
      assert.equal((await mirror.pull(fetchFrom(hq.pool, STORE), NEVER)).result, 'applied');
      return urgent;
    };
    const [a, b] = [uuidv7(), uuidv7()];
    await bring(`insert into public.suppliers (id, code, settings) values ('${a}', 'A', '{"x": 1}'), ('${b}', 'B', null);
      insert into public.supplier_contacts values ('${a}', 1, '555'), ('${a}', 2, '556');
      insert into public.supplier_stores values ('${a}', ${STORE}), ('${a}', 6), ('${b}', 6)`);
    assert.deepEqual(await suppliers(), [['A', '{"x": 1}', true, ['555', '556']]]);
    assert.equal(await bring('delete from public.supplier_contacts where n = 1'), false);
    assert.deepEqual(await suppliers(), [['A', '{"x": 1}', true, ['556']]]);
    assert.equal(await bring(`update public.suppliers set settings = '{"x": 2}'`), true, 'urgent');
    await bring(`delete from public.supplier_stores where supplier_id = '${a}' and store_id = ${STORE}`);
    assert.deepEqual(await suppliers(), [[`A~${a}`, '{"x": 2}', false, ['556']]]);
    await assert.rejects(store.db.query('delete from public.suppliers'), { code: 'PS002' });
  });

  it('goes up like any other, and is guarded at HQ', async () => {
    await store.db.query('insert into public.stock_counts (id, store_id, counted) values ($1, $2, 7)', [
      uuidv7(),
      STORE,
    ]);
    await new Up(store, hq, STORE).drain();
    const { counted } = await queryOne<{ counted: number }>(
      hq.db,
      'select c.counted from public.stock_counts c where c.store_id = $1',
      [STORE],
    );
    assert.equal(counted, 7);
    await assert.rejects(
      hq.db.query('insert into public.stock_counts (id, store_id, counted) values ($1, $2, 7)', [
        uuidv7(),
        STORE,
      ]),
      { code: 'PS002' },
    );
  });
});

describe('a data type of a chain, with the program alone', function () {
  this.timeout(120_000);
  let dir: string;
  let hqDb: TestDatabase;
  let storeDb: TestDatabase;
  let hqEnv: Record<string, string>;
  let storeEnv: Record<string, string>;
  let server: TestProcess | undefined;
  let daemon: TestProcess | undefined;

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'possync-own-'));
    [hqDb, storeDb] = await Promise.all([createDatabase('own hq'), createDatabase('own store')]);
    hqEnv = { DATABASE_URL: hqDb.url, LOG_DIR: dir, POSSYNC_METRICS_LISTEN: 'off', SYNC_LISTEN_PORT: '0' };
    storeEnv = {
      DATABASE_URL: storeDb.url,
      LOG_DIR: dir,
      POSSYNC_STATE_DIR: join(dir, 'state'),
      POSSYNC_STATUS_LISTEN: 'off',
      POSSYNC_METRICS_LISTEN: 'off',
      SYNC_PUSH_INTERVAL: '200ms',
    };
    await writeFile(join(dir, 'types.json'), JSON.stringify(FILE));
  });
  after(async () => {
    await daemon?.kill();
    await server?.kill();
    await storeDb.drop();
    await hqDb.drop();
    await rm(dir, { recursive: true, force: true });
  });

  const run = async (
    env: Record<string, string>,
    code: number,
    args: string[],
    input = '',
  ): Promise<Ended> => {
    const ended = await runPossync(args, { cwd: dir, env, input });
    assert.equal(ended.code, code, `${ended.stdout}\n${ended.stderr}`);
    return ended;
  };
  const startDaemon = async (): Promise<TestProcess> => {
    const started = await startPossync(['store', 'daemon'], { cwd: dir, env: storeEnv });
    await started.line(/"event":"ready"/, 30_000);
    return started;
  };

  it('is refused while its tables are not there, and nothing is kept', async () => {
    await run(hqEnv, 0, ['hq', 'init']);
    const { stderr } = await run(hqEnv, 78, ['hq', 'init', '--types', 'types.json']);
    assert.match(stderr, /suppliers\.id, which is not there/);
    await run(hqEnv, 0, ['hq', 'init']);
    await run(hqEnv, 66, ['hq', 'init', '--types', 'nowhere.json']);
    const broken = await run(hqEnv, 78, ['hq', 'init', '--types', '-'], '{"entities": [{"type": 7}]}');
    assert.match(broken.stderr, /entities\.0[\s\S]*PS-CFG-TYPES/);
  });

  it('reaches a store that learns of it later, and comes up from there', async () => {
    const hq = await hqDb.connect();
    await hq.query(HQ_TABLES);
    await run(hqEnv, 0, ['hq', 'init', '--types', 'types.json']);
    server = await startPossync(['hq', 'serve'], { cwd: dir, env: hqEnv });
    const { url } = JSON.parse(await server.line(/"event":"ready"/, 30_000)) as { url: string };
    await run(hqEnv, 0, ['stores', 'add', 'N-1', '--name', 'North', '--time-zone', 'UTC']);
    const token = (await run(hqEnv, 0, ['token', 'issue', 'N-1', '--hq-url', url])).stdout;
    await run(storeEnv, 0, ['store', 'init', '--token-file', '-'], token);
    await hq.query(`insert into public.suppliers (id, code) values ('${uuidv7()}', 'A');
      insert into public.supplier_stores select s.id, 1 from public.suppliers s`);

    daemon = await startDaemon();
    await run(storeEnv, 0, ['status', '--wait', 'caught-up', '--timeout', '30']);
    const store = await storeDb.connect();
    await store.query(STORE_TABLES);
    await run(storeEnv, 0, ['store', 'init', '--types', 'types.json']);
    await daemon.stop();
    daemon = await startDaemon();
    await run(storeEnv, 0, ['status', '--wait', 'caught-up', '--timeout', '30']);
    const { rows } = await store.query<{ code: string }>('select s.code from public.suppliers s');
    assert.deepEqual(rows, [{ code: 'A' }]);

    await store.query(`insert into public.stock_counts (id, store_id, counted) values ('${uuidv7()}', 1, 7)`);
    await run(storeEnv, 0, ['status', '--wait', 'drained', '--timeout', '30']);
    const counts = await hq.query<{ counted: string }>(
      'select c.counted::text as counted from public.stock_counts c',
    );
    assert.deepEqual(counts.rows, [{ counted: '7' }]);
    for (const env of [hqEnv, storeEnv]) {
      const status = JSON.parse((await run(env, 0, ['status', '--json'])).stdout) as StatusDoc;
      const types = status.types ?? status.stores?.[0]?.types ?? {};
      assert.deepEqual([types.supplier?.records, types.stock_count?.records], [1, 1], JSON.stringify(types));
    }
  });

  it('is not left out of the file while its table is there to be captured', async () => {
    const { stderr } = await run(storeEnv, 78, ['store', 'init', '--types', '-'], '{"entities": []}');
    assert.match(stderr, /supplier: it is left out[\s\S]*stock_count: it is left out/);
  });
});

interface StatusDoc {
  readonly types?: Readonly<Record<string, { readonly records: number }>>;
  readonly stores?: readonly { readonly types: StatusDoc['types'] }[];
}

describe('a file of data types', () => {
  const faultsOf = (json: unknown): string => {
    const answer = parsed(json);
    return answer.result === 'faults' ? answer.faults.join('\n') : '';
  };
  const [supplier, count] = structuredClone(FILE.entities);

  it('is taken when it makes sense', () => {
    assert.equal(faultsOf(FILE), '');
    assert.equal(faultsOf({ entities: [] }), '');
  });

  it('is refused with every fault and its place', () => {
    assert.match(faultsOf(null), /the file/);
    assert.match(faultsOf({ entities: [{ ...supplier, direction: 'sideways' }] }), /entities\.0/);
    assert.match(faultsOf({ entities: [{ ...supplier, typo: 1 }] }), /typo/);
    assert.match(
      faultsOf({ entities: [{ ...supplier, root: { ...supplier?.root, table: 'Drop; table' } }] }),
      /plain lower-case name/,
    );
    assert.match(
      faultsOf({ entities: [{ ...supplier, root: { ...supplier?.root, key: ['other'] } }] }),
      /must be among its columns/,
    );
    assert.match(
      faultsOf({ entities: [{ ...supplier, down: { ...supplier?.down, unique: ['nothing'] } }] }),
      /unique names no column/,
    );
    assert.match(faultsOf({ entities: [count, count] }), /described twice[\s\S]*belongs to another type/);
    assert.match(
      faultsOf({ entities: [{ ...count, root: { ...count?.root, table: 'sales' } }] }),
      /sales belongs to another type/,
    );
    assert.match(
      faultsOf({ entities: [{ ...count, up: { change: { kind: 'append' }, storeColumn: 'shop' } }] }),
      /storeColumn names no column/,
    );
  });
});
