/**
 * The reference tables of the POS applications (a contract: outside programs read and write them with plain SQL).
 *
 * HQ and store share the HQ-owned tables; only in a store are their unique and foreign-key constraints deferrable,
 * because there one transaction applies a whole head-office change in any order (two products may swap their SKUs).
 * Primary keys are never deferrable: PostgreSQL refuses a foreign key to a deferrable key.
 */

/** The HQ-owned tables, parents first. `deferrable` is the clause put behind each unique and foreign key. */
export function hqOwnedTables(deferrable: '' | 'deferrable initially immediate'): string {
  const d = deferrable;
  const owned = `active boolean not null default true, updated_at timestamptz not null default now()`;
  return `
create table if not exists public.stores (
  id integer primary key check (id > 0), -- 0 means "all stores" in the feed
  code text not null unique ${d}, name text not null, address text, phone text,
  time_zone text not null, ${owned});

create table if not exists public.departments (
  id uuid primary key, code text not null unique ${d}, name text not null,
  parent_id uuid references public.departments ${d}, ${owned});
create index if not exists departments_parent_id on public.departments (parent_id);

create table if not exists public.tax_rates (
  id uuid primary key, code text not null unique ${d}, name text not null,
  rate_bp integer not null, compound boolean not null default false,
  compounds_on uuid references public.tax_rates ${d}, ${owned});

create table if not exists public.products (
  id uuid primary key, sku text not null unique ${d}, barcode text, name text not null, description text,
  price numeric(14,4) not null, cost numeric(14,4),
  department_id uuid references public.departments ${d},
  tax_rate_id uuid references public.tax_rates ${d},
  low_stock_threshold bigint, ${owned});
create index if not exists products_department_id on public.products (department_id);
create index if not exists products_tax_rate_id on public.products (tax_rate_id);
create index if not exists products_barcode on public.products (barcode);

create table if not exists public.store_prices (
  store_id integer not null, product_id uuid not null references public.products ${d},
  price numeric(14,4) not null, ${owned}, primary key (store_id, product_id));
create index if not exists store_prices_product_id on public.store_prices (product_id);

create table if not exists public.roles (
  id uuid primary key, name text not null unique ${d}, ${owned});

create table if not exists public.role_permissions (
  role_id uuid not null references public.roles ${d}, permission text not null, ${owned},
  primary key (role_id, permission));

create table if not exists public.users (
  id uuid primary key, username text not null unique ${d}, display_name text not null,
  pin_hash text not null, ${owned});

create table if not exists public.user_store_roles (
  id uuid primary key,
  user_id uuid not null references public.users ${d},
  role_id uuid not null references public.roles ${d},
  store_id integer references public.stores ${d}, -- null = every store
  ${owned});
create index if not exists user_store_roles_user_id on public.user_store_roles (user_id);
create index if not exists user_store_roles_role_id on public.user_store_roles (role_id);
`;
}

/** Dropped in reverse order of creation. */
export const HQ_OWNED_NAMES = [
  'stores',
  'departments',
  'tax_rates',
  'products',
  'store_prices',
  'roles',
  'role_permissions',
  'users',
  'user_store_roles',
] as const;
