/**
 * A backlog of sales as tills write them: a header, 5 or 6 lines (5.5 on average) and a payment, one transaction each.
 * A procedure of the server writes them, because a client per sale would measure the client.
 */
import { queryOne, type Queryable } from '../../src/db/transaction.ts';

export interface Backlog {
  readonly firstId: string;
  readonly lastId: string;
}

export const ROWS_PER_SALE = 7.5;

/** What a cashier takes in a shift: nobody sells for months in one session, and the ledger judges by the session. */
const SALES_PER_SESSION = 250;

/** What a till does when a shift ends: the old session closes, another opens. */
const NEXT_SHIFT = `
    update public.register_sessions x set status = 'closed', closed_at = now()
     where x.register_id = p_register and x.status = 'open';
    insert into public.register_sessions (id, store_id, register_id, user_id, status, opened_at,
                                          opening_amount)
    values (v_session, p_store, p_register, '0190a000-0000-7000-8000-000000000009', 'open', now(), 0);`;

/**
 * `columns`: further columns of lines and payments, and their `values` (`v_sale` is the header just written);
 * `sessions`: whether there are tables for the sessions.
 */
export async function installSales(
  db: Queryable,
  {
    columns = '',
    values = '',
    sessions = true,
  }: { columns?: string; values?: string; sessions?: boolean } = {},
): Promise<void> {
  await db.query(`create schema bench`);
  await db.query(`
create function bench.uuid7() returns uuid language sql volatile as $$
  select (lpad(to_hex((extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0') || '7'
          || substr(md5(random()::text), 1, 3) || '8' || substr(md5(random()::text), 1, 15))::uuid
$$`);
  await db.query(`
create procedure bench.sell(p_store integer, p_register uuid, p_sales integer, inout first_id uuid, inout last_id uuid)
language plpgsql as $$
declare v_sale public.sales;
        v_session uuid;
begin
  for i in 1 .. p_sales loop
    if (i - 1) % ${SALES_PER_SESSION} = 0 then
      v_session := bench.uuid7();${sessions ? NEXT_SHIFT : ''}
    end if;
    insert into public.sales (id, store_id, register_id, session_id, cashier_id, kind, status, receipt_number,
                              subtotal, tax_total, total, occurred_at, business_date)
    values (bench.uuid7(), p_store, p_register, v_session, '0190a000-0000-7000-8000-000000000009', 'sale', 'completed',
            'R1-' || i, 5000 + i % 900, 400, 5400 + i % 900, clock_timestamp(), current_date)
    returning * into v_sale;
    insert into public.sale_lines (${columns}sale_id, line_no, product_id, sku, name, quantity, unit_price, tax, total)
    select ${values}v_sale.id, n, ('0190b000-0000-7000-8000-' || lpad(((i * 7 + n * 131) % 5000)::text, 12, '0'))::uuid,
           'SKU-' || (i * 7 + n * 131) % 5000, 'Article no. ' || (i * 7 + n * 131) % 5000, 1000, 999.5, 80, 1000 + i % 7
      from generate_series(1, 5 + i % 2) n;
    insert into public.sale_payments (${columns}sale_id, payment_no, tender, amount, tendered)
    values (${values}v_sale.id, 1, case when i % 3 = 0 then 'cash' else 'card' end, v_sale.total, v_sale.total);
    if i = 1 then first_id := v_sale.id; end if;
    last_id := v_sale.id;
    commit;
  end loop;
end $$`);
}

export async function writeSales(
  db: Queryable,
  till: { readonly storeId: number; readonly registerId: string },
  sales: number,
): Promise<Backlog> {
  // How fast the backlog is written is not what is measured.
  await db.query('set synchronous_commit = off');
  const { first_id: firstId, last_id: lastId } = await queryOne<{ first_id: string; last_id: string }>(
    db,
    'call bench.sell($1::int, $2::uuid, $3::int, null, null)',
    [till.storeId, till.registerId, sales],
  );
  await db.query('set synchronous_commit = on');
  return { firstId, lastId };
}
