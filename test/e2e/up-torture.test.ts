/**
 * Exactly once, whole and in order, under everything at once: four tills that sell and roll back, daemons that die
 * after sealing and after an acknowledgement, answers that get lost, batches sent twice at the same moment, old
 * messages replayed, gaps, and an HQ that rolls back before its commit.
 *
 * The oracle is a trigger on the inbox: it writes down every step from one seq to the next, in the transaction that
 * applied it. The naive receiver at the end (apply, then remember) must fail the same test.
 */
import assert from 'node:assert/strict';
import type pg from 'pg';
import { queryOne } from '../../src/db/transaction.ts';
import type { Push } from '../../src/protocol/messages.ts';
import { push, type PushResult } from '../../src/hq/inbox/push.ts';
import { ensurePartitions } from '../../src/hq/inbox/partitions.ts';
import { uuidv7 } from '../../src/core/ids.ts';
import { Random } from '../../src/core/random.ts';
import { copyBodies, jsonOf } from '../support/bodies.ts';
import { runSeed } from '../support/random.ts';
import {
  addRegister,
  adjust,
  insertSale,
  openHq,
  openSession,
  openStore,
  voidSale,
  type TestSide,
} from '../support/pos.ts';
import { differences, Up } from '../support/up.ts';

const TILLS = 4;
/** Of each till in a round; rounds are repeated until each fault has happened. */
const STEPS = 35;
const ROUNDS = 20;
const DATES = ['2026-10-31', '2026-11-01', '2026-11-20', '2019-05-05'];

interface Faults {
  storeCrashes: number;
  lostAcks: number;
  hqRollbacks: number;
  doubleSends: number;
  replays: number;
  gaps: number;
}

/** Ends the life of a daemon. */
class Crash extends Error {}

