/** Statements and values that tills may well use, all the way to HQ: none is refused, lost, doubled or changed. */
import assert from 'node:assert/strict';
import { uuidv7 } from '../../../src/core/ids.ts';
import { ensurePartitions } from '../../../src/hq/inbox/partitions.ts';
import { listDead } from '../../../src/hq/inbox/dead.ts';
import {
  addRegister,
  openHq,
  openSession,
  openStore,
  sell,
  together,
  type TestSide,
} from '../../support/pos.ts';
import { differences, Up } from '../../support/up.ts';

describe('odd statements and values of tills', () => {
  let store: TestSide;
  let hq: TestSide;
  let up: Up;
  let session: string;
  before(async () => {
    [store, hq] = await Promise.all([openStore('odd'), openHq('odd')]);
    up = new Up(store, hq);
    session = await openSession(store.db, await addRegister(store.db));
  });
  after(async () => {
    await store.close();
    await hq.close();
  });

  const arrives = async (): Promise<void> => {
    await up.drain();
    await ensurePartitions(hq.pool);
    assert.deepEqual(await listDead(hq.pool), []);
    assert.deepEqual(await differences(hq, store), []);
  };

  it('a sale with its lines in one statement, an upsert that hits nothing, a MERGE, a prepared statement', async () => {
    const [sale, other] = [uuidv7(), uuidv7()];
    await store.db.query(
      `with s as (
         insert into public.sales (id, store_id, register_id, session_id, cashier_id, kind, status, receipt_number, occurred_at, business_date)
         values ($1::uuid, 7, $1::uuid, $2::uuid, $1::uuid, 'sale', 'completed', 'CTE', now(), '2026-11-20') returning id)
       insert into public.sale_lines (sale_id, line_no, sku, name, quantity, unit_price)
       select s.id, n, 'S', 'x', 1, 1 from s, generate_series(1, 3) n`,
      [sale, session],
    );
    const register = `insert into public.registers as r (id, store_id, code, name) values ('${other}', 7, 'R9', 'nine')
      on conflict (id) do update set name = excluded.name || '!' where r.name <> excluded.name`;
    await store.db.query(register);
    await store.db.query(register);
    await store.db.query(register.replace("'nine'", "'ten'"));
    await store.db.query(
      `merge into public.registers r using (values ('${other}'::uuid), ('${uuidv7()}'::uuid)) v (id) on r.id = v.id
        when matched then update set active = false
        when not matched then insert (id, store_id, code, name) values (v.id, 7, 'M', 'm')`,
    );
    await together(store.db, async () => {
      await store.db.query(
        `prepare odd as insert into public.registers (id, store_id, code, name) values ($1, 7, 'P', 'p')`,
      );
      for (let n = 0; n < 7; n += 1) await store.db.query(`execute odd ('${uuidv7()}')`);
    });
    await arrives();
  });

  it('a row that is deleted and written again, a savepoint that is taken back, a line that is taken off', async () => {
    const id = uuidv7();
    await together(store.db, async () => {
      const add = (name: string): Promise<unknown> =>
        store.db.query(
          `insert into public.registers (id, store_id, code, name) values ($1::uuid, 7, 'R', $2::text)`,
          [id, name],
        );
      await add('first');
      await store.db.query('delete from public.registers where id = $1::uuid', [id]);
      await add('second');
      await store.db.query('savepoint a');
      await store.db.query(`update public.registers set name = 'never' where id = $1::uuid`, [id]);
      await store.db.query('rollback to a');
    });
    await together(store.db, async () => {
      const sale = uuidv7();
      await store.db.query(
        `insert into public.sales (id, store_id, register_id, session_id, cashier_id, kind, status, receipt_number, occurred_at, business_date)
         values ($1::uuid, 7, $1::uuid, $2::uuid, $1::uuid, 'sale', 'completed', 'DEL', now(), '2026-11-20')`,
        [sale, session],
      );
      await store.db.query(
        `insert into public.sale_lines (sale_id, line_no, sku, name, quantity, unit_price) values ($1, 1, 'a', 'a', 1, 1), ($1, 2, 'b', 'b', 1, 1)`,
        [sale],
      );
      await store.db.query('delete from public.sale_lines where sale_id = $1::uuid and line_no = 2', [sale]);
    });
    await arrives();
  });

  it('texts, numbers, times and collections at their limits', async () => {
    const sale = await sell(store.db, session, {
      businessDate: '0044-03-15 BC',
      receipt: 'a\u00a0\ufffd"\\ \'\n\u{1f600} $1',
    });
    await sell(store.db, session, { businessDate: 'infinity' });
    await sell(store.db, session, { businessDate: '1899-12-31' });
    await store.db.query(
      `insert into public.sale_payments (sale_id, payment_no, tender, amount, tendered, change)
       values ($1::uuid, 9, '', 9223372036854775807, -9223372036854775808, null)`,
      [sale],
    );
    await store.db.query(
      `insert into public.sale_lines (sale_id, line_no, sku, name, quantity, unit_price)
       values ($1::uuid, 2147483647, '', E'\\u0001', 9007199254740993, 9999999999.9999), ($1::uuid, -1, 'n', 'n', 0, 'NaN')`,
      [sale],
    );
    await store.db.query(
      `insert into public.register_sessions (id, store_id, register_id, user_id, status, opened_at, closed_at)
       select $1::uuid, 7, s.register_id, $1::uuid, 'closed', '-infinity', '4713-01-01 00:00:00.000001 BC'
         from public.register_sessions s limit 1`,
      [uuidv7()],
    );
    await store.db.query(
      `insert into public.zz_reports (id, store_id, number, month, z_report_ids) values ($1::uuid, 7, 1, '2026-11', '{}')`,
      [uuidv7()],
    );
    await store.db.query(
      `insert into public.z_reports (id, store_id, register_id, session_id, number, opened_at, closed_at, business_date,
              cashier_id, tax_by_rate, totals_by_tender, declared_by_denomination)
       values ($1::uuid, 7, $1::uuid, $1::uuid, 1, now(), now(), '2026-11-20', $1::uuid,
               '{"a": 12345678901234567890.123456789, "b": 1e400, "": null}', 'null', null)`,
      [uuidv7()],
    );
    await arrives();
  });
});
