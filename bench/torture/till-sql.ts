/** What a till writes, one function per kind of transaction, as plain SQL on its store's database. */
import type { Queryable } from '../../src/db/transaction.ts';
import type { Random } from '../../test/support/random.ts';

export interface Moment {
  readonly occurredAt: string;
  readonly businessDate: string;
}

/** The nights in which a day has 23 or 25 hours, and the turn of a year: dates that programs get wrong. */
const ODD = [
  '2026-03-29T00:59:59.999Z',
  '2026-03-29T01:00:00Z',
  '2026-10-25T00:30:00Z',
  '2026-10-25T01:30:00Z',
  '2026-11-01T06:30:00Z',
  '2025-12-31T23:59:59.5Z',
] as const;

/** Mostly now; sometimes the till's clock is a day off, sometimes it is an odd night. */
export function momentOf(random: Random): Moment {
  const draw = random.int(100);
  const at =
    draw < 88
      ? new Date()
      : draw < 94
        ? new Date(Date.now() + (random.chance(0.5) ? 1 : -1) * 86_400_000)
        : new Date(random.pick(ODD));
  const iso = at.toISOString();
  return { occurredAt: iso, businessDate: iso.slice(0, 10) };
}

export interface SaleToWrite extends Moment {
  readonly id: string;
  readonly storeId: number;
  readonly registerId: string;
  readonly sessionId: string;
  readonly userId: string;
  readonly kind: 'sale' | 'refund';
  readonly receipt: string;
  readonly originalId: string | null;
  readonly lines: readonly { readonly price: number; readonly quantity: number; readonly tax: number }[];
  readonly cash: boolean;
}

/** As facts.ts reads it back. */
export function contentOf(sale: SaleToWrite): string {
  const n = sale.lines.length;
  const { net, tax } = sumsOf(sale);
  return [sale.kind, sale.receipt, net + tax, n, net, n, tax, 1, net + tax].join('/');
}

function sumsOf({ lines }: SaleToWrite): { net: number; tax: number } {
  return {
    net: lines.reduce((sum, line) => sum + line.price * line.quantity, 0),
    tax: lines.reduce((sum, line) => sum + line.tax, 0),
  };
}

const TAX_RATE = '0190a000-0000-7000-8000-000000000001';

/** Everything but the COMMIT. */
export async function writeSale(db: Queryable, sale: SaleToWrite): Promise<void> {
  const { net, tax } = sumsOf(sale);
  await db.query('begin');
  await db.query(
    `insert into public.sales (id, store_id, register_id, session_id, cashier_id, kind, status, receipt_number,
            original_sale_id, subtotal, tax_total, total, occurred_at, business_date)
     values ($1::uuid, $2::integer, $3::uuid, $4::uuid, $5::uuid, $6::text, 'completed', $7::text, $8::uuid,
             $9::bigint, $10::bigint, $11::bigint, $12::timestamptz, $13::date)`,
    [
      sale.id,
      sale.storeId,
      sale.registerId,
      sale.sessionId,
      sale.userId,
      sale.kind,
      sale.receipt,
      sale.originalId,
      net,
      tax,
      net + tax,
      sale.occurredAt,
      sale.businessDate,
    ],
  );
  await db.query(
    `insert into public.sale_lines (sale_id, line_no, product_id, sku, name, quantity, unit_price, tax, total)
     select $1::uuid, l.n, gen_random_uuid(), 'SKU-' || l.n, 'Item "' || l.n || '" ü€', 1000 * l.quantity, l.price,
            l.tax, l.price * l.quantity
       from unnest($2::bigint[], $3::bigint[], $4::bigint[]) with ordinality as l(price, quantity, tax, n)`,
    [
      sale.id,
      sale.lines.map((line) => line.price),
      sale.lines.map((line) => line.quantity),
      sale.lines.map((line) => line.tax),
    ],
  );
  await db.query(
    `insert into public.sale_line_taxes (sale_id, line_no, tax_rate_id, rate_bp, taxable, amount)
     select l.sale_id, l.line_no, $2::uuid, 800, l.total, l.tax from public.sale_lines l where l.sale_id = $1::uuid`,
    [sale.id, TAX_RATE],
  );
  await db.query(
    `insert into public.sale_payments (sale_id, payment_no, tender, amount)
     values ($1::uuid, 1, $2::text, $3::bigint)`,
    [sale.id, sale.cash ? 'cash' : 'card', net + tax],
  );
}

