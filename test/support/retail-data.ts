/**
 * The public retail data as rows of the reference schema: amounts in cents and thousandths, ids as UUIDs made from the
 * data's own ids. It is not part of the product: `retailFolder` is undefined where the folder is not there.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { parse } from 'csv-parse/sync';

const FOLDER = fileURLToPath(new URL('../../../shared/data/retail/', import.meta.url));

/** POSSYNC_RETAIL_DATA, else the folder beside the checkout; undefined where there is none. */
export const retailFolder: string | undefined = [process.env.POSSYNC_RETAIL_DATA, FOLDER].find(
  (folder) => folder !== undefined && existsSync(folder),
);

type Row = Readonly<Record<string, string>>;

export interface RetailData {
  readonly departments: readonly Row[];
  readonly taxRates: readonly Row[];
  readonly products: readonly Row[];
  readonly stores: readonly Row[];
  readonly sales: readonly Row[];
  /** Lines by sale id, in order. */
  readonly linesOf: ReadonlyMap<string, readonly Row[]>;
  readonly dailyTotals: readonly Row[];
  readonly adjustments: readonly Row[];
  readonly transfers: readonly Row[];
  readonly transferLinesOf: ReadonlyMap<string, readonly Row[]>;
  readonly productEvents: readonly Row[];
}

export function readRetailData(folder: string): RetailData {
  const read = (name: string): Row[] =>
    parse(gunzipSync(readFileSync(`${folder}/${name}.csv.gz`)), { columns: true, relax_column_count: false });
  return {
    departments: read('departments'),
    taxRates: read('tax_rates'),
    products: read('products'),
    stores: read('stores'),
    sales: read('sales'),
    linesOf: groupBy(read('sale_lines'), 'sale_id'),
    dailyTotals: read('daily_totals'),
    adjustments: read('inventory_adjustments'),
    transfers: read('transfers'),
    transferLinesOf: groupBy(read('transfer_lines'), 'transfer_id'),
    productEvents: read('product_events'),
  };
}

function groupBy(rows: readonly Row[], column: string): Map<string, Row[]> {
  const groups = new Map<string, Row[]>();
  for (const row of rows) {
    const key = field(row, column);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [row]);
    else group.push(row);
  }
  return groups;
}

/** A column that the file must have. */
export function field(row: Row, column: string): string {
  const value = row[column];
  if (value === undefined) throw new Error(`the data has no column ${column}`);
  return value;
}

/** Empty means missing in these files. */
export function optional(row: Row, column: string): string | null {
  const value = field(row, column);
  return value === '' ? null : value;
}

/** The same UUID for the same id of the data, in every run: version 8, made from a hash. */
export function idOf(kind: string, id: string): string {
  const hex = createHash('sha256').update(`${kind}:${id}`).digest('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

/** Decimal text times 10^digits, rounded half away from zero, exactly. */
export function scaled(text: string, digits: number): bigint {
  const match = /^(-?)(\d*)(?:\.(\d*))?$/.exec(text === '' ? '0' : text);
  if (match === null) throw new Error(`not a decimal: ${text}`);
  const [, sign, whole = '', fraction = ''] = match;
  const padded = fraction.padEnd(digits + 1, '0');
  const kept = BigInt(`${whole}${padded.slice(0, digits)}` || '0');
  const rounded = Number(padded.charAt(digits)) >= 5 ? kept + 1n : kept;
  return sign === '-' ? -rounded : rounded;
}

/** An amount in cents. */
export function cents(text: string): string {
  return scaled(text, 2).toString();
}

/** A unit price: decimal text in cents with four digits, as numeric(14,4) keeps it. */
export function unitPrice(text: string): string {
  const value = scaled(text, 6);
  const digits = (value < 0n ? -value : value).toString().padStart(5, '0');
  return `${value < 0n ? '-' : ''}${digits.slice(0, -4)}.${digits.slice(-4)}`;
}
