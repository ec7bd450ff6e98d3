/** What a POS application writes, in a few words: rows of the reference schema with sensible values, as plain SQL. */
import { uuidv7 } from '../../src/core/ids.ts';
import { createPool } from '../../src/db/pool.ts';
import { queryOne, type Queryable } from '../../src/db/transaction.ts';
import { setStoreIdentity } from '../../src/store/outbox/identity.ts';
import { hqDatabase, storeDatabase, type TestDatabase } from './postgres.ts';
import type pg from 'pg';

export interface TestSide {
  readonly database: TestDatabase;
  /** For the product's code. */
  readonly pool: pg.Pool;
  /** For the test's own questions, and as a till. */
  readonly db: pg.Client;
  close(): Promise<void>;
}

/** A store's database that knows who it is. */
export async function openStore(label: string, id = 7, epoch = 1): Promise<TestSide> {
  const side = await open(await storeDatabase(label));
  await setStoreIdentity(side.db, { id, code: `S-${id}`, epoch });
  return side;
}

/** HQ's database with some stores in it. */
export async function openHq(label: string, stores: readonly number[] = [7]): Promise<TestSide> {
  const side = await open(await hqDatabase(label));
  for (const id of stores) {
    await side.db.query(
      `insert into public.stores (id, code, name, time_zone) values ($1::int, $2::text, $2::text, 'UTC')`,
      [id, `S-${id}`],
    );
  }
  return side;
}

async function open(database: TestDatabase): Promise<TestSide> {
  const pool = createPool({ url: database.url, applicationName: 'possync test pool', max: 6 });
  return {
    database,
    pool,
    db: await database.connect(),
    async close() {
      await pool.end();
      await database.drop();
    },
  };
}

/** Several statements as one transaction of a till; what it throws rolls back. */
export async function together<T>(db: Queryable, work: () => Promise<T>): Promise<T> {
  await db.query('begin');
  try {
    const result = await work();
    await db.query('commit');
    return result;
  } catch (error) {
    await db.query('rollback');
    throw error;
  }
}

export async function addRegister(db: Queryable, storeId = 7): Promise<string> {
  const id = uuidv7();
  await db.query(
    `insert into public.registers (id, store_id, code, name) values ($1::uuid, $2::int, 'R1', 'Register 1')`,
    [id, storeId],
  );
  return id;
}

export async function openSession(db: Queryable, registerId: string, storeId = 7): Promise<string> {
  const id = uuidv7();
  await db.query(
    `insert into public.register_sessions (id, store_id, register_id, user_id, status, opened_at, opening_amount)
     values ($1::uuid, $2::int, $3::uuid, $4::uuid, 'open', now(), 10000)`,
    [id, storeId, registerId, uuidv7()],
  );
  return id;
}

export interface SaleOptions {
  readonly storeId?: number;
  readonly lines?: number;
  readonly kind?: 'sale' | 'refund';
  readonly businessDate?: string;
  readonly receipt?: string;
}

/** Header, lines, taxes and a payment; the caller decides about the transaction. */
export async function insertSale(
  db: Queryable,
  sessionId: string,
  { storeId = 7, lines = 2, kind = 'sale', businessDate = '2026-11-20', receipt = 'R1-1' }: SaleOptions = {},
): Promise<string> {
  const id = uuidv7();
  const total = 1080 * lines;
  await db.query(
    `insert into public.sales (id, store_id, register_id, session_id, cashier_id, kind, status, receipt_number,
            subtotal, tax_total, total, occurred_at, business_date)
     select $1::uuid, $2::int, s.register_id, s.id, s.user_id, $3::text, 'completed', $4::text,
            $5::bigint, $6::bigint, $5::bigint + $6::bigint, now(), $7::date
       from public.register_sessions s where s.id = $8::uuid`,
    [id, storeId, kind, receipt, 1000 * lines, 80 * lines, businessDate, sessionId],
  );
  await db.query(
    `insert into public.sale_lines (sale_id, line_no, product_id, sku, name, quantity, unit_price, tax, total)
     select $1::uuid, n, gen_random_uuid(), 'SKU-' || n, 'Item "' || n || '" ü€', 1000, 1000.5, 80, 1000
       from generate_series(1, $2::int) n`,
    [id, lines],
  );
  await db.query(
    `insert into public.sale_line_taxes (sale_id, line_no, tax_rate_id, rate_bp, taxable, amount)
     select $1::uuid, n, $3::uuid, 800, 1000, 80 from generate_series(1, $2::int) n`,
    [id, lines, '0190a000-0000-7000-8000-000000000001'],
  );
  await db.query(
    `insert into public.sale_payments (sale_id, payment_no, tender, amount) values ($1::uuid, 1, 'cash', $2::bigint)`,
    [id, total],
  );
  return id;
}

