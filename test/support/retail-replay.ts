/**
 * Writes the retail data as a chain would live it: the catalogue at HQ, every basket into its store's own database,
 * one transaction each, in time order, with a session and a Z report per business day.
 */
import { uuidv7 } from '../../src/core/ids.ts';
import type { Queryable } from '../../src/db/transaction.ts';
import { closeSession, openSession } from '../../src/demo/cash-office.ts';
import { cents, field, idOf, optional, scaled, unitPrice, type RetailData } from './retail-data.ts';

type Row = Readonly<Record<string, string>>;

/** HQ's catalogue as it was before the first product event, and one role that every store's cashier has. */
export async function loadHeadOffice(hq: Queryable, data: RetailData): Promise<void> {
  const createdLater = new Set(
    data.productEvents
      .filter((event) => field(event, 'event') === 'create')
      .map((event) => field(event, 'product_id')),
  );
  await hq.query(
    `insert into public.departments (id, code, name)
     select d.id, d.code, d.name from jsonb_to_recordset($1::jsonb) as d(id uuid, code text, name text)`,
    [
      JSON.stringify(
        data.departments.map((row) => ({
          id: idOf('department', field(row, 'department_id')),
          code: field(row, 'department_id'),
          name: field(row, 'name'),
        })),
      ),
    ],
  );
  await hq.query(
    `insert into public.tax_rates (id, code, name, rate_bp)
     select t.id, t.code, t.name, t.rate_bp
       from jsonb_to_recordset($1::jsonb) as t(id uuid, code text, name text, rate_bp int)`,
    [
      JSON.stringify(
        data.taxRates.map((row) => ({
          id: idOf('tax_rate', field(row, 'tax_rate_id')),
          code: field(row, 'tax_rate_id'),
          name: `${field(row, 'country')} ${field(row, 'region')} ${field(row, 'kind')} ${field(row, 'category')}`,
          rate_bp: Number(scaled(field(row, 'rate'), 4)),
        })),
      ),
    ],
  );
  await insertProducts(
    hq,
    data.products.filter((row) => !createdLater.has(field(row, 'product_id'))),
  );
  await hq.query(
    `with role as (insert into public.roles (id, name) values ($1::uuid, 'Cashier') returning id)
     insert into public.role_permissions (role_id, permission) select role.id, 'pos:sell' from role`,
    [idOf('role', 'cashier')],
  );
}

/** The SKU is the data's product id: 43 SKUs are used by two chains, and they differ by letter case as well. */
async function insertProducts(hq: Queryable, rows: readonly Row[]): Promise<void> {
  await hq.query(
    `insert into public.products (id, sku, barcode, name, description, price, cost, department_id)
     select p.id, p.sku, p.barcode, p.name, p.description, p.price, p.cost, p.department_id
       from jsonb_to_recordset($1::jsonb) as p(id uuid, sku text, barcode text, name text, description text,
            price numeric, cost numeric, department_id uuid)`,
    [
      JSON.stringify(
        rows.map((row) => {
          const department = optional(row, 'department_id');
          const cost = optional(row, 'cost');
          return {
            id: idOf('product', field(row, 'product_id')),
            sku: field(row, 'product_id'),
            barcode: optional(row, 'barcode'),
            name: field(row, 'name'),
            description: optional(row, 'size'),
            price: unitPrice(field(row, 'price')),
            cost: cost === null ? null : unitPrice(cost),
            department_id: department === null ? null : idOf('department', department),
          };
        }),
      ),
    ],
  );
}

/** The cashier of a store: a user with an assignment there and nowhere else. */
export async function addCashier(hq: Queryable, storeId: number, storeKey: string): Promise<void> {
  await hq.query(
    `with person as (
       insert into public.users (id, username, display_name, pin_hash)
       values ($1::uuid, $2::text, $2::text, 'hash of ' || $2::text) returning id)
     insert into public.user_store_roles (id, user_id, role_id, store_id)
     select $3::uuid, person.id, $4::uuid, $5::int from person`,
    [
      idOf('user', storeKey),
      `cashier ${storeKey}`,
      idOf('assignment', storeKey),
      idOf('role', 'cashier'),
      storeId,
    ],
  );
}

/** One product event at HQ: a new price, or a product that did not exist before. */
export async function applyProductEvent(hq: Queryable, data: RetailData, event: Row): Promise<void> {
  const productId = field(event, 'product_id');
  if (field(event, 'event') === 'create') {
    await insertProducts(
      hq,
      data.products
        .filter((row) => field(row, 'product_id') === productId)
        .map((row) => ({ ...row, price: field(event, 'new_price') })),
    );
    return;
  }
  await hq.query(`update public.products set price = $2::numeric, updated_at = now() where id = $1::uuid`, [
    idOf('product', productId),
    unitPrice(field(event, 'new_price')),
  ]);
}

