/**
 * The reference tables of a store, and the row that makes this database a store.
 *
 * New tables only: no lock on anything that exists, instant on an empty database. Foreign keys among store-owned
 * tables are plain (the till's own transaction is whole); `z_reports.session_id` is unique, a session closes once.
 */
import type { Knex } from 'knex';
import { identityTable } from '../identity.ts';
import { HQ_OWNED_NAMES, hqOwnedTables } from '../reference.ts';

export const name = '0001_reference_schema';

const STORE_OWNED = `
create table if not exists public.registers (
  id uuid primary key, store_id integer not null, code text not null, name text not null,
  active boolean not null default true);

create table if not exists public.register_sessions (
  id uuid primary key, store_id integer not null, register_id uuid not null references public.registers,
  user_id uuid not null, status text not null check (status in ('open', 'closing', 'closed')),
  opened_at timestamptz not null, opening_amount bigint not null default 0,
  closed_at timestamptz, forced_by uuid, updated_at timestamptz not null default now());

create table if not exists public.sales (
  id uuid primary key, store_id integer not null, register_id uuid not null,
  session_id uuid not null references public.register_sessions, cashier_id uuid not null,
  kind text not null check (kind in ('sale', 'refund')),
  status text not null check (status in ('completed', 'voided')),
  receipt_number text not null, original_sale_id uuid,
  subtotal bigint not null default 0, discount_total bigint not null default 0,
  tax_total bigint not null default 0, total bigint not null default 0,
  occurred_at timestamptz not null, business_date date not null,
  voided_at timestamptz, voided_by uuid);
create index if not exists sales_business_date on public.sales (business_date);
create index if not exists sales_session_id on public.sales (session_id);

create table if not exists public.sale_lines (
  sale_id uuid not null references public.sales, line_no integer not null, product_id uuid,
  sku text not null, name text not null, quantity bigint not null, unit_price numeric(14,4) not null,
  discount bigint not null default 0, tax bigint not null default 0, total bigint not null default 0,
  primary key (sale_id, line_no));

create table if not exists public.sale_line_taxes (
  sale_id uuid not null, line_no integer not null, tax_rate_id uuid not null, rate_bp integer not null,
  taxable bigint not null default 0, amount bigint not null default 0,
  primary key (sale_id, line_no, tax_rate_id),
  foreign key (sale_id, line_no) references public.sale_lines);

create table if not exists public.sale_payments (
  sale_id uuid not null references public.sales, payment_no integer not null, tender text not null,
  amount bigint not null default 0, tendered bigint, change bigint, reference text,
  primary key (sale_id, payment_no));

create table if not exists public.inventory_adjustments (
  id uuid primary key, store_id integer not null, product_id uuid not null, quantity_before bigint,
  quantity_delta bigint not null, reason text not null, note text, user_id uuid not null,
  occurred_at timestamptz not null, business_date date not null);

create table if not exists public.z_reports (
  id uuid primary key, store_id integer not null, register_id uuid not null, session_id uuid not null unique,
  number integer not null, opened_at timestamptz not null, closed_at timestamptz not null,
  business_date date not null, cashier_id uuid not null,
  opening_amount bigint not null default 0, cash_sales bigint not null default 0,
  cash_refunds bigint not null default 0, expected_cash bigint not null default 0,
  declared_cash bigint not null default 0, over_short bigint not null default 0,
  card_sales bigint not null default 0, void_count integer not null default 0,
  void_total bigint not null default 0, transaction_count integer not null default 0,
  tax_by_rate jsonb not null default '{}', totals_by_tender jsonb not null default '{}',
  declared_by_denomination jsonb);

create table if not exists public.zz_reports (
  id uuid primary key, store_id integer not null, number integer not null, month text not null,
  total_sales bigint not null default 0, total_refunds bigint not null default 0,
  total_tax bigint not null default 0, cash_total bigint not null default 0, card_total bigint not null default 0,
  z_report_ids uuid[] not null);

create table if not exists public.transfers (
  id uuid primary key, number text not null, from_store_id integer not null, to_store_id integer not null,
  status text not null check (status in ('draft', 'pending', 'in_transit', 'cancelled')),
  tracking_note text, created_by uuid not null, submitted_at timestamptz, shipped_at timestamptz,
  updated_at timestamptz not null default now());

create table if not exists public.transfer_lines (
  transfer_id uuid not null references public.transfers deferrable initially immediate,
  line_no integer not null, product_id uuid not null, quantity bigint not null,
  primary key (transfer_id, line_no));

create table if not exists public.transfer_receipts (
  transfer_id uuid primary key, received_by uuid not null, received_at timestamptz not null);

create table if not exists public.transfer_receipt_lines (
  transfer_id uuid not null references public.transfer_receipts deferrable initially immediate,
  line_no integer not null, quantity bigint not null,
  primary key (transfer_id, line_no));
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
  await db.raw(identityTable('store'));
  await db.raw(hqOwnedTables('deferrable initially immediate'));
  await db.raw(STORE_OWNED);
}

export async function down(db: Knex): Promise<void> {
  const tables = [...HQ_OWNED_NAMES, ...STORE_OWNED_NAMES].map((table) => `public.${table}`).join(', ');
  await db.raw(`drop table ${tables} cascade; drop table possync.identity`);
}
