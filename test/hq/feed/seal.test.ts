/** Rounds: who gets a position, who does not, and what a killed one leaves behind. */
import assert from 'node:assert/strict';
import { uuidv7 } from '../../../src/core/ids.ts';
import { queryOne } from '../../../src/db/transaction.ts';
import { sealInTurn, sealOnce } from '../../../src/hq/feed/seal.ts';
import { seal } from '../../support/feed.ts';
import { openHq, type TestSide } from '../../support/pos.ts';
import { until } from '../../support/until.ts';

interface FeedRow {
  readonly entity: string;
  readonly store_id: number;
  readonly pos: number;
  readonly live: boolean;
}

describe('a sealing round', () => {
  let hq: TestSide;

  beforeEach(async () => {
    hq = await openHq('seal', [1, 2, 3]);
    await seal(hq.db);
  });
  afterEach(() => hq.close());

  const feedOf = async (pk: string, entity: string): Promise<FeedRow[]> => {
    const { rows } = await hq.db.query<FeedRow>(
      `select f.entity, f.store_id, f.pos, f.doc is not null as live from possync.feed f
        where f.pk = $1 and f.entity = $2 order by f.pos`,
      [`["${pk}"]`, entity],
    );
    return rows;
  };
  const addProduct = async (sku: string): Promise<string> => {
    const id = uuidv7();
    await hq.db.query(`insert into public.products (id, sku, name, price) values ($1, $2, 'p', 1.5)`, [
      id,
      sku,
    ]);
    return id;
  };
  const addUser = async (store: number | null): Promise<{ user: string; assignment: string }> => {
    const [user, role, assignment] = [uuidv7(), uuidv7(), uuidv7()];
    await hq.db.query(
      `insert into public.users (id, username, display_name, pin_hash) values ($1::uuid, $1::uuid::text, 'u', 'h')`,
      [user],
    );
    await hq.db.query(`insert into public.roles (id, name) values ($1::uuid, $1::uuid::text)`, [role]);
    await hq.db.query(
      'insert into public.user_store_roles (id, user_id, role_id, store_id) values ($1, $2, $3, $4)',
      [assignment, user, role, store],
    );
    return { user, assignment };
  };

  it('invariant 3: gives no new position where only updated_at or a touched row moved', async () => {
    const id = await addProduct('A');
    const role = uuidv7();
    await hq.db.query(`insert into public.roles (id, name) values ($1, 'r')`, [role]);
    await hq.db.query(`insert into public.role_permissions (role_id, permission) values ($1, 'pos:x')`, [
      role,
    ]);
    await seal(hq.db);
    const before = [...(await feedOf(id, 'product')), ...(await feedOf(role, 'role'))];
    await hq.db.query(`update public.products set updated_at = now() + interval '1 day', price = 1.50`);
    await hq.db.query(`update public.role_permissions set updated_at = now() + interval '1 day'`);
    assert.deepEqual(await sealOnce(hq.db), { result: 'idle' });
    assert.deepEqual([...(await feedOf(id, 'product')), ...(await feedOf(role, 'role'))], before);
    const { left } = await queryOne<{ left: number }>(hq.db, 'select count(*) as left from possync.capture');
    assert.equal(left, 0, 'a change that makes no difference is done with all the same');
  });

  it('carries updated_at with a change that has another reason', async () => {
    const id = await addProduct('A');
    await seal(hq.db);
    await hq.db.query(`update public.products set price = 2, updated_at = '2030-01-01T00:00:00Z'`);
    await seal(hq.db);
    const { stamp } = await queryOne<{ stamp: string }>(
      hq.db,
      `select f.doc ->> 'updated_at' as stamp from possync.feed f where f.pk = $1`,
      [`["${id}"]`],
    );
    assert.equal(stamp, '2030-01-01T00:00:00+00:00');
  });

  it('negative control: comparing whole documents would send a touched catalogue again', async () => {
    await addProduct('A');
    await seal(hq.db);
    await hq.db.query(`update public.products set updated_at = now() + interval '1 day'`);
    const { differs } = await queryOne<{ differs: boolean }>(
      hq.db,
      `select to_jsonb(p.updated_at) is distinct from f.doc -> 'updated_at' as differs
         from public.products p join possync.feed f on f.entity = 'product'`,
    );
    assert.equal(differs, true);
  });

  it('invariants 4 and 5: a record that changes its audience leaves a removal below its document', async () => {
    const { user, assignment } = await addUser(null);
    await seal(hq.db);
    await hq.db.query('update public.user_store_roles set store_id = 2 where id = $1', [assignment]);
    await seal(hq.db);
    for (const [key, type] of [
      [user, 'user'],
      [assignment, 'user_role'],
    ] as const) {
      const [removed, live, ...more] = await feedOf(key, type);
      assert.deepEqual(more, []);
      assert.deepEqual([removed?.store_id, removed?.live, live?.store_id, live?.live], [0, false, 2, true]);
    }
    await hq.db.query('update public.user_store_roles set store_id = null where id = $1', [assignment]);
    await seal(hq.db);
    assert.deepEqual(
      (await feedOf(user, 'user')).map(({ store_id, live }) => [store_id, live]),
      [
        [2, false],
        [0, true],
      ],
    );
  });

  it('never gives a record scope 0 and a store at the same time', async () => {
    const { user } = await addUser(2);
    await hq.db.query(
      `insert into public.user_store_roles (id, user_id, role_id) select gen_random_uuid(), $1, id from public.roles limit 1`,
      [user],
    );
    await seal(hq.db);
    assert.deepEqual(
      (await feedOf(user, 'user')).map(({ store_id }) => store_id),
      [0],
    );
  });

  it('takes an inactive link row for a removed one', async () => {
    const { user, assignment } = await addUser(2);
    await seal(hq.db);
    await hq.db.query('update public.user_store_roles set active = false where id = $1', [assignment]);
    const { stores, urgent } = await seal(hq.db);
    assert.deepEqual(stores, [2]);
    assert.equal(urgent, true);
    assert.deepEqual(
      [...(await feedOf(user, 'user')), ...(await feedOf(assignment, 'user_role'))].map(({ live }) => live),
      [false, false],
    );
  });

  it('is urgent for a new price, not for a new name or a new product', async () => {
    const id = await addProduct('A');
    assert.equal((await seal(hq.db)).urgent, false);
    await hq.db.query(`update public.products set name = 'other' where id = $1`, [id]);
    assert.equal((await seal(hq.db)).urgent, false);
    await hq.db.query('update public.products set price = 3 where id = $1', [id]);
    assert.equal((await seal(hq.db)).urgent, true);
  });

  it('says whose records moved: null for those of all stores only', async () => {
    const id = await addProduct('A');
    assert.equal((await seal(hq.db)).stores, null);
    await hq.db.query(
      'insert into public.store_prices (store_id, product_id, price) values (3, $1, 1), (1, $1, 1)',
      [id],
    );
    assert.deepEqual((await seal(hq.db)).stores, [1, 3]);
    await hq.db.query(
      `update public.products set name = 'q'; update public.store_prices set price = 2 where store_id = 3`,
    );
    assert.deepEqual((await seal(hq.db)).stores, [0, 3]);
  });

  it('makes the same documents in every time zone, and by every session', async () => {
    await addProduct('A');
    await seal(hq.db);
    const other = await hq.database.connect();
    await other.query(
      `set timezone = 'Asia/Kolkata'; set intervalstyle = 'sql_standard'; set bytea_output = 'escape'`,
    );
    await other.query('update public.products set updated_at = updated_at');
    assert.deepEqual(await sealInTurn(other), { result: 'idle' });
  });

  it('commits durably even where the session does not', async () => {
    await addProduct('A');
    const lazy = await hq.database.connect();
    await lazy.query('set synchronous_commit = off');
    await lazy.query('begin isolation level repeatable read');
    await lazy.query('lock table possync.seal_lock in exclusive mode');
    await lazy.query('select head from possync.seal()');
    const { setting } = await queryOne<{ setting: string }>(
      lazy,
      `select current_setting('synchronous_commit') as setting`,
    );
    await lazy.query('commit');
    assert.equal(setting, 'on');
  });

  it('leaves the turn to another process that is sealing, and does not wait', async () => {
    await addProduct('A');
    const other = await hq.database.connect();
    await other.query('begin; lock table possync.seal_lock in exclusive mode');
    assert.deepEqual(await sealOnce(hq.db), { result: 'busy' });
    await other.query('rollback');
    assert.equal((await sealOnce(hq.db)).result, 'sealed');
  });

  it('in turn covers everything that was committed before it was asked for', async () => {
    const other = await hq.database.connect();
    await other.query(
      'begin isolation level repeatable read; lock table possync.seal_lock in exclusive mode; select 1',
    );
    const id = await addProduct('A'); // the other round has its snapshot already
    const asked = sealInTurn(hq.db);
    await other.query('select head from possync.seal(); commit');
    await asked;
    assert.equal((await feedOf(id, 'product')).length, 1);
  });

  it('negative control: an advisory lock instead takes its snapshot before it waits, and misses the change', async () => {
    const [first, second] = [await hq.database.connect(), await hq.database.connect()];
    await first.query('begin; select pg_advisory_xact_lock(1)');
    await second.query('begin isolation level repeatable read');
    const waiting = second.query('select pg_advisory_xact_lock(1)');
    await until(
      async () =>
        (
          await queryOne<{ n: number }>(
            hq.db,
            `select count(*) as n from pg_locks l where l.locktype = 'advisory' and not l.granted`,
          )
        ).n === 1,
      { what: 'the second one waits' },
    );
    const id = await addProduct('A');
    await first.query('commit');
    await waiting;
    await second.query('select head from possync.seal()');
    await second.query('commit');
    assert.equal((await feedOf(id, 'product')).length, 0);
    await seal(hq.db); // nothing is lost, but the round did not cover it
  });

  it('invariant 6: a killed round gives its captures back', async () => {
    const id = await addProduct('A');
    const victim = await hq.database.connect();
    await victim.query(
      'begin isolation level repeatable read; lock table possync.seal_lock in exclusive mode',
    );
    const { pid } = await queryOne<{ pid: number }>(
      victim,
      'select pg_backend_pid() as pid from possync.seal()',
    );
    await hq.db.query('select pg_terminate_backend($1::int)', [pid]);
    await until(async () => (await sealOnce(hq.db)).result === 'sealed', { what: 'the next round seals' });
    assert.equal((await feedOf(id, 'product')).length, 1);
  });

  it('keeps no state in its session: every statement may meet another one behind a pooler', async () => {
    for (let n = 0; n < 3; n += 1) {
      await addProduct(`A${n}`);
      const session = await hq.database.connect();
      await session.query('discard all');
      assert.equal((await sealOnce(session)).result, 'sealed');
      const { temporary } = await queryOne<{ temporary: boolean }>(
        session,
        'select pg_my_temp_schema() <> 0 as temporary',
      );
      assert.equal(temporary, false);
    }
  });
});