export async function sell(db: Queryable, sessionId: string, options: SaleOptions = {}): Promise<string> {
  return together(db, () => insertSale(db, sessionId, options));
}

export async function voidSale(db: Queryable, saleId: string): Promise<void> {
  await db.query(
    `update public.sales set status = 'voided', voided_at = now(), voided_by = $2::uuid where id = $1::uuid`,
    [saleId, uuidv7()],
  );
}

/** Purged and written anew with the same id, as somebody would who corrects a date by hand. */
export async function writeAgain(db: Queryable, table: string, id: string, date: string): Promise<void> {
  const parts = table === 'sales' ? ['sale_payments', 'sale_line_taxes', 'sale_lines'] : [];
  const { row } = await together(db, async () => {
    await db.query('set local session_replication_role = replica');
    for (const part of parts) await db.query(`delete from public.${part} x where x.sale_id = $1::uuid`, [id]);
    return queryOne<{ row: string }>(
      db,
      `delete from public.${table} x where x.id = $1::uuid returning to_jsonb(x)::text as row`,
      [id],
    );
  });
  await db.query(
    `insert into public.${table} select r.* from jsonb_populate_record(null::public.${table}, $1::jsonb || jsonb_build_object('business_date', $2::text)) r`,
    [row, date],
  );
}

export async function adjust(
  db: Queryable,
  delta: number,
  {
    storeId = 7,
    businessDate = '2026-11-20',
    productId = uuidv7(),
  }: { storeId?: number; businessDate?: string; productId?: string } = {},
): Promise<string> {
  const id = uuidv7();
  await db.query(
    `insert into public.inventory_adjustments (id, store_id, product_id, quantity_delta, reason, user_id, occurred_at, business_date)
     values ($1::uuid, $2::int, $3::uuid, $4::bigint, 'damaged', $5::uuid, now(), $6::date)`,
    [id, storeId, productId, delta, uuidv7(), businessDate],
  );
  return id;
}

export interface TransferOptions {
  readonly from?: number;
  readonly to?: number;
  readonly status?: string;
  readonly lines?: number;
  readonly id?: string;
}

export async function insertTransfer(
  db: Queryable,
  { from = 7, to = 8, status = 'draft', lines = 2, id = uuidv7() }: TransferOptions = {},
): Promise<string> {
  await db.query(
    `insert into public.transfers (id, number, from_store_id, to_store_id, status, created_by)
     values ($1::uuid, 'T-1', $2::int, $3::int, $4::text, $5::uuid)`,
    [id, from, to, status, uuidv7()],
  );
  await db.query(
    `insert into public.transfer_lines (transfer_id, line_no, product_id, quantity)
     select $1::uuid, n, gen_random_uuid(), 1000 * n from generate_series(1, $2::int) n`,
    [id, lines],
  );
  return id;
}

export async function moveTransfer(db: Queryable, id: string, status: string): Promise<void> {
  await db.query(
    `update public.transfers set status = $2::text,
            submitted_at = case when $2 = 'pending' then now() else submitted_at end,
            shipped_at = case when $2 = 'in_transit' then now() else shipped_at end where id = $1::uuid`,
    [id, status],
  );
}

export async function insertReceipt(db: Queryable, transferId: string, lines = 2): Promise<void> {
  await db.query(
    `insert into public.transfer_receipts (transfer_id, received_by, received_at) values ($1::uuid, $2::uuid, now())`,
    [transferId, uuidv7()],
  );
  await db.query(
    `insert into public.transfer_receipt_lines (transfer_id, line_no, quantity)
     select $1::uuid, n, 1000 * n from generate_series(1, $2::int) n`,
    [transferId, lines],
  );
}
