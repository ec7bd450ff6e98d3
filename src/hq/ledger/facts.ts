/**
 * SQL: what HQ has of some sessions, as sums. Always from the keys outwards (LATERAL): whatever the planner believes of a
 * table of a hundred million rows, it can only look up the sessions asked for.
 *
 * Money is read as text: a sum may be beyond what a number of JavaScript, or a bigint, can hold.
 */
import type { Queryable } from '../../db/transaction.ts';
import { groupBy } from './group-by.ts';
import type { SessionFacts, Sum, ZReport } from './judge.ts';
import type { SessionKey } from './marks.ts';

export interface SessionRow extends SessionKey {
  readonly registerId: string | null;
  readonly userId: string | null;
  readonly status: string | null;
  readonly openingAmount: string | null;
  readonly completed: number;
  readonly voided: number;
}

type Keys = readonly [number[], string[]];

export function keysOf(keys: readonly SessionKey[]): Keys {
  return [keys.map(({ storeId }) => storeId), keys.map(({ id }) => id)];
}

/** The session's row, if it is here, and how many sales there are: cheap, for a store that is selling right now. */
export async function readSessions(tx: Queryable, keys: Keys): Promise<SessionRow[]> {
  const { rows } = await tx.query<SessionRow & Record<string, unknown>>(
    `select k.store_id as "storeId", k.id, s.register_id as "registerId", s.user_id as "userId", s.status,
            s.opening_amount::text as "openingAmount", n.completed, n.voided
       from unnest($1::int[], $2::uuid[]) as k(store_id, id)
       left join lateral (select x.register_id, x.user_id, x.status, x.opening_amount from public.register_sessions x
                           where x.store_id = k.store_id and x.id = k.id limit 1) s on true
      cross join lateral (
        select count(*) filter (where x.status <> 'voided') as completed, count(*) filter (where x.status = 'voided') as voided
          from public.sales x where x.store_id = k.store_id and x.session_id = k.id) n`,
    [...keys],
  );
  return rows;
}

interface DbZRow {
  storeId: number;
  id: string;
  sessionId: string;
  registerId: string;
  number: number;
  money: string[];
  voidCount: number;
  transactionCount: number;
  taxByRate: string;
  totalsByTender: string;
}

/** The Z reports of these sessions. */
export async function readZs(tx: Queryable, keys: Keys): Promise<ZReport[]> {
  const { rows } = await tx.query<DbZRow & Record<string, unknown>>(
    `select z.store_id as "storeId", z.id, z.session_id as "sessionId", z.register_id as "registerId", z.number,
            array[z.opening_amount, z.cash_sales, z.cash_refunds, z.expected_cash, z.declared_cash, z.over_short,
                  z.card_sales]::text[] as money,
            z.void_count as "voidCount", z.transaction_count as "transactionCount", z.tax_by_rate::text as "taxByRate",
            z.totals_by_tender::text as "totalsByTender"
       from unnest($1::int[], $2::uuid[]) as k(store_id, id)
      cross join lateral (select x.* from public.z_reports x where x.store_id = k.store_id and x.session_id = k.id
                           offset 0) z`,
    [...keys],
  );
  return rows.map((row) => {
    const { storeId, id, sessionId, registerId, number, voidCount, transactionCount } = row;
    const [opening, cashSales, cashRefunds, expected, declared, over, card] = row.money.map(BigInt);
    return {
      storeId,
      id,
      sessionId,
      registerId,
      number,
      voidCount,
      transactionCount,
      openingAmount: opening ?? 0n,
      cashSales: cashSales ?? 0n,
      cashRefunds: cashRefunds ?? 0n,
      expectedCash: expected ?? 0n,
      declaredCash: declared ?? 0n,
      overShort: over ?? 0n,
      cardSales: card ?? 0n,
      taxByRate: row.taxByRate,
      totalsByTender: row.totalsByTender,
    };
  });
}

type Paid = SessionFacts['paid'][number];
type Tax = SessionFacts['taxes'][number];

/** Totals of the sales of a session that are not voided. */
export interface Totals {
  readonly sales: bigint;
  readonly refunds: bigint;
  readonly salesTax: bigint;
  readonly refundsTax: bigint;
}

/** What a session's sales add up to; by `store session`. */
export interface Sums {
  readonly paid: ReadonlyMap<string, readonly Paid[]>;
  readonly taxes: ReadonlyMap<string, readonly Tax[]>;
  readonly totals: ReadonlyMap<string, Totals>;
}

export function textOf({ storeId, id }: SessionKey): string {
  return `${storeId} ${id}`;
}

