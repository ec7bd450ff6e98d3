/** The same sale under another business date: HQ has it once, whichever way it comes, and a repair can correct it. */
import assert from 'node:assert/strict';
import { listDead } from '../../../src/hq/inbox/dead.ts';
import { TestHq, TestStore } from '../../support/chain.ts';
import { possync } from '../../support/cli.ts';
import {
  addRegister,
  adjust,
  insertSale,
  openHq,
  openSession,
  openStore,
  sell,
  writeAgain,
  type TestSide,
} from '../../support/pos.ts';
import { differences, Up } from '../../support/up.ts';
import { differencesIn, settled, tamper, verify } from '../../support/verify.ts';
import { until } from '../../support/until.ts';

const PARTS = ['sale_payments', 'sale_line_taxes', 'sale_lines', 'sales'] as const;

describe('a sale under another business date', function () {
  this.timeout(120_000);

  describe('on the way up', () => {
    let store: TestSide;
    let hq: TestSide;
    let up: Up;
    let session: string;
    beforeEach(async () => {
      [store, hq] = await Promise.all([openStore('redated'), openHq('redated')]);
      up = new Up(store, hq);
      session = await openSession(store.db, await addRegister(store.db));
      await up.drain();
    });
    afterEach(async () => {
      await store.close();
      await hq.close();
    });

    const again = (table: string, id: string, date: string): Promise<void> =>
      writeAgain(store.db, table, id, date);
    const datesAtHq = async (table: string, id: string): Promise<string[]> =>
      (
        await hq.db.query<{ date: string }>(
          `select x.business_date::text as date from public.${table} x where x.id = $1::uuid order by 1`,
          [id],
        )
      ).rows.map(({ date }) => date);

    for (const [what, date, later] of [
      ['in the same month', '2026-11-20', '2026-11-19'],
      ['in another month', '2026-11-02', '2026-10-31'],
    ] as const) {
      it(`${what}: parked as other content under the same key, and HQ has it once`, async () => {
        const sale = await sell(store.db, session, { businessDate: date });
        const adjustment = await adjust(store.db, 5, { businessDate: date });
        await up.drain();
        await again('sales', sale, later);
        await again('inventory_adjustments', adjustment, later);
        const other = await sell(store.db, session, { businessDate: later, receipt: 'other' });
        await up.drain();
        assert.deepEqual(await datesAtHq('sales', sale), [date]);
        assert.deepEqual(await datesAtHq('inventory_adjustments', adjustment), [date]);
        assert.deepEqual(await datesAtHq('sales', other), [later], 'the next one flows');
        const dead = await listDead(hq.pool, 7);
        assert.deepEqual(
          dead.map(({ sqlstate }) => sqlstate),
          ['PS410', 'PS410'],
        );
        assert.match(dead[0]?.error ?? '', /under another business_date/);
      });
    }

    it('of a register whose clock was years off, which is in the ids that it made: found there', async () => {
      const base = await sell(store.db, session);
      const id = '016a8655-5c00-7000-8000-000000000001'; // 2019-05-05
      await store.db.query(
        `insert into public.sales select r.* from public.sales b cross join lateral jsonb_populate_record(b,
                jsonb_build_object('id', $2::text, 'business_date', '2019-05-05')) r where b.id = $1::uuid`,
        [base, id],
      );
      await up.drain();
      await again('sales', id, '2026-11-20');
      await up.drain();
      assert.deepEqual(await datesAtHq('sales', id), ['2019-05-05']);
      assert.equal((await listDead(hq.pool, 7)).length, 1);
    });

    it('twice within one batch: the first counts', async () => {
      const sale = await sell(store.db, session, { businessDate: '2026-11-20' });
      await up.outbox.seal();
      await again('sales', sale, '2026-11-21');
      await up.drain();
      assert.deepEqual(await datesAtHq('sales', sale), ['2026-11-20']);
    });

    it('what is sent again under its own date is no such thing', async () => {
      await insertSale(store.db, session, { businessDate: '2026-11-20' });
      await up.drain();
      await store.db.query(`select possync.recapture('2000-01-01')`);
      await up.drain();
      assert.deepEqual(await listDead(hq.pool, 7), []);
      assert.deepEqual(await differences(hq, store), []);
    });
  });

  it('is corrected by a repair, with its lines, taxes and payments: the old row does not remain', async () => {
    const hq = await TestHq.open('redated repair');
    const store = await TestStore.open(hq, 'REDATED');
    const till = await store.database.connect();
    const sale = await sell(till, await openSession(till, await addRegister(till, store.id), store.id), {
      storeId: store.id,
      businessDate: '2026-11-20',
    });
    await settled(hq, store);
    await tamper(store.pool, `update public.sales set business_date = '2026-10-31' where id = $1::uuid`, [
      sale,
    ]);
    assert.deepEqual(differencesIn(await verify(store)), ['sales up: 1/0/0']);
    await verify(store, { repair: true });
    await settled(hq, store);
    const dates = async (): Promise<string[]> => {
      const found: string[] = [];
      for (const part of PARTS) {
        const { rows } = await hq.pool.query<{ date: string }>(
          `select distinct x.business_date::text as date from public.${part} x where x.${part === 'sales' ? 'id' : 'sale_id'} = $1::uuid`,
          [sale],
        );
        found.push(`${part} ${rows.map(({ date }) => date).join(' ')}`);
      }
      return found;
    };
    await until(async () => (await dates()).every((one) => one.endsWith('2026-10-31')), {
      what: 'header and parts are under the new date',
      timeoutMs: 30_000,
    });
    assert.deepEqual(
      await dates(),
      PARTS.map((part) => `${part} 2026-10-31`),
    );
    assert.deepEqual(differencesIn(await verify(store)), []);
    assert.deepEqual(await listDead(hq.pool), []);
    const kept = await possync(['verify', '--repairs', '--json'], { env: { DATABASE_URL: hq.database.url } });
    assert.match(kept.stdout, /"result": ?"done"/);
    await store.close();
    await hq.close();
  });
});
