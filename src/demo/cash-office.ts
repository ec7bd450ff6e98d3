/**
 * What every till does with plain SQL around its sales: opening a register session, and closing it with a Z report
 * whose sums come from the session's own rows (the rules of the domain page).
 */
import { uuidv7 } from '../core/ids.ts';
import { queryOne, type Queryable } from '../db/transaction.ts';

export interface SessionToOpen {
  readonly id: string;
  readonly storeId: number;
  readonly registerId: string;
  readonly userId: string;
  readonly openedAt: string;
  /** Cents in the drawer at the start. */
  readonly openingAmount: number;
}

export async function openSession(db: Queryable, session: SessionToOpen): Promise<void> {
  await db.query(
    `insert into public.register_sessions
       (id, store_id, register_id, user_id, status, opened_at, opening_amount, updated_at)
     values ($1::uuid, $2::int, $3::uuid, $4::uuid, 'open', $5::timestamptz, $6::bigint, $5::timestamptz)`,
    [
      session.id,
      session.storeId,
      session.registerId,
      session.userId,
      session.openedAt,
      session.openingAmount,
    ],
  );
}

export interface SessionToClose {
  readonly sessionId: string;
  /** Of the Z report; a new one unless given. */
  readonly reportId?: string;
  readonly closedAt: string;
  /** The day the report counts for (YYYY-MM-DD). */
  readonly businessDate: string;
  /** What the cashier counted minus what was expected, in cents. */
  readonly overShort: number;
}

/**
 * Closes a session: status closing, then the Z report and status closed, as two transactions of the till.
 *
 * Sums over the session's sales that are not voided: cash_sales and card_sales are payments of kind sale with that
 * tender, cash_refunds the size of cash payments of kind refund; the number follows the register's last one.
 */
export async function closeSession(db: Queryable, close: SessionToClose): Promise<number> {
  await db.query(
    `update public.register_sessions set status = 'closing', updated_at = $2::timestamptz where id = $1::uuid`,
    [close.sessionId, close.closedAt],
  );
  await db.query('begin');
  try {
    const { number } = await queryOne<{ number: number }>(db, INSERT_Z_REPORT, [
      close.reportId ?? uuidv7(),
      close.sessionId,
      close.closedAt,
      close.businessDate,
      close.overShort,
    ]);
    await db.query(
      `update public.register_sessions
          set status = 'closed', closed_at = $2::timestamptz, updated_at = $2::timestamptz
        where id = $1::uuid`,
      [close.sessionId, close.closedAt],
    );
    await db.query('commit');
    return number;
  } catch (error) {
    await db.query('rollback');
    throw error;
  }
}

const INSERT_Z_REPORT = `
with own as (
  select s.id, s.kind, s.status, s.total from public.sales s where s.session_id = $2::uuid),
paid as (
  select o.kind, p.tender, sum(p.amount)::bigint as amount
    from own o join public.sale_payments p on p.sale_id = o.id
   where o.status <> 'voided' group by o.kind, p.tender),
sums as (
  select coalesce(sum(amount) filter (where kind = 'sale' and tender = 'cash'), 0)::bigint as cash_sales,
         coalesce(sum(amount) filter (where kind = 'sale' and tender = 'card'), 0)::bigint as card_sales,
         coalesce(sum(abs(amount)) filter (where kind = 'refund' and tender = 'cash'), 0)::bigint as cash_refunds,
         coalesce((select jsonb_object_agg(tender, amount)
                     from (select tender, sum(amount)::bigint as amount from paid group by tender) t), '{}') as by_tender
    from paid),
counts as (
  select count(*) filter (where status <> 'voided')::int as transactions,
         count(*) filter (where status = 'voided')::int as voids,
         coalesce(sum(total) filter (where status = 'voided'), 0)::bigint as void_total
    from own),
taxes as (
  select coalesce(jsonb_object_agg(rate_bp, amount), '{}') as by_rate
    from (select t.rate_bp::text, sum(t.amount)::bigint as amount
            from own o join public.sale_line_taxes t on t.sale_id = o.id
           where o.status <> 'voided' group by t.rate_bp) r)
insert into public.z_reports
  (id, store_id, register_id, session_id, number, opened_at, closed_at, business_date, cashier_id, opening_amount,
   cash_sales, cash_refunds, expected_cash, declared_cash, over_short, card_sales, void_count, void_total,
   transaction_count, tax_by_rate, totals_by_tender)
select $1::uuid, s.store_id, s.register_id, s.id,
       coalesce((select max(z.number) from public.z_reports z where z.register_id = s.register_id), 0) + 1,
       s.opened_at, $3::timestamptz, $4::date, s.user_id, s.opening_amount,
       sums.cash_sales, sums.cash_refunds, s.opening_amount + sums.cash_sales - sums.cash_refunds,
       s.opening_amount + sums.cash_sales - sums.cash_refunds + $5::bigint, $5::bigint, sums.card_sales,
       counts.voids, counts.void_total, counts.transactions, taxes.by_rate, sums.by_tender
  from public.register_sessions s, sums, counts, taxes
 where s.id = $2::uuid
returning number`;
