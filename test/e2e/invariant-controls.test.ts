/**
 * What each rule is for: the same step done the wrong way, on the real tables, ends in the loss or the double that the
 * rule prevents. Invariants whose control stands beside their own test are not repeated here (docs/hazards.md has all).
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { queryOne } from '../../src/db/transaction.ts';
import { Mirror } from '../../src/store/mirror/mirror.ts';
import { jsonOf } from '../support/bodies.ts';
import { fetchFrom, NEVER, pull, seal } from '../support/feed.ts';
import {
  addRegister,
  openHq,
  openSession,
  openStore,
  sell,
  voidSale,
  type TestSide,
} from '../support/pos.ts';
import { Up } from '../support/up.ts';

const STORE = 7;

describe('the way down without one of its rules', () => {
  let store: TestSide;
  let hq: TestSide;
  beforeEach(async () => {
    [store, hq] = await Promise.all([openStore('controls down'), openHq('controls down')]);
  });
  afterEach(async () => {
    await store.close();
    await hq.close();
  });

  const product = async (sku: string): Promise<string> =>
    (
      await queryOne<{ id: string }>(
        hq.db,
        `insert into public.products (id, sku, name, price) values (gen_random_uuid(), $1::text, 'p', 100) returning id`,
        [sku],
      )
    ).id;
  const count = async (sql: string): Promise<number> =>
    (await queryOne<{ n: number }>(store.db, `select count(*) as n from ${sql}`)).n;

  it('invariant 4, negative control: a scope that is left without a removal stays in the store', async () => {
    const id = await product('P');
    await hq.db.query(
      'insert into public.store_prices (store_id, product_id, price) values (7, $1::uuid, 50)',
      [id],
    );
    await seal(hq.db);
    await pull(hq.pool, store.pool, STORE);
    await hq.db.query('delete from public.store_prices');
    await seal(hq.db);
    await hq.db.query('delete from possync.feed where doc is null'); // the wrong way: nothing is left behind
    await pull(hq.pool, store.pool, STORE);
    assert.equal(await count('public.store_prices'), 1, 'the store sells at a price that HQ took back');
  });

  it('invariant 5, negative control: a removal above its document takes away what should stay', async () => {
    await hq.db.query(
      `insert into public.roles (id, name) values ('0190a000-0000-7000-8000-00000000000a', 'r')`,
    );
    await hq.db.query(
      `insert into public.users (id, username, display_name, pin_hash) values ('0190a000-0000-7000-8000-00000000000b', 'anna', 'Anna', 'x')`,
    );
    await hq.db.query(
      `insert into public.user_store_roles (id, user_id, role_id, store_id)
       values (gen_random_uuid(), '0190a000-0000-7000-8000-00000000000b', '0190a000-0000-7000-8000-00000000000a', null)`,
    );
    await seal(hq.db);
    await pull(hq.pool, store.pool, STORE);
    await hq.db.query('update public.user_store_roles set store_id = 7');
    await seal(hq.db);
    const swap = `update possync.feed f set pos = o.pos from possync.feed o
       where o.entity = f.entity and o.pk = f.pk and o.store_id <> f.store_id and (o.doc is null) <> (f.doc is null)`;
    assert.equal((await hq.db.query(swap)).rowCount, 4, 'the user and the assignment, either scope');
    await pull(hq.pool, store.pool, STORE);
    assert.equal(await count('public.users x where x.active'), 0, 'Anna may not log in where she works');
  });

  it('invariant 6, negative control: captures that go in a transaction before their round are lost with its process', async () => {
    await product('P');
    await hq.db.query('delete from possync.capture'); // read into memory; and now the process dies
    await assert.rejects(seal(hq.db), /nothing was sealed/);
    await pull(hq.pool, store.pool, STORE);
    assert.equal(await count('public.products'), 0, 'nobody will ever send it');
  });

  it('invariant 7, negative control: a cursor that moves before the apply loses what was staged', async () => {
    const mirror = new Mirror({ pool: store.pool, pageRows: 2 });
    for (const sku of ['A', 'B', 'C']) await product(sku);
    await seal(hq.db);
    const fetch = fetchFrom(hq.pool, STORE);
    let pages = 0;
    await mirror.pull(async (query, signal) => {
      pages += 1;
      return pages > 1 ? { result: 'behind' } : fetch(query, signal);
    }, NEVER);
    await store.db.query(
      `update possync.cursor c set pos = h.pos, paged = h.pos, nonce = $1::uuid, seen_head = 0, seen_nonce = null
         from (select $2::bigint as pos) h`,
      await lastRound(),
    );
    await store.db.query('delete from possync.staging'); // the power went before the apply
    assert.equal((await mirror.pull(fetch, NEVER)).result, 'nothing');
    assert.equal(await count('public.products'), 0, 'the store believes that it has everything');
  });

  async function lastRound(): Promise<[string, number]> {
    const { nonce, head } = await queryOne<{ nonce: string; head: number }>(
      hq.db,
      'select r.nonce::text as nonce, r.head from possync.rounds r order by r.head desc limit 1',
    );
    return [nonce, head];
  }

  it('invariant 10, negative control: a download whose place is only in memory begins again', async () => {
    for (let n = 0; n < 10; n += 1) await product(`P${n}`);
    await seal(hq.db);
    const fetch = fetchFrom(hq.pool, STORE);
    const mirror = new Mirror({ pool: store.pool, pageRows: 2 });
    const fetched = async (forget: boolean): Promise<number> => {
      let pages = 0;
      await mirror.resync();
      await mirror.pull(
        async (query, signal) => (pages < 4 ? ((pages += 1), fetch(query, signal)) : { result: 'behind' }),
        NEVER,
      );
      if (forget)
        await store.db.query('update possync.cursor c set paged = 0, seen_head = 0, seen_nonce = null');
      await mirror.pull(async (query, signal) => ((pages += 1), fetch(query, signal)), NEVER);
      return pages;
    };
    const right = await fetched(false);
    assert.equal((await fetched(true)) - right, 4, 'all that was there is downloaded again');
  });
});

describe('the way up without one of its rules', () => {
  let store: TestSide;
  let hq: TestSide;
  let up: Up;
  let session: string;
  beforeEach(async () => {
    [store, hq] = await Promise.all([openStore('controls up'), openHq('controls up', [7, 8])]);
    up = new Up(store, hq);
    session = await openSession(store.db, await addRegister(store.db));
  });
  afterEach(async () => {
    await store.close();
    await hq.close();
  });

  it('invariant 13, negative control: a sender that remembers the last id never sends a slow transaction', async () => {
    const slow = await store.database.connect();
    await slow.query('begin');
    const late = await addRegister(slow);
    const fast = await addRegister(store.db);
    const { last } = await queryOne<{ last: number }>(
      store.db,
      'select max(r.id) as last from possync.raw r',
    );
    await slow.query('commit');
    const { rows } = await store.db.query('select from possync.raw r where r.id > $1::bigint', [last]);
    assert.equal(rows.length, 0, 'the naive sender is done');
    await up.drain();
    const there = await hq.db.query('select from public.registers where id = any($1::uuid[])', [
      [late, fast],
    ]);
    assert.equal(there.rowCount, 2, 'the outbox has both');
  });

  it('invariant 19, negative control: with one fence for everybody two machines write one store', async () => {
    await up.drain();
    await sell(store.db, session);
    await up.outbox.seal();
    const message = await up.message();
    assert.ok(message);
    const clone = new Up(store, hq);
    await clone.hello();
    assert.equal((await up.send(message)).result, 'conflict', 'the older session is fenced');
    await hq.db.query('update possync.inbox set fence = $1::uuid', [message.fence]);
    assert.equal((await up.send(message)).result, 'ok', 'and would write without the fence');
  });

  it('invariant 20, negative control: what is not parked behind its sale is a header without lines', async () => {
    const sale = await sell(store.db, session);
    await voidSale(store.db, sale);
    await up.outbox.seal();
    const { rows } = await store.db.query<{ seq: number; body: string }>(
      `select o.seq, o.body from possync.outbox o order by o.seq desc limit 1`,
    );
    // The sale was refused; the void behind it is applied all the same.
    await hq.db.query(`begin; set local possync.applying = 'on'`);
    await hq.db.query('select possync.apply_batch(7, $1::bigint[], $2::text[])', [
      rows.map(({ seq }) => seq),
      rows.map(({ body }) => jsonOf(body)),
    ]);
    const half = await queryOne<{ headers: number; lines: number }>(
      hq.db,
      `select (select count(*) from public.sales) as headers, (select count(*) from public.sale_lines) as lines`,
    );
    await hq.db.query('rollback');
    assert.deepEqual(half, { headers: 1, lines: 0 });
  });

  it('invariant 22, negative control: a receiver that believes the body writes into another store', async () => {
    const body = JSON.stringify({
      registers: [{ id: randomUUID(), store_id: 8, code: 'R', name: 'forged by store 7', active: true }],
    });
    await hq.db.query(`begin; set local possync.applying = 'on'`);
    await assert.rejects(
      hq.db.query('select possync.apply_batch(7, array[1::bigint], array[$1::text])', [body]),
      {
        code: 'PS403',
      },
    );
    await hq.db.query(`rollback; begin; set local possync.applying = 'on'`);
    const { store_id: believed } = (JSON.parse(body) as { registers: [{ store_id: number }] }).registers[0];
    await hq.db.query('select possync.apply_batch($2::int, array[1::bigint], array[$1::text])', [
      body,
      believed,
    ]);
    const { n } = await queryOne<{ n: number }>(
      hq.db,
      'select count(*) as n from public.registers where store_id = 8',
    );
    await hq.db.query('rollback');
    assert.equal(n, 1);
  });

  it('invariant 23, negative control: a trigger that does not ask who writes sends HQ its own rows back', async () => {
    await up.outbox.seal();
    const captured = async (): Promise<number> => {
      await store.db.query(`begin; set local possync.applying = 'on'`);
      await addRegister(store.db);
      const { n } = await queryOne<{ n: number }>(store.db, 'select count(*) as n from possync.raw');
      await store.db.query('rollback');
      return n;
    };
    assert.equal(await captured(), 0);
    await store.db.query(
      `create or replace trigger possync_up_insert after insert on public.registers
         referencing new table as possync_new for each statement execute function possync.up_registers_insert()`,
    );
    assert.equal(await captured(), 1);
  });
});
