/** Rows of a month that has no partition yet are moved into one while a round of the ledger reads in one snapshot. */
import assert from 'node:assert/strict';
import type pg from 'pg';
import { createPool } from '../../src/db/pool.ts';
import { closeSession } from '../../src/demo/cash-office.ts';
import { ensurePartitions } from '../../src/hq/inbox/partitions.ts';
import { ledgerFindings } from '../../src/hq/ledger/findings.ts';
import { settleLedger } from '../../src/hq/ledger/ledger.ts';
import { addRegister, openHq, openSession, openStore, sell, type TestSide } from '../support/pos.ts';
import { until } from '../support/until.ts';
import { Up } from '../support/up.ts';

const DAY = '2019-03-04';
const SALES = 3;
const OTHERS = 100;

describe('the ledger, while the rows of an old month get their partition', () => {
  let store: TestSide;
  let hq: TestSide;
  let ledger: pg.Pool;
  beforeEach(async () => {
    [store, hq] = await Promise.all([openStore('partitions'), openHq('partitions')]);
    const register = await addRegister(store.db);
    for (let n = 1; n <= OTHERS; n += 1)
      await sell(store.db, await openSession(store.db, register), { businessDate: DAY });
    const session = await openSession(store.db, register);
    for (let n = 1; n <= SALES; n += 1)
      await sell(store.db, session, { businessDate: DAY, receipt: `R1-${n}` });
    await closeSession(store.db, {
      sessionId: session,
      closedAt: `${DAY}T22:00:00Z`,
      businessDate: DAY,
      overShort: 0,
    });
    await new Up(store, hq).drain();
    assert.equal(await inDefault(), OTHERS + SALES, 'no partition is there for the month');
    // As of large tables: the payments of a session's sales are looked up by date and sale, so in the partition of the date.
    await hq.db.query('analyze public.sales, public.sale_payments');
    for (const other of ['hashjoin', 'mergejoin', 'material', 'seqscan'])
      await hq.db.query(
        `do $$ begin execute format('alter database %I set enable_${other} = off', current_database()); end $$`,
      );
    ledger = createPool({ url: hq.database.url, applicationName: 'possync test ledger', max: 2 });
  });
  afterEach(async () => {
    await ledger.end();
    await store.close();
    await hq.close();
  });

  const inDefault = async (): Promise<number> =>
    (await hq.db.query('select from public.sales_default')).rowCount ?? 0;

  const waits = async (mode: string): Promise<boolean> =>
    (await hq.pool.query('select from pg_locks l where not l.granted and l.mode = $1::text', [mode]))
      .rowCount === 1;

  it('finds every payment of a Z', async () => {
    // The round's snapshot is taken, and it waits for the sessions.
    await hq.db.query('begin; lock table public.register_sessions in access exclusive mode');
    const judging = settleLedger(ledger);
    await until(async () => waits('AccessShareLock'), { what: 'the round waits for the sessions' });
    let made = false;
    const making = ensurePartitions(hq.pool).then(() => (made = true));
    await until(async () => made || (await waits('AccessExclusiveLock')), {
      what: 'the partitions are made, or their maker waits for the round',
    });
    await hq.db.query('rollback');
    await Promise.all([judging, making]);
    const { rows } = await hq.db.query<{ state: string; why: string | null }>(
      'select l.state, l.why from possync.ledger_z l',
    );
    assert.deepEqual(rows, [{ state: 'complete', why: null }]);
    assert.deepEqual(
      (await ledgerFindings(hq.db)).filter(({ kind }) => kind.startsWith('z_')),
      [],
    );
    await ensurePartitions(hq.pool);
    assert.equal(await inDefault(), 0, 'the next round of the maintenance makes the partition');
  });
});