describe('torture of the way up', () => {
  let store: TestSide;
  let hq: TestSide;
  beforeEach(async () => {
    [store, hq] = await Promise.all([openStore('torture'), openHq('torture')]);
    await hq.db.query(`
      create table public.oracle (n bigint generated always as identity, from_seq bigint, to_seq bigint);
      create function public.note_step() returns trigger language plpgsql as $$
      begin
        if new.seq <> old.seq then insert into public.oracle (from_seq, to_seq) values (old.seq, new.seq); end if;
        return null;
      end $$;
      create trigger note_step after update on possync.inbox for each row execute function public.note_step();`);
  });
  afterEach(async () => {
    await store.close();
    await hq.close();
  });

  it('invariants 13, 14, 16, 17: equal row by row, nothing lost, nothing doubled, order kept', async function () {
    this.timeout(120_000);
    const random = new Random(runSeed);
    const faults: Faults = {
      storeCrashes: 0,
      lostAcks: 0,
      hqRollbacks: 0,
      doubleSends: 0,
      replays: 0,
      gaps: 0,
    };
    const enough = (): boolean => Object.values(faults).every((count) => count > 0);
    const old: Push[] = [];
    for (let round = 1; round <= ROUNDS && (round === 1 || !enough()); round += 1) {
      let open = TILLS;
      const tills = Array.from({ length: TILLS }, async (_, n) => {
        await till(await store.database.connect(), new Random(runSeed + 100 * round + n));
        open -= 1;
      });
      const life: Life = { store, hq, random, faults, old, quiet: () => open === 0 };
      await Promise.all([...tills, liveUntilQuiet(life)]);
    }

    assert.deepEqual(await differences(hq, store), []);
    const sealed = await queryOne<{ seq: number; acked: number }>(
      store.db,
      'select s.seq, d.seq as acked from possync.state s, possync.sending d',
    );
    const oracle = await queryOne<{ steps: number; broken: number; last: number; dead: number }>(
      hq.db,
      `select count(*) as steps, count(*) filter (where o.from_seq <> o.before) as broken, max(o.to_seq) as last,
              (select count(*) from possync.dead) as dead
         from (select from_seq, to_seq, lag(to_seq, 1, 0::bigint) over (order by n) as before from public.oracle) o`,
    );
    // Every step begins where the one before ended: each seq once, in order.
    assert.deepEqual(
      { broken: oracle.broken, last: oracle.last, dead: oracle.dead },
      { broken: 0, last: sealed.seq, dead: 0 },
    );
    assert.equal(sealed.acked, sealed.seq);
    await copyBodies(store.db);
    const { causeless } = await queryOne<{ causeless: number }>(
      store.db,
      `with opened as (
         select r ->> 'id' as id, min(o.seq) as seq
           from pg_temp.bodies o cross join lateral json_array_elements(o.body -> 'register_sessions') r group by 1)
       select count(*) as causeless
         from pg_temp.bodies o cross join lateral json_array_elements(o.body -> 'sales') s
         left join opened on opened.id = s ->> 'session_id'
        where opened.seq is null or opened.seq > o.seq`,
    );
    assert.equal(causeless, 0);
    await ensurePartitions(hq.pool);
    assert.deepEqual(await differences(hq, store), []);
    for (const [fault, count] of Object.entries(faults))
      assert.ok(count > 0, `no ${fault} happened: a weak test`);
    console.log(`      ${sealed.seq} transactions in ${oracle.steps} batches, ${JSON.stringify(faults)}`);
  });

  it('negative control: a receiver that applies without moving an inbox in the same transaction doubles them', async () => {
    const db = await store.database.connect();
    await till(db, new Random(runSeed));
    await adjust(db, 5);
    const up = new Up(store, hq);
    await up.hello();
    await up.outbox.seal();
    await hq.db.query('create table public.naive_stock (qty bigint not null)');
    await hq.db.query('insert into public.naive_stock values (0)');
    // Answers are lost at random, and the first that brought an adjustment in any case: no seed may be too kind.
    const random = new Random(runSeed);
    let acked = 0;
    let doubled = false;
    for (;;) {
      const { rows } = await store.db.query<{ seq: number; body: string }>(
        'select seq, body from possync.outbox where seq > $1::bigint order by seq limit 7',
        [acked],
      );
      if (rows.length === 0) break;
      const { applied } = await queryOne<{ applied: number }>(
        hq.db,
        `with delta as (
           select coalesce(sum((a ->> 'quantity_delta')::bigint), 0)::bigint as sum
             from unnest($1::text[]) b(body) cross join lateral json_array_elements(b.body::json -> 'inventory_adjustments') a)
         update public.naive_stock set qty = qty + delta.sum from delta returning delta.sum as applied`,
        [rows.map(({ body }) => jsonOf(body))],
      );
      // Committed, but the answer is lost: the same entries come again.
      if ((!doubled && applied > 0) || random.chance(0.3)) {
        doubled ||= applied > 0;
        continue;
      }
      acked = rows.at(-1)?.seq ?? acked;
    }
    const naive = await queryOne<{ qty: number }>(hq.db, 'select qty from public.naive_stock');
    const truth = await queryOne<{ qty: number }>(
      store.db,
      'select sum(quantity_delta)::bigint as qty from public.inventory_adjustments',
    );
    assert.notEqual(naive.qty, truth.qty);
    // The real one, with the same losses.
    for (;;) {
      const message = await up.message({ transactions: 7 });
      if (message === undefined) break;
      const result = await up.send(message);
      if (random.chance(0.3)) continue;
      assert.ok(result.result === 'ok');
      await up.outbox.acknowledge(message, result.answer);
    }
    const real = await queryOne<{ qty: number }>(
      hq.db,
      'select sum(quantity_delta)::bigint as qty from public.inventory_adjustments',
    );
    assert.equal(real.qty, truth.qty);
  });

  it('negative control: a document read when it is sent, not when it was written, shows effects before their cause', async () => {
    const register = await addRegister(store.db);
    const session = await openSession(store.db, register);
    await store.db.query(`update public.register_sessions set status = 'closed' where id = $1::uuid`, [
      session,
    ]);
    const up = new Up(store, hq);
    await up.hello();
    await up.outbox.seal();
    const { body } = await queryOne<{ body: string }>(
      store.db,
      'select body from possync.outbox where seq = 2',
    );
    const live = await queryOne<{ status: string }>(store.db, 'select status from public.register_sessions');
    assert.equal(live.status, 'closed');
    assert.ok(jsonOf(body).includes('"status":"open"'));
  });
});

interface Life {
  readonly store: TestSide;
  readonly hq: TestSide;
  readonly random: Random;
  readonly faults: Faults;
  readonly old: Push[];
  /** No till is open any more: send the rest, and done. */
  readonly quiet: () => boolean;
}

/** Daemons one after the other, each in place of a crashed one. */
async function liveUntilQuiet(life: Life): Promise<void> {
  for (let lives = 1; ; lives += 1) {
    try {
      await daemonLife(life);
      return;
    } catch (error) {
      if (!(error instanceof Crash)) throw error;
      assert.ok(lives < 2_000, 'the daemons do not get anywhere');
    }
  }
}

