/** The schema `possync` and the row that says what this database is; the first thing made on either side. */

/**
 * One database is HQ or one store, for ever: a second role, or another store's code, is refused. `id` names this
 * database: a store remembers that of its HQ, and a restored HQ keeps it.
 */
export function identityTable(role: 'hq' | 'store'): string {
  return `
create schema if not exists possync;
create table if not exists possync.identity (
  one boolean primary key default true check (one),
  id uuid not null default gen_random_uuid(),
  role text not null check (role in ('hq', 'store')),
  created_at timestamptz not null default now());
insert into possync.identity (role) values ('${role}') on conflict (one) do nothing;
`;
}
