/** The completeness ledger on the real way up: each test is a way in which the books of another system went wrong. */
import assert from 'node:assert/strict';
import { uuidv7 } from '../../src/core/ids.ts';
import { queryOne } from '../../src/db/transaction.ts';
import { closeSession } from '../../src/demo/cash-office.ts';
import { dropDead, retryDead } from '../../src/hq/inbox/dead.ts';
import { reEnrol } from '../../src/hq/inbox/re-enrol.ts';
import { ledgerFindings, listFindings, type LedgerFinding } from '../../src/hq/ledger/findings.ts';
import { settleLedger } from '../../src/hq/ledger/ledger.ts';
import { readHqStatus } from '../../src/hq/status.ts';
import { reEnrolStore } from '../../src/store/outbox/re-enrol.ts';
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

describe('the completeness ledger', () => {
  let store: TestSide;
  let hq: TestSide;
  let up: Up;
  let register: string;
  let receipt = 0;
  beforeEach(async () => {
    [store, hq] = await Promise.all([openStore('ledger'), openHq('ledger')]);
    up = new Up(store, hq);
    await hq.db.query(`set possync.applying = 'on'`); // this connection may change at HQ what stores own
    register = await addRegister(store.db);
    receipt = 0;
  });
  afterEach(async () => {
    await store.close();
    await hq.close();
  });

  /** What the store has goes to HQ, and HQ's ledger has judged it. */
  async function arrive(): Promise<void> {
    await up.drain();
    await settleLedger(hq.pool);
  }

  async function sale(session: string, options: Parameters<typeof sell>[2] = {}): Promise<string> {
    receipt += 1;
    return sell(store.db, session, { receipt: `R1-${String(receipt).padStart(4, '0')}`, ...options });
  }

  async function close(sessionId: string, overShort = 0): Promise<number> {
    const closedAt = new Date().toISOString();
    return closeSession(store.db, { sessionId, closedAt, businessDate: '2026-11-20', overShort });
  }

  /** A session with some sales, a refund and a void, closed. */
  async function day(sales = 3): Promise<string> {
    const session = await openSession(store.db, register);
    for (let n = 0; n < sales; n += 1) await sale(session, { lines: n + 1 });
    await sale(session, { kind: 'refund', lines: 1 });
    await voidSale(store.db, await sale(session));
    await close(session);
    return session;
  }

  async function zz(ids: readonly string[], change = '', number = 1, month = '2026-11'): Promise<void> {
    // As an application would: from its own sales and reports.
    await store.db.query(
      `insert into public.zz_reports (id, store_id, number, month, z_report_ids, total_sales, total_refunds, total_tax,
              cash_total, card_total)
       select $1::uuid, 7, $2::int, $3::text, $4::uuid[],
              (select coalesce(sum(s.total) filter (where s.kind = 'sale'), 0) from public.sales s
                where s.status <> 'voided' and s.session_id in (select z.session_id from public.z_reports z where z.id = any($4))),
              (select coalesce(sum(s.total) filter (where s.kind = 'refund'), 0) from public.sales s
                where s.status <> 'voided' and s.session_id in (select z.session_id from public.z_reports z where z.id = any($4))),
              (select coalesce(sum(s.tax_total * case s.kind when 'sale' then 1 else -1 end), 0) from public.sales s
                where s.status <> 'voided' and s.session_id in (select z.session_id from public.z_reports z where z.id = any($4))),
              coalesce(sum(z.cash_sales), 0) ${change}, coalesce(sum(z.card_sales), 0)
         from public.z_reports z where z.id = any($4)`,
      [uuidv7(), number, month, ids],
    );
  }

  const zIds = async (): Promise<string[]> =>
    (await store.db.query<{ id: string }>('select z.id from public.z_reports z order by z.number')).rows.map(
      ({ id }) => id,
    );
  const states = async (table: 'ledger_z' | 'ledger_zz' = 'ledger_z'): Promise<string[]> =>
    (
      await hq.db.query<{ text: string }>(
        `select l.number || ' ' || l.state as text from possync.${table} l order by l.number, l.${table === 'ledger_z' ? 'z_id' : 'zz_id'}`,
      )
    ).rows.map(({ text }) => text);
  /** Without the products: what these tests sell is in no catalogue. */
  const found = async (): Promise<LedgerFinding[]> =>
    (await ledgerFindings(hq.db)).filter(({ kind }) => kind !== 'product_unknown');
  const open = async (): Promise<string[]> => (await found()).map(brief);
  const brief = ({ kind, number }: LedgerFinding): string =>
    number === undefined ? kind : `${kind} ${number}`;

  it('a Z is complete when everything that it counts is there to the cent; nothing is found', async () => {
    await day();
    await day(1);
    await arrive();
    assert.deepEqual(await states(), ['1 complete', '2 complete']);
    assert.deepEqual(await open(), []);
    assert.equal((await readHqStatus(hq.pool)).stores[0]?.errors, 0);
  });

  it('late-sale-after-close: the sale is taken, stays in its session, and the Z is contradicted', async () => {
    const session = await day();
    await arrive();
    assert.deepEqual(await states(), ['1 complete']);
    const late = await sale(session);
    await arrive();
    assert.deepEqual(await states(), ['1 contradicted']);
    assert.deepEqual(await open(), ['late_sale 1']);
    const [finding] = await found();
    assert.deepEqual(
      [finding?.expected, finding?.found, finding?.code, finding?.register, finding?.note],
      ['5', '6', 'PS-LEDGER-LATE-SALE', 'R1', false],
    );
    const { at } = await queryOne<{ at: string }>(
      hq.db,
      'select s.session_id as at from public.sales s where s.id = $1::uuid',
      [late],
    );
    assert.equal(at, session);
    assert.equal((await readHqStatus(hq.pool, { storeId: 7 })).stores[0]?.errors, 1);
    // What was sold in the session later changes nothing any more, and is no second finding.
    await sale(session);
    await arrive();
    assert.deepEqual(await open(), ['late_sale 1']);
    assert.equal((await found())[0]?.found, '7');
  });

  it('a sale that is voided after its Z contradicts it', async () => {
    const session = await openSession(store.db, register);
    const sold = await sale(session);
    await close(session);
    await arrive();
    await voidSale(store.db, sold);
    await arrive();
    assert.deepEqual(await states(), ['1 contradicted']);
    assert.deepEqual(await open(), ['late_sale 1']);
  });

  it('Z-before-its-sales: pending while a sale is parked, complete when it is retried', async () => {
    const session = await openSession(store.db, register);
    await arrive();
    const sold = await sale(session);
    // HQ has something else under the id of this sale: the entry is refused.
    await hq.db.query(
      `insert into public.sales (store_id, id, register_id, session_id, cashier_id, kind, status, receipt_number, occurred_at,
              business_date)
       values (7, $1::uuid, $2::uuid, $3::uuid, $3::uuid, 'sale', 'completed', 'x', now(), '2026-11-20')`,
      [sold, uuidv7(), uuidv7()],
    );
    await sale(session);
    await close(session);
    await arrive();
    assert.deepEqual(await states(), ['1 pending']);
    assert.ok((await open()).includes('z_pending 1'));
    await hq.db.query('delete from public.sales where id = $1::uuid', [sold]);
    await retryDead(hq.pool, 7, 'all');
    await settleLedger(hq.pool);
    assert.deepEqual(await states(), ['1 complete']);
    assert.deepEqual(await open(), []);
    const closed = await listFindings(hq.db, { closed: true });
    const pending = closed.find(({ kind }) => kind === 'z_pending');
    assert.ok(pending?.closed !== undefined && pending.closed >= pending.since);
  });

  it('a sale that was given up leaves the Z pending, and the hole in the sequence is told', async () => {
    const session = await openSession(store.db, register);
    await arrive();
    const sold = await sale(session);
    await hq.db.query(
      `insert into public.sales (store_id, id, register_id, session_id, cashier_id, kind, status, receipt_number, occurred_at,
              business_date)
       values (7, $1::uuid, $2::uuid, $3::uuid, $3::uuid, 'sale', 'completed', 'x', now(), '2026-11-20')`,
      [sold, uuidv7(), uuidv7()],
    );
    await close(session);
    await up.drain();
    await hq.db.query('delete from public.sales where id = $1::uuid', [sold]);
    const { seq } = await queryOne<{ seq: number }>(hq.db, 'select d.seq from possync.dead d');
    await dropDead(hq.pool, 7, seq, 'a test sale', 'somebody');
    await settleLedger(hq.pool);
    assert.deepEqual(await states(), ['1 pending']);
    assert.deepEqual(await open(), [`given_up ${seq}`, 'z_pending 1']);
    const [givenUp, pending] = await found();
    assert.match(givenUp?.detail ?? '', /given up by somebody: a test sale/);
    assert.deepEqual([givenUp?.note, pending?.expected, pending?.found], [true, '1', '0']);
  });

  it('a Z with a wrong sum is contradicted, each sum by itself', async () => {
    const wrong = [
      [
        'cash_sales = cash_sales + 1, expected_cash = expected_cash + 1, over_short = over_short - 1',
        /cash sales/,
      ],
      ['card_sales = 1', /card sales/],
      [
        'cash_refunds = cash_refunds + 1, expected_cash = expected_cash - 1, over_short = over_short + 1',
        /cash refunds/,
      ],
      ['expected_cash = expected_cash + 1', /expected cash/],
      ['over_short = over_short + 1', /over\/short/],
      [`tax_by_rate = '{"800": 1}'`, /tax rate 800/],
      [`tax_by_rate = '{"700": 0, "800": 1}'`, /tax rate 800/],
      [`totals_by_tender = '{"cash": 1}'`, /tender cash/],
      [`totals_by_tender = '{"voucher": 0}'`, /tender cash/],
      ['transaction_count = transaction_count - 1', /counts 4 transactions/],
      [
        'opening_amount = 0, expected_cash = expected_cash - opening_amount, over_short = over_short + opening_amount',
        /opening amount/,
      ],
    ] as const;
    await day();
    await arrive();
    for (const [change, why] of wrong) {
      await hq.db.query('begin');
      await hq.db.query(
        `create table before as select * from public.z_reports; update public.z_reports set ${change}`,
      );
      await hq.db.query('commit');
      await settleLedger(hq.pool);
      assert.deepEqual(await states(), ['1 contradicted'], change);
      const [finding] = await found();
      assert.match(finding?.detail ?? '', why, change);
      await hq.db.query(
        'delete from public.z_reports; insert into public.z_reports select * from before; drop table before',
      );
      await settleLedger(hq.pool);
      assert.deepEqual([await states(), await open()], [['1 complete'], []], change);
    }
    await hq.db.query(`update public.z_reports set tax_by_rate = '{}', totals_by_tender = '[1, 2]'`);
    await settleLedger(hq.pool);
    assert.deepEqual(await states(), ['1 complete'], 'what the till left out is not compared');
  });

  it('hole then filled: a missing Z number is told, and closed when it arrives', async () => {
    await day();
    await day();
    await day();
    // HQ refuses the second Z until what is under its id is gone.
    const [, second] = await zIds();
    await hq.db.query(
      `insert into public.z_reports (store_id, id, register_id, session_id, number, opened_at, closed_at, business_date, cashier_id)
       values (7, $1::uuid, $2::uuid, $2::uuid, 99, now(), now(), '2026-11-20', $2::uuid)`,
      [second, uuidv7()],
    );
    await up.drain();
    await hq.db.query('delete from public.z_reports where number = 99');
    await settleLedger(hq.pool);
    assert.deepEqual(await states(), ['1 complete', '3 complete']);
    const [hole] = await found();
    assert.deepEqual([hole?.kind, hole?.number, hole?.register], ['z_hole', '2', 'R1']);
    await retryDead(hq.pool, 7, 'all');
    await settleLedger(hq.pool);
    assert.deepEqual(await states(), ['1 complete', '2 complete', '3 complete']);
    assert.deepEqual(await open(), []);
    const kept = (await listFindings(hq.db, { closed: true })).filter(({ kind }) => kind === 'z_hole');
    assert.deepEqual(
      kept.map(({ number, closed }) => [number, closed !== undefined]),
      [['2', true]],
    );
  });

  it('Z-999 → Z-1000 is no hole, nor is a register that is re-numbered; a leap is one range', async () => {
    const numbered = async (number: number): Promise<void> => {
      const session = await openSession(store.db, register);
      const sold = await sale(session);
      await store.db.query(
        `insert into public.z_reports (id, store_id, register_id, session_id, number, opened_at, closed_at, business_date,
                cashier_id, opening_amount, cash_sales, expected_cash, declared_cash, transaction_count)
         select $1::uuid, 7, $2::uuid, $3::uuid, $4::int, now(), now(), '2026-11-20', $1::uuid, 10000, s.total, 10000 + s.total,
                10000 + s.total, 1 from public.sales s where s.id = $5::uuid`,
        [uuidv7(), register, session, number, sold],
      );
      await store.db.query(
        `update public.register_sessions set status = 'closed', closed_at = now() where id = $1::uuid`,
        [session],
      );
    };
    await numbered(999);
    await numbered(1000);
    await store.db.query(`update public.registers set code = 'R9', name = 'Front' where id = $1::uuid`, [
      register,
    ]);
    await numbered(1001);
    await arrive();
    assert.deepEqual(await states(), ['999 complete', '1000 complete', '1001 complete']);
    assert.deepEqual(await open(), ['z_start 1..998'], 'Z reports from before possync are a note');
    await numbered(5001);
    await arrive();
    assert.deepEqual(await open(), ['z_hole 1002..5000', 'z_start 1..998']);
  });

  it('duplicate Z: the same number at one register twice, both taken, both told', async () => {
    await day();
    await day();
    await up.drain();
    await hq.db.query('update public.z_reports set number = 1');
    await settleLedger(hq.pool);
    assert.deepEqual(await states(), ['1 complete', '1 complete']);
    assert.deepEqual(await open(), ['z_double 1']);
    // Two reports of one session cannot both be right.
    await hq.db.query(
      `update public.z_reports set number = 2, session_id = (select z.session_id from public.z_reports z order by z.id limit 1)
        where id = (select max(z.id::text)::uuid from public.z_reports z)`,
    );
    await settleLedger(hq.pool);
    assert.deepEqual(await states(), ['1 contradicted', '2 contradicted']);
  });

  it('ZZ-with-missing-Z: pending until all of them are there and complete', async () => {
    await day();
    await day();
    const ids = await zIds();
    await zz(ids);
    const second = ids[1] ?? '';
    await hq.db.query(
      `insert into public.z_reports (store_id, id, register_id, session_id, number, opened_at, closed_at, business_date, cashier_id)
       values (7, $1::uuid, $2::uuid, $2::uuid, 99, now(), now(), '2026-11-20', $2::uuid)`,
      [second, uuidv7()],
    );
    await up.drain();
    await hq.db.query('delete from public.z_reports where number = 99');
    await settleLedger(hq.pool);
    assert.deepEqual(await states('ledger_zz'), ['1 pending']);
    const [finding] = await found();
    assert.deepEqual([finding?.kind, finding?.expected, finding?.found], ['zz_pending', '2', '1']);
    assert.match(finding?.detail ?? '', new RegExp(second));
    await retryDead(hq.pool, 7, 'all');
    await settleLedger(hq.pool);
    assert.deepEqual(await states('ledger_zz'), ['1 complete']);
    assert.deepEqual(await open(), []);
  });

  it('a ZZ with a wrong sum is contradicted; numbers and months are looked at as well', async () => {
    await day();
    await zz(await zIds(), '+ 1');
    await arrive();
    assert.deepEqual(await states('ledger_zz'), ['1 contradicted']);
    assert.match((await found())[0]?.detail ?? '', /cash total are 64\.80 at HQ, and 64\.81/);
    await zz([], '', 3);
    await arrive();
    assert.deepEqual(await states('ledger_zz'), ['1 contradicted', '3 complete']);
    assert.deepEqual(await open(), ['zz_contradicted 1', 'zz_double 2026-11', 'zz_hole 2']);
    await zz([], '', 2, '2026-12');
    await arrive();
    assert.deepEqual(await open(), ['zz_contradicted 1', 'zz_double 2026-11']);
  });

  it('a late sale contradicts the Z and with it the ZZ that lists it', async () => {
    const session = await day();
    await zz(await zIds());
    await arrive();
    assert.deepEqual(await states('ledger_zz'), ['1 complete']);
    await sale(session);
    await arrive();
    assert.deepEqual(await states('ledger_zz'), ['1 contradicted']);
    assert.deepEqual(await open(), ['late_sale 1', 'zz_contradicted 1']);
  });

  it('restored store: numbers that are used again are told, whatever belongs to which history', async () => {
    await day();
    await arrive();
    const tables = [
      'public.registers public.register_sessions public.sales public.sale_lines public.sale_line_taxes',
      'public.sale_payments public.z_reports possync.raw possync.outbox possync.state possync.sending possync.tally possync.epochs',
    ].flatMap((text) => text.split(' '));
    await store.db.query('create schema backup');
    for (const [n, table] of tables.entries())
      await store.db.query(`create table backup.t${n} as select * from ${table}`);
    const before = receipt;
    await day();
    await arrive();
    await store.db.query('begin; set local session_replication_role = replica');
    for (const table of [...tables].reverse()) await store.db.query(`delete from ${table}`);
    for (const [n, table] of tables.entries())
      await store.db.query(`insert into ${table} overriding system value select * from backup.t${n}`);
    await store.db.query('commit');
    receipt = before;
    await day(2); // sells under the numbers that HQ has already
    await up.hello();
    await reEnrolStore(store.pool, {
      instance: up.instance,
      ask: (request) => reEnrol(hq.pool, 7, request, () => Promise.resolve(false)),
    });
    await up.hello();
    await arrive();
    assert.deepEqual(await states(), ['1 complete', '2 complete', '2 complete'], 'nothing is lost');
    assert.deepEqual(await open(), ['receipt_double R1-6..9', 'z_double 2']);
  });

  it('receipts: a hole is told and closed, a double is told, a renamed register begins a new series', async () => {
    const session = await openSession(store.db, register);
    for (const number of ['R1-0098', 'R1-0099', 'R1-0100', 'R1-102', 'R1-0105'])
      await sale(session, { receipt: number });
    await arrive();
    assert.deepEqual(await open(), ['receipt_hole R1-101', 'receipt_hole R1-103..104']);
    await sale(session, { receipt: 'R1-0103' });
    await sale(session, { receipt: 'R1-0105' });
    await sale(session, { receipt: 'R2-0500' });
    await sale(session, { receipt: 'no number' });
    await arrive();
    assert.deepEqual(await open(), ['receipt_double R1-105', 'receipt_hole R1-101', 'receipt_hole R1-104']);
    await sale(session, { receipt: 'R1-0101' });
    await sale(session, { receipt: 'R1-0104' });
    await arrive();
    assert.deepEqual(await open(), ['receipt_double R1-105']);
  });

  it('two open sessions of one user or one register are told until one is closed', async () => {
    const first = await openSession(store.db, register);
    const second = await openSession(store.db, register);
    await arrive();
    assert.deepEqual(await open(), ['session_of_register']);
    await store.db.query(
      `update public.register_sessions set user_id = (select s.user_id from public.register_sessions s where s.id = $1::uuid)
        where id = $2::uuid`,
      [first, second],
    );
    await arrive();
    assert.deepEqual(await open(), ['session_of_register', 'session_of_user']);
    await close(first);
    await arrive();
    assert.deepEqual(await open(), []);
  });

  it('an open session of the same user in another store is told in both', async () => {
    const mine = await openSession(store.db, register);
    await arrive();
    await hq.db.query(
      `insert into public.register_sessions (store_id, id, register_id, user_id, status, opened_at)
       select 8, $1::uuid, $1::uuid, s.user_id, 'open', now() from public.register_sessions s`,
      [uuidv7()],
    );
    await settleLedger(hq.pool);
    assert.deepEqual(
      (await found()).map(({ storeId, kind }) => `${storeId} ${kind}`),
      ['7 session_of_user', '8 session_of_user'],
    );
    assert.equal((await ledgerFindings(hq.db, [8])).length, 1);
    await close(mine);
    await arrive();
    assert.deepEqual(await open(), [], 'the close in one store ends the finding in the other');
  });

  it('sales of an unknown session are taken and told until the session comes', async () => {
    const session = await openSession(store.db, register);
    await sale(session);
    await up.drain();
    await hq.db.query(
      'create table away as select * from public.register_sessions; delete from public.register_sessions',
    );
    await settleLedger(hq.pool);
    assert.deepEqual(await open(), ['session_unknown']);
    await hq.db.query('insert into public.register_sessions select * from away');
    await settleLedger(hq.pool);
    assert.deepEqual(await open(), []);
  });

  it('a product that HQ does not know is a note, until HQ knows it', async () => {
    const session = await openSession(store.db, register);
    await sale(session, { lines: 1 });
    await close(session);
    await arrive();
    const notes = (await listFindings(hq.db, {})).filter(({ kind }) => kind === 'product_unknown');
    assert.equal(notes.length, 1);
    assert.equal(notes[0]?.note, true);
    await hq.db.query(
      `insert into public.products (id, sku, name, price)
       select l.product_id, l.sku, l.name, 1 from public.sale_lines l limit 1`,
    );
    await openSession(store.db, register);
    await arrive();
    assert.deepEqual(
      (await ledgerFindings(hq.db)).filter(({ kind }) => kind === 'product_unknown'),
      [],
    );
  });
});