/** One life of a daemon: hello, seal, send; it ends by a crash, or when all is done. */
async function daemonLife({ store, hq, random, faults, old, quiet }: Life): Promise<void> {
  const up = new Up(store, hq);
  const welcome = await up.hello();
  assert.equal(welcome.type, 'welcome');
  assert.equal(await up.outbox.halted(), undefined);
  for (;;) {
    const last = quiet();
    const dies = (probability: number): boolean => random.chance(probability);
    const sealed = await up.outbox.seal();
    if (sealed > 0 && dies(0.1)) {
      faults.storeCrashes += 1;
      throw new Crash('after sealing');
    }
    for (;;) {
      const message = await up.message({ transactions: 1 + random.int(7) });
      if (message === undefined) break;
      if (random.chance(0.2)) old.push(message);
      const result = await deliver(up, hq, message, { random, faults, dies });
      if (result.result !== 'ok') throw new Error(`unexpected ${JSON.stringify(result)}`);
      if (dies(0.06)) {
        faults.storeCrashes += 1;
        throw new Crash('after the answer, before it was marked');
      }
      assert.deepEqual(await up.outbox.acknowledge(message, result.answer), { result: 'agreed' });
      if (old.length > 0 && random.chance(0.25)) {
        faults.replays += 1;
        const replayed = await up.send({ ...random.pick(old), fence: up.fence ?? '' });
        assert.ok(replayed.result === 'ok' && replayed.answer.seq >= result.answer.seq);
      }
      if (random.chance(0.1)) {
        faults.gaps += 1;
        const txs = message.txs.map((tx) => ({ ...tx, seq: tx.seq + 100_000 }));
        const gap = await up.send({ ...message, first: message.first + 100_000, txs });
        assert.ok(gap.result === 'conflict' && gap.conflict.code === 'gap');
      }
    }
    if (last) return;
  }
}

async function deliver(
  up: Up,
  hq: TestSide,
  message: Push,
  { random, faults, dies }: { random: Random; faults: Faults; dies: (probability: number) => boolean },
): Promise<PushResult> {
  if (dies(0.08)) {
    faults.hqRollbacks += 1;
    await assert.rejects(push(rollingBack(hq.pool), 7, message));
    throw new Crash('HQ rolled back before its commit');
  }
  if (random.chance(0.12)) {
    faults.doubleSends += 1;
    const [one, two] = await Promise.all([up.send(message), up.send(message)]);
    assert.deepEqual(one, two);
    return one;
  }
  const result = await up.send(message);
  if (dies(0.08)) {
    faults.lostAcks += 1;
    throw new Crash('the answer is lost');
  }
  return result;
}

/** A pool whose connections lose every commit: what HQ's crash in the last moment looks like. */
function rollingBack(pool: pg.Pool): pg.Pool {
  return new Proxy(pool, {
    get(target, name) {
      if (name !== 'connect') return Reflect.get(target, name) as unknown;
      return async (): Promise<pg.PoolClient> => {
        const client = await target.connect();
        return new Proxy(client, {
          get(inner, key) {
            const value = Reflect.get(inner, key) as unknown;
            if (key !== 'query') return typeof value === 'function' ? (value.bind(inner) as unknown) : value;
            return async (text: string, values?: unknown[]): Promise<unknown> => {
              if (text !== 'commit') return inner.query(text, values);
              await inner.query('rollback');
              throw new Error('HQ crashed before its commit');
            };
          },
        });
      };
    },
  });
}

/** A till with sessions, sales, voids, adjustments and Z reports; some transactions roll back, some use savepoints. */
async function till(db: pg.Client, random: Random): Promise<void> {
  const register = await addRegister(db);
  let session: string | undefined;
  let lastSale: string | undefined;
  let z = 0;
  for (let step = 0; step < STEPS; step += 1) {
    const before: { session: string | undefined; lastSale: string | undefined; z: number } = {
      session,
      lastSale,
      z,
    };
    await db.query('begin');
    const draw = random.int(100);
    if (session === undefined) {
      session = await openSession(db, register);
    } else if (draw < 60) {
      lastSale = await insertSale(db, session, {
        lines: 1 + random.int(4),
        kind: draw < 5 ? 'refund' : 'sale',
        businessDate: random.pick(DATES),
        receipt: `R-${step}`,
      });
    } else if (draw < 68 && lastSale !== undefined) {
      await voidSale(db, lastSale);
      lastSale = undefined;
    } else if (draw < 90) {
      await adjust(db, 1 + random.int(20), { businessDate: random.pick(DATES) });
    } else {
      z += 1;
      await closeWithReport(db, register, session, z);
      session = undefined;
      lastSale = undefined;
    }
    if (random.chance(0.15)) {
      await db.query('savepoint s');
      await adjust(db, 1000);
      await db.query('rollback to savepoint s');
    }
    if (random.chance(0.08)) {
      await db.query('rollback');
      ({ session, lastSale, z } = before);
    } else {
      await db.query('commit');
    }
  }
}

async function closeWithReport(
  db: pg.Client,
  register: string,
  session: string,
  number: number,
): Promise<void> {
  await db.query(
    `update public.register_sessions set status = 'closed', closed_at = now() where id = $1::uuid`,
    [session],
  );
  await db.query(
    `insert into public.z_reports (id, store_id, register_id, session_id, number, opened_at, closed_at, business_date,
            cashier_id, tax_by_rate, totals_by_tender)
     values ($1::uuid, 7, $2::uuid, $3::uuid, $4::int, now(), now(), '2026-11-20', $5::uuid, '{"800": 80}', '{}')`,
    [uuidv7(), register, session, number, uuidv7()],
  );
}
