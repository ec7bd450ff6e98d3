/** Dead letters: one bad record stops only itself and what follows in the same record. */
import assert from 'node:assert/strict';
import { systemClock } from '../../../src/core/clock.ts';
import { queryOne } from '../../../src/db/transaction.ts';
import { dropDead, listDead, retryDead, showDead } from '../../../src/hq/inbox/dead.ts';
import { InboxMaintenance } from '../../../src/hq/inbox/maintenance.ts';
import { FRAME_LIMIT_BYTES } from '../../../src/protocol/http.ts';
import {
  addRegister,
  adjust,
  openHq,
  openSession,
  openStore,
  sell,
  together,
  voidSale,
  type TestSide,
} from '../../support/pos.ts';
import { differences, Up } from '../../support/up.ts';

describe('dead letters', () => {
  let store: TestSide;
  let hq: TestSide;
  let up: Up;
  let session: string;
  beforeEach(async () => {
    [store, hq] = await Promise.all([openStore('dead'), openHq('dead')]);
    up = new Up(store, hq);
    session = await openSession(store.db, await addRegister(store.db));
    await up.drain();
  });
  afterEach(async () => {
    await store.close();
    await hq.close();
  });

  /** HQ refuses sales with this receipt number until the rule is lifted. */
  const poison = async (receipt: string): Promise<() => Promise<unknown>> => {
    await hq.db.query(
      `alter table public.sales add constraint poison check (receipt_number <> '${receipt}')`,
    );
    return () => hq.db.query('alter table public.sales drop constraint poison');
  };
  const dead = async (): Promise<[number, string][]> =>
    (await listDead(hq.pool, 7)).map(({ seq, kind }) => [seq, kind]);
  const missingSales = async (): Promise<number> =>
    (await differences(hq, store)).find(({ table }) => table === 'sales')?.missingAtHq.length ?? 0;

  it('greets a store with any number of dead letters in one frame', async () => {
    await hq.db.query(
      `insert into possync.dead (store_id, epoch, seq, v, body, type, key, aggregates, kind, error)
       select 7, 1, 9007199254740991 - n, 1, '{}', 'sale', 'x', '{}', 'data', 'x' from generate_series(1, 10000) n`,
    );
    const welcome = await up.hello();
    assert.ok(Buffer.byteLength(JSON.stringify(welcome)) < FRAME_LIMIT_BYTES);
  });

  it('invariant 20: parks a bad sale and what changes it later, applies the rest, and keeps the order in retry', async () => {
    const mend = await poison('BAD');
    const bad = await sell(store.db, session, { receipt: 'BAD' });
    await sell(store.db, session);
    await voidSale(store.db, bad);
    await adjust(store.db, 4);
    await up.drain();
    assert.deepEqual(await dead(), [
      [3, 'data'],
      [5, 'parked'],
    ]);
    assert.equal(await missingSales(), 1);
    const counts = await up.outbox.counts();
    assert.deepEqual({ queued: counts.queued, parked: counts.parked }, { queued: 0, parked: 2 });
    assert.deepEqual(await retryDead(hq.pool, 7, [3]), { applied: [], left: [3] });
    assert.deepEqual(await retryDead(hq.pool, 7, [5]), { applied: [], left: [5] });
    await mend();
    assert.deepEqual(await retryDead(hq.pool, 7, [3]), { applied: [3, 5], left: [] });
    assert.deepEqual(await dead(), []);
    assert.deepEqual(await differences(hq, store), []);
  });

  it('what comes later for a parked record waits as well, whatever batch it is in; every seq is applied or dead, never both', async () => {
    const mend = await poison('BAD');
    const bad = await sell(store.db, session, { receipt: 'BAD' });
    await up.drain();
    const bodies = await together(store.db, async () => {
      await voidSale(store.db, bad);
      return adjust(store.db, 9);
    });
    await up.drain();
    // The adjustment was in the transaction of the void: a transaction stays whole, so both wait.
    assert.deepEqual(await dead(), [
      [3, 'data'],
      [4, 'parked'],
    ]);
    const { n } = await queryOne<{ n: number }>(
      hq.db,
      'select count(*) as n from public.inventory_adjustments where id = $1::uuid',
      [bodies],
    );
    assert.equal(n, 0);
    await mend();
    assert.deepEqual(await retryDead(hq.pool, 7, 'all'), { applied: [3, 4], left: [] });
    assert.deepEqual(await differences(hq, store), []);
  });

  it('drops an entry with a reason, keeps its text in the audit, and tries what was parked behind it', async () => {
    await poison('BAD');
    const bad = await sell(store.db, session, { receipt: 'BAD' });
    await voidSale(store.db, bad);
    await up.drain();
    await assert.rejects(dropDead(hq.pool, 7, 3, ' ', 'ann'), { code: 'PS-USAGE' });
    await assert.rejects(dropDead(hq.pool, 7, 99, 'no such', 'ann'), { code: 'PS-QUEUE-UNKNOWN' });
    // The void names a sale of which HQ will never have a line: it is not applied as half of one, tried or not.
    assert.deepEqual(await dropDead(hq.pool, 7, 3, 'test data', 'ann'), { applied: [], left: [4] });
    assert.deepEqual(await retryDead(hq.pool, 7, 'all'), { applied: [], left: [4] });
    const [left] = await listDead(hq.pool, 7);
    assert.match(left?.error ?? '', /entry 3, which held the rest of this record, was dropped/);
    assert.equal((await hq.db.query('select from public.sales where id = $1::uuid', [bad])).rowCount, 0);
    await sell(store.db, session);
    await up.drain();
    assert.equal(await missingSales(), 1, 'other sales flow');
    assert.deepEqual((await dropDead(hq.pool, 7, 4, 'its void', 'ann')).left, []);
    assert.deepEqual(await dead(), []);
    const audit = await queryOne<{ actor: string; reason: string; body: string }>(
      hq.db,
      `select actor, reason, body from possync.queue_audit where action = 'drop' order by id limit 1`,
    );
    assert.deepEqual({ actor: audit.actor, reason: audit.reason }, { actor: 'ann', reason: 'test data' });
    assert.ok(audit.body.includes('BAD'));
  });

  it('shows an entry without its text, unless asked', async () => {
    await poison('BAD');
    await sell(store.db, session, { receipt: 'BAD' });
    await up.drain();
    const [entry] = await listDead(hq.pool);
    assert.deepEqual([entry?.sqlstate, Object.keys(entry ?? {}).includes('body')], ['23514', false]);
    assert.equal((await showDead(hq.pool, 7, 3)).body, null);
    assert.ok((await showDead(hq.pool, 7, 3, true)).body?.includes('BAD'));
  });

  it('the same content again is a no-op, other content is dead, an older state is a finding', async () => {
    const sale = await sell(store.db, session);
    await up.drain();
    const again = async (sql: string): Promise<void> => {
      await store.db.query('begin; set local session_replication_role = replica');
      await store.db.query(sql, [sale]);
      await store.db.query('commit');
      await store.db.query(`select possync.recapture('2000-01-01')`);
      await up.drain();
    };
    await again('select $1::uuid');
    assert.deepEqual(await dead(), []);
    await voidSale(store.db, sale);
    await up.drain();
    await again(
      `update public.sales set status = 'completed', voided_at = null, voided_by = null where id = $1::uuid`,
    );
    assert.deepEqual(await dead(), []);
    const finding = await queryOne<{ kind: string; key: string; times: number }>(
      hq.db,
      'select kind, key, times from possync.findings',
    );
    assert.deepEqual({ kind: finding.kind, key: finding.key }, { kind: 'older_state', key: sale });
    const { status } = await queryOne<{ status: string }>(hq.db, 'select status from public.sales');
    assert.equal(status, 'voided');
    await again(`update public.sales set total = total + 1 where id = $1::uuid`);
    const [refused] = await listDead(hq.pool, 7);
    assert.equal(refused?.sqlstate, 'PS410');
  });

  it('goes on with the other stores where one cannot be retried now', async () => {
    await hq.db.query(`create function public.stuck() returns trigger language plpgsql as
        $$ begin if new.code = 'STUCK' then raise exception using errcode = 'XX001'; end if; return new; end $$;
      create trigger stuck before insert on public.registers for each row execute function public.stuck()`);
    await hq.db.query(
      `insert into possync.dead (store_id, epoch, seq, v, body, type, key, aggregates, kind, error, next_try_at)
       select s.id, 1, 999, 1, json_build_object('registers', json_build_array(json_build_object(
                'id', gen_random_uuid(), 'store_id', s.id, 'code', s.code, 'name', 'r', 'active', true)))::text,
              'register', 'x', '{}', 'missing_parent', 'x', now()
         from (values (6, 'STUCK'), (7, 'FREE')) s (id, code)`,
    );
    const maintenance = new InboxMaintenance({ pool: hq.pool, clock: systemClock });
    await assert.rejects(maintenance.round(), { code: 'XX001' });
    assert.deepEqual(
      (await listDead(hq.pool)).map(({ storeId }) => storeId),
      [6],
    );
  });

  it('lines without their sale wait for it, and are applied by themselves when it comes', async () => {
    const sale = await sell(store.db, session);
    await store.db.query(`delete from possync.raw where tbl = 'sales'`);
    await up.drain();
    const [entry] = await listDead(hq.pool, 7);
    assert.deepEqual([entry?.kind, entry?.sqlstate], ['missing_parent', 'PS409']);
    const maintenance = new InboxMaintenance({ pool: hq.pool, clock: systemClock });
    assert.equal((await maintenance.round()).retried, 0); // its minute is not over
    await hq.db.query(`update possync.dead set next_try_at = now()`);
    assert.equal((await maintenance.round()).retried, 0); // still no sale
    await hq.db.query(`begin; set local possync.applying = 'on'`);
    await hq.db.query(
      `insert into public.sales (store_id, id, register_id, session_id, cashier_id, kind, status, receipt_number,
              subtotal, tax_total, total, occurred_at, business_date)
       values (7, $1::uuid, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'sale', 'completed', 'R1-1',
               2000, 160, 2160, now(), '2026-11-20')`,
      [sale],
    );
    await hq.db.query('commit');
    await hq.db.query(`update possync.dead set next_try_at = now()`);
    assert.equal((await maintenance.round()).retried, 1);
    const { n } = await queryOne<{ n: number }>(
      hq.db,
      `select count(*) as n from public.sale_lines where business_date = '2026-11-20'`,
    );
    assert.equal(n, 2);
  });

  it('stops the store rather than park everything it sends; a retry by hand lets the next batch pass', async () => {
    await poison('R1-1');
    for (let i = 0; i < 25; i += 1) await sell(store.db, session);
    await assert.rejects(up.drain(), { code: 'PS-UP-BREAKER' });
    assert.deepEqual(await dead(), []);
    const { stopped } = await queryOne<{ stopped: string }>(hq.db, 'select stopped from possync.inbox');
    assert.equal(stopped, 'PS-UP-BREAKER');
    assert.equal((await up.outbox.counts()).queued, 25);
    await retryDead(hq.pool, 7, 'all');
    await up.drain();
    assert.equal((await dead()).length, 25);
  });

  it('counts refusals over small batches, too', async () => {
    await poison('R1-1');
    for (let i = 0; i < 25; i += 1) await sell(store.db, session);
    await assert.rejects(up.drain({ transactions: 4 }), { code: 'PS-UP-BREAKER' });
    assert.equal((await dead()).length, 20);
  });
});
