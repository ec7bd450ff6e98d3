/** A head office that never rests: random transactions of its programs, and an oracle of what each round must show. */
import { uuidv7 } from '../../src/core/ids.ts';
import type { Queryable } from '../../src/db/transaction.ts';
import { queryOne } from '../../src/db/transaction.ts';
import type { Random } from '../support/random.ts';
import { stateQuery } from '../support/feed.ts';

export const STORES = [1, 2, 3] as const;
export const PAIRS = 15;
/** Two products of a pair always cost this together: a half transaction shows at once. */
export const PAIR_SUM = 1_000;

/** The oracle: in the transaction of every round, what each store must have once it has applied that round. */
export async function installOracle(db: Queryable): Promise<void> {
  await db.query(`
    create table public.oracle (head bigint, store_id integer, state text, primary key (head, store_id));
    create function public.note_oracle() returns trigger language plpgsql as $$
    begin
      insert into public.oracle (head, store_id, state)
      select new.head, s.id, (${stateQuery('hq', 's.id')}) from (values ${STORES.map((id) => `(${id})`).join(', ')}) s (id);
      return null;
    end $$;
    create trigger note_oracle after insert on possync.rounds for each row execute function public.note_oracle();`);
}

export async function readOracle(db: Queryable, head: number, storeId: number): Promise<string> {
  const { state } = await queryOne<{ state: string }>(
    db,
    'select o.state from public.oracle o where o.head = $1::bigint and o.store_id = $2::integer',
    [head, storeId],
  );
  return state;
}

export async function furnish(db: Queryable): Promise<void> {
  for (const id of STORES)
    await db.query(`insert into public.stores (id, code, name, time_zone) values ($1, $2, $2, 'UTC')`, [
      id,
      `S-${id}`,
    ]);
  await db.query(`
    insert into public.departments (id, code, name) select gen_random_uuid(), 'D' || i, 'd' from generate_series(1, 5) i;
    insert into public.products (id, sku, name, price, barcode)
    select gen_random_uuid(), 'P' || i, 'p', ${PAIR_SUM / 2}, (i / 2)::text from generate_series(0, ${2 * PAIRS - 1}) i;
    insert into public.roles (id, name) select gen_random_uuid(), 'R' || i from generate_series(1, 3) i;
    insert into public.users (id, username, display_name, pin_hash)
    select gen_random_uuid(), 'u' || i, 'u', 'hash' from generate_series(1, 8) i;`);
}

/** Pairs of products that do not add up: the barcode names the pair. Inactive rows are those a store has kept. */
export async function brokenPairs(db: Queryable): Promise<number> {
  const { n } = await queryOne<{ n: number }>(
    db,
    `select count(*) as n from (select 1 from public.products p where p.active
       group by p.barcode having sum(p.price) <> ${PAIR_SUM} or count(*) <> 2) broken`,
  );
  return n;
}

const some = (table: string, n = 1): string =>
  `(select x.id from public.${table} x order by random() limit ${n})`;

/** Both products of a random pair; none if another writer has just replaced them. */
async function lockPair(db: Queryable, random: Random): Promise<{ id: string; sku: string }[]> {
  const { rows } = await db.query<{ id: string; sku: string }>(
    'select p.id, p.sku from public.products p where p.barcode = $1 order by p.id for update',
    [random.int(PAIRS).toString()],
  );
  return rows;
}

type Action = (db: Queryable, random: Random) => Promise<unknown>;