export async function voidSale(db: Queryable, saleId: string, userId: string): Promise<void> {
  await db.query(
    `update public.sales set status = 'voided', voided_at = now(), voided_by = $2::uuid
      where id = $1::uuid and status = 'completed'`,
    [saleId, userId],
  );
}

export async function adjust(
  db: Queryable,
  adjustment: Moment & { id: string; storeId: number; delta: number; userId: string },
): Promise<void> {
  await db.query(
    `insert into public.inventory_adjustments (id, store_id, product_id, quantity_delta, reason, user_id, occurred_at,
            business_date)
     values ($1::uuid, $2::integer, gen_random_uuid(), $3::bigint, 'damaged', $4::uuid, $5::timestamptz, $6::date)`,
    [
      adjustment.id,
      adjustment.storeId,
      adjustment.delta,
      adjustment.userId,
      adjustment.occurredAt,
      adjustment.businessDate,
    ],
  );
}

/** The month's Z reports so far; the number follows the last one. */
export async function writeZz(db: Queryable, id: string, storeId: number, month: string): Promise<void> {
  await db.query(
    `insert into public.zz_reports (id, store_id, number, month, total_sales, total_refunds, total_tax, cash_total,
            card_total, z_report_ids)
     select $1::uuid, $2::integer, coalesce((select max(x.number) from public.zz_reports x), 0) + 1, $3::text,
            coalesce(sum(z.cash_sales + z.card_sales), 0), coalesce(sum(z.cash_refunds), 0), 0,
            coalesce(sum(z.cash_sales - z.cash_refunds), 0), coalesce(sum(z.card_sales), 0),
            coalesce(array_agg(z.id order by z.number), '{}')
       from public.z_reports z where to_char(z.business_date, 'YYYY-MM') = $3::text`,
    [id, storeId, month],
  );
}

/** A draft with its lines; nobody but this store knows of it yet. */
export async function writeDraft(
  db: Queryable,
  transfer: { id: string; from: number; to: number; userId: string; quantities: readonly number[] },
): Promise<void> {
  await db.query('begin');
  await db.query(
    `insert into public.transfers (id, number, from_store_id, to_store_id, status, created_by)
     values ($1::uuid, 'T-' || left($1::text, 8), $2::integer, $3::integer, 'draft', $4::uuid)`,
    [transfer.id, transfer.from, transfer.to, transfer.userId],
  );
  await db.query(
    `insert into public.transfer_lines (transfer_id, line_no, product_id, quantity)
     select $1::uuid, q.n, gen_random_uuid(), q.quantity
       from unnest($2::bigint[]) with ordinality as q(quantity, n)`,
    [transfer.id, transfer.quantities],
  );
  await db.query('commit');
}

export async function moveTransfer(db: Queryable, id: string, status: string): Promise<void> {
  await db.query(
    `update public.transfers set status = $2::text, updated_at = now(),
            submitted_at = case when $2::text = 'pending' then now() else submitted_at end,
            shipped_at = case when $2::text = 'in_transit' then now() else shipped_at end
      where id = $1::uuid`,
    [id, status],
  );
}

/** The oldest transfer in a state that waits for this store. */
export async function findTransfer(
  db: Queryable,
  storeId: number,
  state: 'draft' | 'pending' | 'arriving',
): Promise<{ id: string; content: string } | undefined> {
  const which =
    state === 'arriving'
      ? `t.to_store_id = $1::integer and t.status = 'in_transit'
         and not exists (select from public.transfer_receipts r where r.transfer_id = t.id)`
      : `t.from_store_id = $1::integer and t.status = '${state}'`;
  const { rows } = await db.query<{ id: string; content: string }>(
    `select t.id, (select count(*) || '/' || sum(l.quantity) from public.transfer_lines l where l.transfer_id = t.id) as content
       from public.transfers t where ${which} order by t.id limit 1`,
    [storeId],
  );
  return rows[0];
}

export async function writeReceipt(db: Queryable, transferId: string, userId: string): Promise<void> {
  await db.query('begin');
  await db.query(
    `insert into public.transfer_receipts (transfer_id, received_by, received_at) values ($1::uuid, $2::uuid, now())`,
    [transferId, userId],
  );
  await db.query(
    `insert into public.transfer_receipt_lines (transfer_id, line_no, quantity)
     select l.transfer_id, l.line_no, l.quantity from public.transfer_lines l where l.transfer_id = $1::uuid`,
    [transferId],
  );
}