export interface StoreReplay {
  readonly storeId: number;
  /** The store_id of the data, such as `cj:367`. */
  readonly storeKey: string;
  /** Called after every committed basket. */
  readonly onBasket: () => void;
}

/** Everything that happened in one store, in time order, through one register. Returns the rows written. */
export async function replayStore(
  db: Queryable,
  data: RetailData,
  { storeId, storeKey, onBasket }: StoreReplay,
): Promise<number> {
  const registerId = idOf('register', storeKey);
  await db.query(
    `insert into public.registers (id, store_id, code, name) values ($1::uuid, $2::int, 'R1', 'Register 1')`,
    [registerId, storeId],
  );
  const sales = data.sales
    .filter((row) => field(row, 'store_id') === storeKey)
    .sort((a, b) => order(moment(a), moment(b)));
  const adjustments = data.adjustments
    .filter((row) => field(row, 'store_id') === storeKey)
    .sort((a, b) => order(field(a, 'at'), field(b, 'at')));
  let rows = 1;
  let session: { id: string; day: string } | undefined;
  for (const sale of sales) {
    const day = field(sale, 'sold_on');
    if (session?.day !== day) {
      if (session !== undefined) rows += await endDay(db, session);
      session = { id: uuidv7(), day };
      await openSession(db, {
        id: session.id,
        storeId,
        registerId,
        userId: idOf('user', storeKey),
        openedAt: moment(sale),
        openingAmount: 10_000,
      });
      rows += 1;
    }
    rows += await writeBasket(db, data, sale, { storeId, storeKey, registerId, sessionId: session.id });
    onBasket();
  }
  if (session !== undefined) rows += await endDay(db, session);
  for (const adjustment of adjustments) {
    await writeAdjustment(db, adjustment, storeId, storeKey);
    rows += 1;
  }
  return rows;
}

async function endDay(
  db: Queryable,
  session: { readonly id: string; readonly day: string },
): Promise<number> {
  const { day, id } = session;
  await closeSession(db, { sessionId: id, closedAt: `${day}T23:30:00Z`, businessDate: day, overShort: 0 });
  return 1;
}

/** Iowa's orders carry the day only: noon stands in for the time. */
function moment(sale: Row): string {
  return optional(sale, 'sold_at') ?? `${field(sale, 'sold_on')}T12:00:00Z`;
}