/** The expensive part: only for sessions that have a Z report. */
export async function readSums(tx: Queryable, keys: Keys): Promise<Sums> {
  const paid = await tx.query<DbSum & { tender: string }>(
    `select k.store_id as "storeId", k.id, p.kind, p.tender, p.amount, p.size
       from unnest($1::int[], $2::uuid[]) as k(store_id, id)
      cross join lateral (
        select x.kind, y.tender, sum(y.amount)::text as amount, sum(abs(y.amount::numeric))::text as size
          from public.sales x
          join public.sale_payments y
            on y.store_id = x.store_id and y.business_date = x.business_date and y.sale_id = x.id
         where x.store_id = k.store_id and x.session_id = k.id and x.status <> 'voided'
         group by x.kind, y.tender) p`,
    [...keys],
  );
  const taxes = await tx.query<DbSum & { rateBp: number; rateId: string }>(
    `select k.store_id as "storeId", k.id, t.kind, t.rate_bp as "rateBp", t.tax_rate_id as "rateId", t.amount, t.size
       from unnest($1::int[], $2::uuid[]) as k(store_id, id)
      cross join lateral (
        select x.kind, y.rate_bp, y.tax_rate_id, sum(y.amount)::text as amount,
               sum(abs(y.amount::numeric))::text as size
          from public.sales x
          join public.sale_line_taxes y
            on y.store_id = x.store_id and y.business_date = x.business_date and y.sale_id = x.id
         where x.store_id = k.store_id and x.session_id = k.id and x.status <> 'voided'
         group by x.kind, y.rate_bp, y.tax_rate_id) t`,
    [...keys],
  );
  const totals = await tx.query<Omit<DbSum, 'kind'> & { tax: string; kind: string; taxSize: string }>(
    `select k.store_id as "storeId", k.id, t.kind, t.amount, t.size, t.tax, t."taxSize"
       from unnest($1::int[], $2::uuid[]) as k(store_id, id)
      cross join lateral (
        select x.kind, sum(x.total)::text as amount, sum(abs(x.total::numeric))::text as size,
               sum(x.tax_total)::text as tax, sum(abs(x.tax_total::numeric))::text as "taxSize"
          from public.sales x
         where x.store_id = k.store_id and x.session_id = k.id and x.status <> 'voided' group by x.kind) t`,
    [...keys],
  );
  const bySession = new Map<string, Totals>();
  for (const row of totals.rows) {
    const before = bySession.get(textOf(row)) ?? { sales: 0n, refunds: 0n, salesTax: 0n, refundsTax: 0n };
    if (row.kind === 'sale')
      bySession.set(textOf(row), { ...before, sales: BigInt(row.amount), salesTax: BigInt(row.tax) });
    if (row.kind === 'refund')
      bySession.set(textOf(row), { ...before, refunds: BigInt(row.size), refundsTax: BigInt(row.taxSize) });
  }
  return {
    paid: grouped(paid.rows, (row) => ({ ...sumOf(row), tender: row.tender })),
    taxes: grouped(taxes.rows, (row) => ({ ...sumOf(row), rateBp: row.rateBp, rateId: row.rateId })),
    totals: bySession,
  };
}

interface DbSum {
  readonly storeId: number;
  readonly id: string;
  readonly kind: string;
  readonly amount: string;
  readonly size: string;
}

function sumOf({ kind, amount, size }: DbSum): Sum {
  return { kind, amount: BigInt(amount), size: BigInt(size) };
}

function grouped<Row extends SessionKey, T>(rows: readonly Row[], read: (row: Row) => T): Map<string, T[]> {
  return new Map([...groupBy(rows, textOf)].map(([key, group]) => [key, group.map(read)]));
}

/** Sessions that a dead letter of one of these stores speaks of; as `store session`. */
export async function readDeadSessions(
  tx: Queryable,
  storeIds: readonly number[],
): Promise<ReadonlySet<string>> {
  const { rows } = await tx.query<SessionKey & Record<string, unknown>>(
    `select distinct d.store_id as "storeId", s.id
       from possync.dead d cross join lateral possync.sessions_of_dead(d.body, d.aggregates) as s(id)
      where d.store_id = any($1::int[])`,
    [storeIds],
  );
  return new Set(rows.map(textOf));
}

export interface UnknownProduct {
  readonly storeId: number;
  readonly productId: string;
  readonly sku: string;
}

/** Products that were sold in these sessions and that HQ does not have. */
export async function readUnknownProducts(tx: Queryable, keys: Keys): Promise<UnknownProduct[]> {
  const { rows } = await tx.query<UnknownProduct & Record<string, unknown>>(
    `select k.store_id as "storeId", u.product_id as "productId", min(u.sku) as sku
       from unnest($1::int[], $2::uuid[]) as k(store_id, id)
      cross join lateral (
        select y.product_id, left(min(y.sku), 100) as sku
          from public.sales x
          join public.sale_lines y
            on y.store_id = x.store_id and y.business_date = x.business_date and y.sale_id = x.id
         where x.store_id = k.store_id and x.session_id = k.id and y.product_id is not null
         group by y.product_id) u
      where not exists (select from public.products p where p.id = u.product_id)
      group by k.store_id, u.product_id`,
    [...keys],
  );
  return rows;
}
