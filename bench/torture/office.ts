/**
 * The head office of the bench: things that only make sense together, changed together. Two products of a pair move
 * to a new department and share out one sum; a person and a role carry the same number. A store that shows one half
 * without the other has seen half a transaction.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type pg from 'pg';
import { uuidv7 } from '../../src/core/ids.ts';
import { withTransaction, type Queryable } from '../../src/db/transaction.ts';
import type { Random } from '../../test/support/random.ts';

const PAIRS = 40;
const PAIR_SUM = 10_000;
/** Products that nothing ties together: load. */
const SINGLES = 400;

export async function furnish(hq: Queryable): Promise<void> {
  const home = uuidv7();
  await hq.query(`insert into public.departments (id, code, name) values ($1::uuid, 'HOME', 'Home')`, [home]);
  await hq.query(
    `insert into public.products (id, sku, name, price, barcode, department_id)
     select gen_random_uuid(), 'PAIR-' || i, 'version 0', $2::bigint / 2, 'pair ' || i / 2, $1::uuid
       from generate_series(0, $3::integer - 1) i`,
    [home, PAIR_SUM, 2 * PAIRS],
  );
  await hq.query(
    `insert into public.products (id, sku, name, price)
     select gen_random_uuid(), 'SINGLE-' || i, 'Single ' || i, 100 + i from generate_series(1, $1::integer) i`,
    [SINGLES],
  );
  await hq.query(`
    insert into public.roles (id, name) select gen_random_uuid(), 'role ' || i || ' version 0' from generate_series(1, 5) i;
    insert into public.users (id, username, display_name, pin_hash)
    select gen_random_uuid(), 'person ' || i, 'version 0', 'hash' from generate_series(1, 5) i;
    insert into public.user_store_roles (id, user_id, role_id, store_id)
    select gen_random_uuid(), u.id, r.id, null from public.users u
      join public.roles r on split_part(r.name, ' ', 2) = split_part(u.username, ' ', 2);`);
}

/** One row per thing that does not fit together; the same text holds at HQ and in a store. */
export const HALVES = `
select 'pair' as what, p.barcode as which,
       json_agg(json_build_array(p.sku, p.price, p.name, p.department_id, p.active) order by p.sku)::text as seen
  from public.products p where p.barcode like 'pair %'
 group by p.barcode
having sum(p.price) <> ${PAIR_SUM} or count(*) <> 2 or count(distinct p.name) <> 1
    or count(distinct p.department_id) <> 1 or count(p.department_id) <> 2
union all
select 'person', u.username, u.display_name || ' but ' || r.name
  from public.users u
  join public.roles r on split_part(r.name, ' ', 2) = split_part(u.username, ' ', 2)
 where u.username like 'person %' and r.name like 'role %'
   and u.display_name <> 'version ' || split_part(r.name, ' ', 4)
union all
select 'department', p.sku, coalesce(d.name, 'none')
  from public.products p left join public.departments d on d.id = p.department_id
 where p.barcode like 'pair %' and p.name <> 'version 0' and d.name is distinct from 'for ' || p.name`;

export interface OfficeTally {
  changes: number;
  interrupted: number;
}

export async function runOffice(
  hq: pg.Pool,
  storeIds: readonly number[],
  random: Random,
  tally: OfficeTally,
  signal: AbortSignal,
): Promise<void> {
  for (let version = 1; !signal.aborted; version += 1) {
    try {
      await withTransaction(hq, (tx) => change(tx, storeIds, random, version));
      tally.changes += 1;
    } catch {
      tally.interrupted += 1; // HQ's own database is away: its users wait, as they would
      await pause(200);
    }
    await pause(random.int(120));
  }
}

async function change(
  tx: Queryable,
  storeIds: readonly number[],
  random: Random,
  version: number,
): Promise<void> {
  const draw = random.int(100);
  if (draw < 45) await movePair(tx, random, version);
  else if (draw < 60) await moveDuty(tx, random, version);
  else if (draw < 75)
    await tx.query(`update public.products set price = price + 1, updated_at = now() where sku = $1::text`, [
      `SINGLE-${1 + random.int(SINGLES)}`,
    ]);
  else if (draw < 83)
    await tx.query(
      `insert into public.store_prices as s (store_id, product_id, price)
       select $1::integer, p.id, $2::bigint from public.products p where p.sku = $3::text
       on conflict (store_id, product_id) do update set price = excluded.price, active = not s.active`,
      [random.pick(storeIds), 1 + random.int(900), `SINGLE-${1 + random.int(20)}`],
    );
  else if (draw < 90) await hire(tx, storeIds, random, version);
  else if (draw < 96)
    await tx.query(
      `insert into public.role_permissions as p (role_id, permission)
       select r.id, $2::text from public.roles r where r.name like 'role ' || $1::integer || ' %'
       on conflict (role_id, permission) do update set active = not p.active`,
      [1 + random.int(5), `pos:${random.int(6)}`],
    );
  // Many rows at once: a page of it must never be seen alone.
  else
    await tx.query(
      `update public.products set price = price + 1, updated_at = now() where sku like 'SINGLE-' || $1::integer || '%'`,
      [1 + random.int(9)],
    );
}

async function movePair(tx: Queryable, random: Random, version: number): Promise<void> {
  const department = uuidv7();
  const pair = random.int(PAIRS);
  const price = 1 + random.int(PAIR_SUM - 2);
  await tx.query(
    `insert into public.departments (id, code, name)
     values ($1::uuid, 'D-' || $1::uuid, 'for version ' || $2::integer)`,
    [department, version],
  );
  for (const [sku, share] of [
    [`PAIR-${2 * pair}`, price],
    [`PAIR-${2 * pair + 1}`, PAIR_SUM - price],
  ] as const) {
    await tx.query(
      `update public.products set price = $2::bigint, name = 'version ' || $3::integer, department_id = $4::uuid,
              updated_at = now() where sku = $1::text`,
      [sku, share, version, department],
    );
    if (random.chance(0.2)) await pause(15); // lets a round fall between the two halves
  }
}

async function moveDuty(tx: Queryable, random: Random, version: number): Promise<void> {
  const n = 1 + random.int(5);
  await tx.query(
    `update public.users set display_name = 'version ' || $2::integer where username = 'person ' || $1::integer`,
    [n, version],
  );
  if (random.chance(0.2)) await pause(15);
  await tx.query(
    `update public.roles set name = 'role ' || $1::integer || ' version ' || $2::integer where name like 'role ' || $1::integer || ' %'`,
    [n, version],
  );
}

/** Somebody comes to a store, and somebody leaves one. */
async function hire(
  tx: Queryable,
  storeIds: readonly number[],
  random: Random,
  version: number,
): Promise<void> {
  const userId = uuidv7();
  await tx.query(
    `insert into public.users (id, username, display_name, pin_hash) values ($1::uuid, 'temp ' || $2::integer || ' ' || $1::uuid, 'Temp', 'hash')`,
    [userId, version],
  );
  await tx.query(
    `insert into public.user_store_roles (id, user_id, role_id, store_id)
     select $1::uuid, $2::uuid, r.id, $3::integer from public.roles r order by r.name limit 1`,
    [uuidv7(), userId, random.pick(storeIds)],
  );
  await tx.query(
    `update public.user_store_roles set active = false
      where id = (select a.id from public.user_store_roles a where a.store_id is not null and a.active order by a.id limit 1)`,
  );
}
