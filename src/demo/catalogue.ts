/** The head office of the demo: departments, taxes, products, roles and people, written with plain SQL. */
import { uuidv7 } from '../core/ids.ts';
import type { Random } from '../core/random.ts';
import type { Queryable } from '../db/transaction.ts';

const DEPARTMENTS = ['Grocery', 'Bakery', 'Drinks', 'Household', 'Fuel'] as const;
const GOODS = [
  'Apples',
  'Bread',
  'Coffee',
  'Soap',
  'Candles',
  'Tea',
  'Milk',
  'Rice',
  'Batteries',
  'Diesel',
] as const;

/** Fills an empty HQ: 5 departments, 2 tax rates, `products` products, 2 roles, a chain-wide manager. */
export async function fillHeadOffice(hq: Queryable, products: number): Promise<void> {
  const departments = DEPARTMENTS.map((name) => ({ id: uuidv7(), name }));
  const taxes = [
    { id: uuidv7(), name: 'Standard', rate: 825 },
    { id: uuidv7(), name: 'Reduced', rate: 200 },
  ];
  await hq.query(
    `insert into public.departments (id, code, name)
     select d.id, upper(left(d.name, 3)), d.name from unnest($1::uuid[], $2::text[]) as d(id, name)`,
    [departments.map((d) => d.id), departments.map((d) => d.name)],
  );
  await hq.query(
    `insert into public.tax_rates (id, code, name, rate_bp)
     select t.id, upper(left(t.name, 3)), t.name, t.rate from unnest($1::uuid[], $2::text[], $3::int[]) as t(id, name, rate)`,
    [taxes.map((t) => t.id), taxes.map((t) => t.name), taxes.map((t) => t.rate)],
  );
  await hq.query(
    `insert into public.products (id, sku, name, price, cost, department_id, tax_rate_id)
     select p.id, 'SKU-' || lpad(p.n::text, 5, '0'), p.name, 99 + (p.n * 37) % 4900, 50 + (p.n * 17) % 2500,
            ($3::uuid[])[1 + p.n % 5], ($4::uuid[])[1 + p.n % 2]
       from unnest($1::uuid[], $2::text[]) with ordinality as p(id, name, n)`,
    [
      Array.from({ length: products }, () => uuidv7()),
      Array.from({ length: products }, (_, n) => `${GOODS[n % GOODS.length] ?? 'Goods'} ${n + 1}`),
      departments.map((d) => d.id),
      taxes.map((t) => t.id),
    ],
  );
  await addRole(hq, 'Cashier', ['pos:sell', 'pos:refund']);
  await addRole(hq, 'Manager', ['pos:sell', 'pos:refund', 'pos:void_sale', 'pos:close_session']);
  await addUser(hq, 'ada', 'Manager', null);
}

async function addRole(hq: Queryable, name: string, permissions: readonly string[]): Promise<void> {
  await hq.query(
    `with role as (insert into public.roles (id, name) values ($1::uuid, $2::text) returning id)
     insert into public.role_permissions (role_id, permission) select role.id, p from role, unnest($3::text[]) as p`,
    [uuidv7(), name, permissions],
  );
}

/** A user with one role, in one store or (null) in every store. The PIN hash is opaque to possync. */
export async function addUser(
  hq: Queryable,
  username: string,
  role: string,
  storeId: number | null,
): Promise<void> {
  await hq.query(
    `with person as (
       insert into public.users (id, username, display_name, pin_hash)
       values ($1::uuid, $2::text, initcap($2::text), 'demo$' || md5($2::text)) returning id)
     insert into public.user_store_roles (id, user_id, role_id, store_id)
     select $3::uuid, person.id, r.id, $5::int from person, public.roles r where r.name = $4::text`,
    [uuidv7(), username, uuidv7(), role, storeId],
  );
}

/** One head-office decision, as the demo makes every second: a price, a role's permission, or a name. */
export async function changeSomething(hq: Queryable, random: Random): Promise<void> {
  const draw = random.int(10);
  if (draw < 7) {
    await hq.query(
      `update public.products set price = greatest(1, price + $2::int), updated_at = now()
        where id = (select id from public.products order by sku offset $1::int limit 1)`,
      [random.int(200), random.int(21) - 10],
    );
  } else if (draw < 9) {
    await hq.query(
      `update public.role_permissions set active = not active, updated_at = now()
        where permission = 'pos:refund' and role_id = (select id from public.roles where name = 'Cashier')`,
    );
  } else {
    await hq.query(
      `update public.departments set name = split_part(name, ' ', 1) || ' ' || $1::int, updated_at = now()
        where code = 'GRO'`,
      [random.int(1_000)],
    );
  }
}
