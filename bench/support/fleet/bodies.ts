/** Bodies of version 2 as the triggers of a store would have written them: registers, sessions and sales. */
import { uuidv7 } from '../../../src/core/ids.ts';
import { ENTITIES, tablesOf, upEntities } from '../../../src/protocol/entities.ts';
import { layoutOf, type Layout } from '../../../src/protocol/row-text.ts';

const LAYOUTS = new Map(
  upEntities(ENTITIES)
    .flatMap(tablesOf)
    .map((table) => [table.table, layoutOf(table)]),
);
const CASHIER = '0190a000-0000-7000-8000-000000000009';

type Row = Readonly<Record<string, string | number | null>>;

/** As `row::text`: NULL is nothing, and what a comma, a blank or a quote would break is quoted. */
function rowText({ columns, table }: Layout, row: Row): string {
  const unknown = Object.keys(row).find((column) => !columns.includes(column));
  if (unknown !== undefined) throw new Error(`${table} has no column ${unknown}`);
  const fields = columns.map((column) => {
    const value = row[column] ?? null;
    if (value === null) return '';
    const text = String(value);
    return text === '' || /[\s,()"\\]/.test(text) ? `"${text.replaceAll(/["\\]/g, '$&$&')}"` : text;
  });
  return `(${fields.join(',')})\n`;
}

function section(table: string, rows: readonly Row[]): string {
  const layout = LAYOUTS.get(table);
  if (layout === undefined) throw new Error(`${table} does not travel up`);
  return `I ${rows.length} ${layout.id} ${table}\n${rows.map((row) => rowText(layout, row)).join('')}`;
}

function timestamp(): string {
  return new Date().toISOString().replace('T', ' ').replace('Z', '+00');
}

export interface Shift {
  readonly storeId: number;
  readonly registerId: string;
  readonly sessionId: string;
}

/** The transaction that opens it. */
export function openShift(storeId: number): { readonly shift: Shift; readonly body: string } {
  const shift = { storeId, registerId: uuidv7(), sessionId: uuidv7() };
  const { registerId, sessionId } = shift;
  const now = timestamp();
  const body =
    section('registers', [
      { id: registerId, store_id: storeId, code: `R-${registerId.slice(-6)}`, name: 'Register', active: 't' },
    ]) +
    section('register_sessions', [
      {
        id: sessionId,
        store_id: storeId,
        register_id: registerId,
        user_id: CASHIER,
        status: 'open',
        opened_at: now,
        opening_amount: 0,
        updated_at: now,
      },
    ]);
  return { shift, body };
}

/** The `n`th sale of a shift: 1 header, 5 or 6 lines, 1 payment, as the tills of P1 write them. */
export function saleBody({ storeId, registerId, sessionId }: Shift, n: number): string {
  const saleId = uuidv7();
  const now = timestamp();
  const total = 5_400 + (n % 900);
  const lines = Array.from({ length: 5 + (n % 2) }, (_, index) => {
    const product = (n * 7 + (index + 1) * 131) % 5_000;
    return {
      sale_id: saleId,
      line_no: index + 1,
      product_id: `0190b000-0000-7000-8000-${String(product).padStart(12, '0')}`,
      sku: `SKU-${product}`,
      name: `Article no. ${product}`,
      quantity: '1000',
      unit_price: '999.5',
      discount: 0,
      tax: 80,
      total: 1_000 + (n % 7),
    };
  });
  return (
    section('sales', [
      {
        id: saleId,
        store_id: storeId,
        register_id: registerId,
        session_id: sessionId,
        cashier_id: CASHIER,
        kind: 'sale',
        status: 'completed',
        receipt_number: `R1-${n}`,
        subtotal: total - 400,
        discount_total: 0,
        tax_total: 400,
        total,
        occurred_at: now,
        business_date: now.slice(0, 10),
      },
    ]) +
    section('sale_lines', lines) +
    section('sale_payments', [
      {
        sale_id: saleId,
        payment_no: 1,
        tender: n % 3 === 0 ? 'cash' : 'card',
        amount: total,
        tendered: total,
        change: 0,
      },
    ])
  );
}

/** As hello describes them. */
export function layoutsForHello(): [string, string, string[]][] {
  return [...LAYOUTS.values()].map(({ id, table, columns }) => [id, table, [...columns]]);
}
