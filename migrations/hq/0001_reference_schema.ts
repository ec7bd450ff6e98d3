/**
 * The reference tables of HQ, and the row that makes this database HQ.
 *
 * What stores write has no foreign key, no check and no unique constraint here but its primary key: a duplicate
 * number or a missing session is a finding, never a refusal. Keys start with store_id, so that one store can never
 * address another's rows and the tables can be distributed by store.
 *
 * Sales with their children and adjustments are partitioned by the business date of the document, which never
 * changes, so that a re-sent row meets the same partition. The partition of a month is made ahead (possync.ensure_month);
 * rows of a month that has none yet land in the default partition and are moved.
 *
 * New tables only: no lock on anything that exists, instant on an empty database.
 */
import type { Knex } from 'knex';
import { identityTable } from '../identity.ts';
import { HQ_OWNED_NAMES, hqOwnedTables } from '../reference.ts';

export const name = '0001_reference_schema';

const STORE_OWNED = `
create table if not exists public.registers (
  store_id integer not null, id uuid not null, code text not null, name text not null,
  active boolean not null default true, received_at timestamptz not null default now(),
  primary key (store_id, id));

create table if not exists public.register_sessions (
  store_id integer not null, id uuid not null, register_id uuid not null, user_id uuid not null,
  status text not null, opened_at timestamptz not null, opening_amount bigint not null default 0,
  closed_at timestamptz, forced_by uuid, updated_at timestamptz not null default now(),
  received_at timestamptz not null default now(), primary key (store_id, id));

create table if not exists public.sales (
  store_id integer not null, id uuid not null, register_id uuid not null, session_id uuid not null,
  cashier_id uuid not null, kind text not null, status text not null, receipt_number text not null,
  original_sale_id uuid, subtotal bigint not null default 0, discount_total bigint not null default 0,
  tax_total bigint not null default 0, total bigint not null default 0,
  occurred_at timestamptz not null, business_date date not null, voided_at timestamptz, voided_by uuid,
  received_at timestamptz not null default now(), primary key (store_id, business_date, id))
  partition by range (business_date);
create index if not exists sales_store_id_id on public.sales (store_id, id);
create index if not exists sales_store_id_session_id on public.sales (store_id, session_id);
create table if not exists public.sales_default partition of public.sales default;

create table if not exists public.sale_lines (
  store_id integer not null, business_date date not null, sale_id uuid not null, line_no integer not null,
  product_id uuid, sku text not null, name text not null, quantity bigint not null,
  unit_price numeric(14,4) not null, discount bigint not null default 0, tax bigint not null default 0,
  total bigint not null default 0, received_at timestamptz not null default now(),
  primary key (store_id, business_date, sale_id, line_no)) partition by range (business_date);
create table if not exists public.sale_lines_default partition of public.sale_lines default;

create table if not exists public.sale_line_taxes (
  store_id integer not null, business_date date not null, sale_id uuid not null, line_no integer not null,
  tax_rate_id uuid not null, rate_bp integer not null, taxable bigint not null default 0,
  amount bigint not null default 0, received_at timestamptz not null default now(),
  primary key (store_id, business_date, sale_id, line_no, tax_rate_id)) partition by range (business_date);
create table if not exists public.sale_line_taxes_default partition of public.sale_line_taxes default;

create table if not exists public.sale_payments (
  store_id integer not null, business_date date not null, sale_id uuid not null, payment_no integer not null,
  tender text not null, amount bigint not null default 0, tendered bigint, change bigint, reference text,
  received_at timestamptz not null default now(),
  primary key (store_id, business_date, sale_id, payment_no)) partition by range (business_date);
create table if not exists public.sale_payments_default partition of public.sale_payments default;

create table if not exists public.inventory_adjustments (
  store_id integer not null, id uuid not null, product_id uuid not null, quantity_before bigint,
  quantity_delta bigint not null, reason text not null, note text, user_id uuid not null,
  occurred_at timestamptz not null, business_date date not null,
  received_at timestamptz not null default now(), primary key (store_id, business_date, id))
  partition by range (business_date);
create index if not exists inventory_adjustments_store_id_id on public.inventory_adjustments (store_id, id);
create table if not exists public.inventory_adjustments_default partition of public.inventory_adjustments default;

create table if not exists public.z_reports (
  store_id integer not null, id uuid not null, register_id uuid not null, session_id uuid not null,
  number integer not null, opened_at timestamptz not null, closed_at timestamptz not null,
  business_date date not null, cashier_id uuid not null,
  opening_amount bigint not null default 0, cash_sales bigint not null default 0,
  cash_refunds bigint not null default 0, expected_cash bigint not null default 0,
  declared_cash bigint not null default 0, over_short bigint not null default 0,
  card_sales bigint not null default 0, void_count integer not null default 0,
  void_total bigint not null default 0, transaction_count integer not null default 0,
  tax_by_rate jsonb not null default '{}', totals_by_tender jsonb not null default '{}',
  declared_by_denomination jsonb, received_at timestamptz not null default now(),
  primary key (store_id, id));
create index if not exists z_reports_register_number on public.z_reports (store_id, register_id, number);

create table if not exists public.zz_reports (
  store_id integer not null, id uuid not null, number integer not null, month text not null,
  total_sales bigint not null default 0, total_refunds bigint not null default 0,
  total_tax bigint not null default 0, cash_total bigint not null default 0, card_total bigint not null default 0,
  z_report_ids uuid[] not null, received_at timestamptz not null default now(),
  primary key (store_id, id));

create table if not exists public.transfers (
  id uuid primary key, number text not null, from_store_id integer not null, to_store_id integer not null,
  status text not null, tracking_note text, created_by uuid not null, submitted_at timestamptz,
  shipped_at timestamptz, updated_at timestamptz not null default now(),
  received_at timestamptz not null default now());

create table if not exists public.transfer_lines (
  transfer_id uuid not null, line_no integer not null, product_id uuid not null, quantity bigint not null,
  received_at timestamptz not null default now(), primary key (transfer_id, line_no));

create table if not exists public.transfer_receipts (
  transfer_id uuid primary key, store_id integer not null, received_by uuid not null,
  received_at timestamptz not null);

create table if not exists public.transfer_receipt_lines (
  transfer_id uuid not null, line_no integer not null, quantity bigint not null,
  received_at timestamptz not null default now(), primary key (transfer_id, line_no));
`;

const STORE_OWNED_NAMES = [
  'registers',
  'register_sessions',
  'sales',
  'sale_lines',
  'sale_line_taxes',
  'sale_payments',
  'inventory_adjustments',
  'z_reports',
  'zz_reports',
  'transfers',
  'transfer_lines',
  'transfer_receipts',
  'transfer_receipt_lines',
];

export async function up(db: Knex): Promise<void> {
  await db.raw(identityTable('hq'));
  await db.raw(hqOwnedTables(''));
  await db.raw(STORE_OWNED);
}

export async function down(db: Knex): Promise<void> {
  const tables = [...HQ_OWNED_NAMES, ...STORE_OWNED_NAMES].map((table) => `public.${table}`).join(', ');
  await db.raw(`drop table ${tables} cascade; drop table possync.identity`);
}
