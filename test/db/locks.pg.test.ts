/** Installing beside programs that write: nobody waits for long, and a transaction that is open for hours is named. */
import assert from 'node:assert/strict';
import type pg from 'pg';
import { PossyncError } from '../../src/core/errors.ts';
import { installTriggers } from '../../src/db/capture.ts';
import { installTableTriggers } from '../../src/db/triggers.ts';
import { queryOne } from '../../src/db/transaction.ts';
import { waitsForLock } from '../support/locks.ts';
import { addRegister, openHq, openSession, openStore, sell, type TestSide } from '../support/pos.ts';

/** More than the half second for which an installer may ask for a table. */
const BOUND_MS = 3_000;

async function enabled(db: pg.Client, trigger: string): Promise<string> {
  return (
    await queryOne<{ state: string }>(
      db,
      `select t.tgenabled::text as state from pg_trigger t where t.tgrelid = $1::regclass and t.tgname = $2::name`,
      trigger.split(' '),
    )
  ).state;
}

describe('installing triggers', () => {
  let store: TestSide;
  let hq: TestSide;
  before(async () => {
    [store, hq] = await Promise.all([openStore('install locks'), openHq('install locks')]);
  });
  after(async () => {
    await store.close();
    await hq.close();
  });

  it('takes no lock at all where everything is in place, whoever has the tables', async () => {
    for (const [side, role] of [
      [store, 'store'],
      [hq, 'hq'],
    ] as const) {
      const holder = await side.database.connect();
      const installer = await side.database.connect();
      await holder.query(
        'begin; lock table public.sales, public.products, public.transfers in row exclusive mode',
      );
      await installer.query(`set lock_timeout = '200ms'`);
      await installTriggers(installer, role);
      await holder.query('rollback');
      await holder.query('alter table public.products disable trigger user');
      await installTriggers(installer, role);
      const { off } = await queryOne<{ off: number }>(
        holder,
        `select count(*) as off from pg_trigger t where t.tgrelid = 'public.products'::regclass and t.tgenabled <> 'O'`,
      );
      assert.equal(off, 0, `a switched-off trigger of ${role} came back`);
    }
  });

  it('in a store: beside a till with a long transaction the other tills go on selling', async () => {
    const till = await store.database.connect();
    const session = await openSession(store.db, await addRegister(store.db));
    await store.db.query('alter table public.sales disable trigger possync_up_insert');
    await till.query('begin; lock table public.sales in row exclusive mode');
    const installer = await store.database.connect();
    const installed = installTriggers(installer, 'store');
    await waitsForLock(till);
    // Behind the waiting installer: only until it steps aside.
    const before = performance.now();
    await sell(store.db, session);
    assert.ok(performance.now() - before < BOUND_MS, 'the other till waited for the installer');
    assert.equal(await enabled(store.db, 'public.sales possync_up_insert'), 'D');
    await till.query('rollback');
    await installed;
    assert.equal(await enabled(store.db, 'public.sales possync_up_insert'), 'O');
  });

  it('at HQ: one table in use keeps writers of the others waiting for nothing', async () => {
    const program = await hq.database.connect();
    await hq.db.query(
      `alter table public.products disable trigger possync_feed_update;
       alter table public.users disable trigger possync_feed_update;
       alter table public.departments disable trigger possync_feed_update`,
    );
    await program.query('begin; lock table public.products in row exclusive mode');
    const installer = await hq.database.connect();
    const installed = installTriggers(installer, 'hq');
    await waitsForLock(program);
    await hq.db.query(`set lock_timeout = '100ms'`);
    await hq.db.query(`update public.users set display_name = 'x'; update public.departments set name = 'x'`);
    await program.query('rollback');
    await installed;
    for (const table of ['products', 'users', 'departments'])
      assert.equal(await enabled(hq.db, `public.${table} possync_feed_update`), 'O');
  });

  it('gives up with PS-DB-LOCKED, and says who has the table', async () => {
    const till = await store.database.connect();
    const { pid } = await queryOne<{ pid: number }>(till, 'select pg_backend_pid() as pid');
    await till.query('begin; lock table public.registers in row exclusive mode');
    const installer = await store.database.connect();
    const trigger = {
      name: 'extra',
      create: `create or replace trigger extra before truncate on public.registers
                 for each statement execute function possync.refuse_write('store')`,
    };
    await assert.rejects(installTableTriggers(installer, 'registers', [trigger], 1), (error: unknown) => {
      assert.ok(error instanceof PossyncError);
      assert.deepEqual(
        [error.code, error.exit, error.why?.includes(`process ${pid} `)],
        ['PS-DB-LOCKED', 75, true],
      );
      return true;
    });
    await till.query('rollback');
    await installTableTriggers(installer, 'registers', [trigger], 1);
    await store.db.query('drop trigger extra on public.registers');
  });
});
