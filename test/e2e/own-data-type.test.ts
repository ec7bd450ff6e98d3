/** A chain's own data types: tables of its own and a file that describes them, no line of program. */
import assert from 'node:assert/strict';
import { uuidv7 } from '../../src/core/ids.ts';
import { installTriggers } from '../../src/db/capture.ts';
import { queryOne } from '../../src/db/transaction.ts';
import { Mirror } from '../../src/store/mirror/mirror.ts';
import { ENTITIES } from '../../src/protocol/entities.ts';
import { parseEntities } from '../../src/protocol/entity-file.ts';
import { fetchFrom, NEVER, seal } from '../support/feed.ts';
import { openHq, openStore, type TestSide } from '../support/pos.ts';
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

function parsed(json: unknown): ReturnType<typeof parseEntities> {
  return parseEntities(json, ENTITIES);
}

describe('a data type of a chain', () => {
  let hq: TestSide;
  let store: TestSide;
  const own = parsed(FILE);
  const entities =
    own.result === 'entities' ? [...ENTITIES, ...own.entities] : assert.fail(own.faults.join());

  before(async () => {
    hq = await openHq('own type', [STORE, 6]);
    store = await openStore('own type', STORE);
    const tables = (deferrable: string): string => `
      create table public.suppliers (id uuid primary key, code text not null unique ${deferrable}, settings json,
        active boolean not null default true, updated_at timestamptz not null default now());
      create table public.supplier_contacts (supplier_id uuid not null references public.suppliers ${deferrable},
        n integer not null, phone text, primary key (supplier_id, n));`;
    await hq.db.query(`${tables('')}
      create table public.supplier_stores (supplier_id uuid, store_id integer, primary key (supplier_id, store_id));
      create table public.stock_counts (store_id integer, id uuid, counted bigint, received_at timestamptz not null default now(),
        primary key (store_id, id))`);
    await store.db.query(`${tables('deferrable initially immediate')}
      create table public.stock_counts (id uuid primary key, store_id integer, counted bigint)`);
    await installTriggers(hq.db, 'hq', entities);
    await installTriggers(store.db, 'store', entities);
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