function order(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

interface Basket {
  readonly storeId: number;
  readonly storeKey: string;
  readonly registerId: string;
  readonly sessionId: string;
}

/** One statement, so one transaction: header, lines and payments together. A coupon is a tender of its own. */
async function writeBasket(
  db: Queryable,
  data: RetailData,
  sale: Row,
  { storeId, storeKey, registerId, sessionId }: Basket,
): Promise<number> {
  const saleId = idOf('sale', field(sale, 'sale_id'));
  const lines = data.linesOf.get(field(sale, 'sale_id')) ?? [];
  const total = scaled(field(sale, 'total'), 2);
  const coupon = scaled(field(sale, 'coupon'), 2);
  const payments = [
    { payment_no: 1, tender: 'cash', amount: (total - coupon).toString() },
    ...(coupon === 0n ? [] : [{ payment_no: 2, tender: 'coupon', amount: coupon.toString() }]),
  ];
  await db.query(
    `with header as (
       insert into public.sales (id, store_id, register_id, session_id, cashier_id, kind, status, receipt_number,
              subtotal, discount_total, total, occurred_at, business_date)
       values ($1::uuid, $2::int, $3::uuid, $4::uuid, $5::uuid, $6::text, 'completed', $7::text,
               $8::bigint, $9::bigint, $10::bigint, $11::timestamptz, $12::date)),
     lines as (
       insert into public.sale_lines (sale_id, line_no, product_id, sku, name, quantity, unit_price, discount, total)
       select $1::uuid, l.line_no, l.product_id, l.sku, l.name, l.quantity, l.unit_price, l.discount, l.total
         from jsonb_to_recordset($13::jsonb) as l(line_no int, product_id uuid, sku text, name text, quantity bigint,
              unit_price numeric, discount bigint, total bigint))
     insert into public.sale_payments (sale_id, payment_no, tender, amount)
     select $1::uuid, p.payment_no, p.tender, p.amount
       from jsonb_to_recordset($14::jsonb) as p(payment_no int, tender text, amount bigint)`,
    [
      saleId,
      storeId,
      registerId,
      sessionId,
      idOf('user', storeKey),
      field(sale, 'kind') === 'return' ? 'refund' : 'sale',
      field(sale, 'basket_no'),
      cents(field(sale, 'gross')),
      cents(field(sale, 'discount')),
      total.toString(),
      moment(sale),
      field(sale, 'sold_on'),
      JSON.stringify(
        lines.map((line) => ({
          line_no: Number(field(line, 'line_no')),
          product_id: idOf('product', field(line, 'product_id')),
          sku: field(line, 'product_id').slice(3),
          name: field(line, 'description'),
          quantity: scaled(field(line, 'qty'), 3).toString(),
          unit_price: unitPrice(field(line, 'unit_price')),
          discount: cents(field(line, 'discount')),
          total: cents(field(line, 'amount')),
        })),
      ),
      JSON.stringify(payments),
    ],
  );
  return 1 + lines.length + payments.length;
}

async function writeAdjustment(db: Queryable, row: Row, storeId: number, storeKey: string): Promise<void> {
  await db.query(
    `insert into public.inventory_adjustments
       (id, store_id, product_id, quantity_delta, reason, user_id, occurred_at, business_date)
     values ($1::uuid, $2::int, $3::uuid, $4::bigint, $5::text, $6::uuid, $7::timestamptz, $8::date)`,
    [
      uuidv7(),
      storeId,
      idOf('product', field(row, 'product_id')),
      scaled(field(row, 'qty_delta'), 3).toString(),
      field(row, 'reason'),
      idOf('user', storeKey),
      field(row, 'at'),
      field(row, 'at').slice(0, 10),
    ],
  );
}

/** The shipments of the warehouse, which is a store of its own: submitted, then shipped. Returns the rows written. */
export async function shipTransfers(
  db: Queryable,
  data: RetailData,
  storeIdOf: (storeKey: string) => number,
): Promise<number> {
  let rows = 0;
  for (const transfer of data.transfers) {
    const id = idOf('transfer', field(transfer, 'transfer_id'));
    const lines = data.transferLinesOf.get(field(transfer, 'transfer_id')) ?? [];
    await db.query(
      `insert into public.transfers (id, number, from_store_id, to_store_id, status, created_by)
       values ($1::uuid, $2::text, $3::int, $4::int, 'draft', $5::uuid)`,
      [
        id,
        field(transfer, 'transfer_id'),
        storeIdOf(field(transfer, 'from_location')),
        storeIdOf(field(transfer, 'to_store_id')),
        idOf('user', field(transfer, 'from_location')),
      ],
    );
    await db.query(
      `insert into public.transfer_lines (transfer_id, line_no, product_id, quantity)
       select $1::uuid, l.line_no, l.product_id, l.quantity
         from jsonb_to_recordset($2::jsonb) as l(line_no int, product_id uuid, quantity bigint)`,
      [
        id,
        JSON.stringify(
          lines.map((line) => ({
            line_no: Number(field(line, 'line_no')),
            product_id: idOf('product', field(line, 'product_id')),
            quantity: scaled(field(line, 'qty'), 3).toString(),
          })),
        ),
      ],
    );
    await db.query(
      `update public.transfers set status = 'pending', submitted_at = $2::timestamptz, updated_at = now()
        where id = $1::uuid`,
      [id, `${field(transfer, 'shipped_on')}T08:00:00Z`],
    );
    await db.query(
      `update public.transfers set status = 'in_transit', shipped_at = $2::timestamptz, updated_at = now()
        where id = $1::uuid`,
      [id, `${field(transfer, 'shipped_on')}T09:00:00Z`],
    );
    rows += 1 + lines.length;
  }
  return rows;
}

/** A destination counts in everything that has reached it. Returns the rows written. */
export async function receiveTransfers(db: Queryable, storeId: number, userId: string): Promise<number> {
  const { rows } = await db.query<{ rows: number }>(
    `with arrived as (
       select t.id from public.transfers t
        where t.to_store_id = $1::int and t.status = 'in_transit'
          and not exists (select from public.transfer_receipts r where r.transfer_id = t.id)),
     receipts as (
       insert into public.transfer_receipts (transfer_id, received_by, received_at)
       select a.id, $2::uuid, now() from arrived a returning transfer_id),
     lines as (
       insert into public.transfer_receipt_lines (transfer_id, line_no, quantity)
       select l.transfer_id, l.line_no, l.quantity
         from public.transfer_lines l join arrived a on a.id = l.transfer_id returning transfer_id)
     select (select count(*) from receipts) + (select count(*) from lines) as rows`,
    [storeId, userId],
  );
  return rows[0]?.rows ?? 0;
}