const ACTIONS: readonly { weight: number; run: Action }[] = [
  {
    weight: 30, // a pair changes its prices, half a transaction apart
    run: async (db, random) => {
      const [a, b] = await lockPair(db, random);
      if (a === undefined || b === undefined) return;
      const delta = random.int(50) - 25;
      await db.query('update public.products set price = price + $1 where id = $2', [delta, a.id]);
      if (random.chance(0.3)) await db.query('select pg_sleep(0.01)'); // lets rounds fall between the two halves
      await db.query('update public.products set price = price - $1 where id = $2', [delta, b.id]);
    },
  },
  {
    weight: 20, // a product goes into a new department
    run: async (db, random) => {
      const id = uuidv7();
      await db.query(
        `insert into public.departments (id, code, name, parent_id)
         values ($1, 'N' || $1::uuid, 'new', case when $2 then ${some('departments')} end)`,
        [id, random.chance(0.5)],
      );
      await db.query(`update public.products set department_id = $1 where id in ${some('products', 2)}`, [
        id,
      ]);
    },
  },
  {
    weight: 10, // a department goes, its products and children before it
    run: async (db) => {
      const { rows } = await db.query<{ id: string }>(
        `select d.id from public.departments d where d.code like 'N%' order by random() limit 1`,
      );
      const id = rows[0]?.id;
      await db.query('update public.products set department_id = null where department_id = $1', [id]);
      await db.query('update public.departments set parent_id = null where parent_id = $1', [id]);
      await db.query('delete from public.departments where id = $1', [id]);
    },
  },
  {
    weight: 10,
    run: (db) =>
      db.query(
        `update public.departments set name = left(name || 'x', 20) where id in ${some('departments', 3)}`,
      ),
  },
  {
    weight: 6, // two products of a pair swap their SKUs
    run: async (db, random) => {
      const [a, b] = await lockPair(db, random);
      if (a === undefined || b === undefined) return;
      await db.query(`update public.products set sku = '~' where id = $1`, [a.id]);
      await db.query('update public.products set sku = $2 where id = $1', [b.id, a.sku]);
      await db.query('update public.products set sku = $2 where id = $1', [a.id, b.sku]);
    },
  },
  {
    weight: 5, // a pair goes, and another one takes its SKUs
    run: async (db, random) => {
      const pair = random.int(PAIRS).toString();
      await db.query(
        'delete from public.store_prices where product_id in (select id from public.products where barcode = $1)',
        [pair],
      );
      await db.query(
        `with gone as (delete from public.products where barcode = $1 returning sku)
         select from gone`,
        [pair],
      );
      await db.query(
        `insert into public.products (id, sku, name, price, barcode)
         select gen_random_uuid(), 'P' || i, 'again', ${PAIR_SUM / 2}, $1::text
           from generate_series(2 * $1::integer, 2 * $1::integer + 1) i`,
        [pair],
      );
    },
  },
  {
    weight: 12, // somebody is assigned to a store, or to all
    run: (db, random) =>
      db.query(
        `insert into public.user_store_roles (id, user_id, role_id, store_id)
         select $1, ${some('users')}, ${some('roles')}, $2`,
        [uuidv7(), random.chance(0.2) ? null : random.pick(STORES)],
      ),
  },
  {
    weight: 8, // somebody moves
    run: (db, random) =>
      db.query(
        `update public.user_store_roles set store_id = $1, active = $2 where id in ${some('user_store_roles', 2)}`,
        [random.chance(0.2) ? null : random.pick(STORES), random.chance(0.8)],
      ),
  },
  {
    weight: 8,
    run: (db) => db.query(`delete from public.user_store_roles where id in ${some('user_store_roles', 2)}`),
  },
  {
    weight: 4, // one leaves for good, another comes and takes the name
    run: async (db, random) => {
      const { rows } = await db.query<{ id: string; username: string }>(
        `select u.id, u.username from public.users u where u.id = ${some('users')} for update`,
      );
      const user = rows[0];
      if (user === undefined) return;
      if (random.chance(0.5)) {
        await db.query('update public.users set username = $2 where id = $1', [
          user.id,
          `${user.username}-${uuidv7()}`,
        ]);
      } else {
        await db.query('delete from public.user_store_roles where user_id = $1', [user.id]);
        await db.query('delete from public.users where id = $1', [user.id]);
      }
      await db.query(
        `insert into public.users (id, username, display_name, pin_hash) values ($1, $2, 'new', 'hash')`,
        [uuidv7(), user.username],
      );
    },
  },
  {
    weight: 8,
    run: (db, random) =>
      db.query(
        `insert into public.store_prices as s (store_id, product_id, price)
         select $1, ${some('products')}, $2
         on conflict (store_id, product_id) do update set price = excluded.price, active = not s.active`,
        [random.pick(STORES), random.int(900)],
      ),
  },
  {
    weight: 4,
    run: (db) =>
      db.query(
        'delete from public.store_prices where product_id in (select product_id from public.store_prices limit 2)',
      ),
  },
  {
    weight: 4,
    run: (db, random) =>
      db.query(
        `insert into public.role_permissions as p (role_id, permission) select ${some('roles')}, $1
         on conflict (role_id, permission) do update set active = not p.active`,
        [`pos:${random.int(5)}`],
      ),
  },
  { weight: 3, run: (db) => db.query('update public.products set updated_at = now()') },
];

const TOTAL = ACTIONS.reduce((sum, { weight }) => sum + weight, 0);

/** One transaction of one of HQ's programs; false if it met another one and was taken back. */
export async function randomTransaction(db: Queryable, random: Random): Promise<boolean> {
  let at = random.int(TOTAL);
  const action = ACTIONS.find(({ weight }) => (at -= weight) < 0);
  try {
    await db.query('begin');
    await action?.run(db, random);
    const keep = !random.chance(0.08);
    await db.query(keep ? 'commit' : 'rollback');
    return keep;
  } catch (error) {
    await db.query('rollback');
    // Deadlocks, and rows that another writer has just deleted or taken, are part of the day.
    if (['40P01', '23503', '23505', '40001'].includes((error as { code?: string }).code ?? '')) return false;
    throw error;
  }
}
