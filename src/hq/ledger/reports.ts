/** SQL: the states of Z and ZZ reports, as a round writes them, and what the Z reports of a ZZ add up to. */
import type { Queryable } from '../../db/transaction.ts';
import type { Totals } from './facts.ts';
import type { Verdict, ZReport, ZzFacts, ZzReport } from './judge.ts';
import type { SessionKey } from './marks.ts';

export interface JudgedZ {
  readonly z: ZReport;
  readonly verdict: Verdict;
  readonly totals: Totals;
  readonly cardRefunds: bigint;
}

export interface TouchedZ {
  readonly storeId: number;
  readonly id: string;
  readonly registerId: string;
}

/** States of all Z reports of these sessions; returns those that were there and are there no more (deleted by hand). */
export async function writeZStates(
  tx: Queryable,
  [storeIds, sessionIds]: readonly [number[], string[]],
  judged: readonly JudgedZ[],
): Promise<TouchedZ[]> {
  const { rows: gone } = await tx.query<TouchedZ & Record<string, unknown>>(
    `delete from possync.ledger_z l
      using unnest($1::int[], $2::uuid[]) as k(store_id, id)
      where l.store_id = k.store_id and l.session_id = k.id and not (l.z_id = any($3::uuid[]))
      returning l.store_id as "storeId", l.z_id as id, l.register_id as "registerId"`,
    [storeIds, sessionIds, judged.map(({ z }) => z.id)],
  );
  if (judged.length > 0) {
    await tx.query(
      `insert into possync.ledger_z as l (store_id, z_id, session_id, register_id, number, state, why, facts)
       select d.store_id, d.z_id, d.session_id, d.register_id, d.number, d.state, d.why, d.facts
         from jsonb_to_recordset($1::jsonb) as d(store_id int, z_id uuid, session_id uuid, register_id uuid, number int,
              state text, why text, facts jsonb)
       on conflict (store_id, z_id) do update
          set session_id = excluded.session_id, register_id = excluded.register_id, number = excluded.number,
              since = case when l.state = excluded.state then l.since else now() end,
              state = excluded.state, why = excluded.why, facts = excluded.facts, judged_at = now()`,
      [JSON.stringify(judged.map(zRow))],
    );
  }
  return gone;
}

function zRow({ z, verdict, totals, cardRefunds }: JudgedZ): Record<string, unknown> {
  return {
    store_id: z.storeId,
    z_id: z.id,
    session_id: z.sessionId,
    register_id: z.registerId,
    number: z.number,
    state: verdict.state,
    why: verdict.why ?? null,
    facts: {
      sales: String(totals.sales),
      refunds: String(totals.refunds),
      sales_tax: String(totals.salesTax),
      refunds_tax: String(totals.refundsTax),
      card_refunds: String(cardRefunds),
    },
  };
}

interface DbZzRow extends Record<string, unknown> {
  storeId: number;
  id: string;
  number: number;
  month: string;
  money: string[];
  listed: number;
  distinct: number;
  here: number;
  complete: number;
  contradicted: number;
  missing: string[];
  sums: string[];
}

/** ZZ reports with one of these ids, or that list one of these Z reports; with what HQ has of what they list. */
export async function readZzs(
  tx: Queryable,
  marked: readonly SessionKey[],
  zs: readonly { readonly storeId: number; readonly id: string }[],
): Promise<{ zz: ZzReport; facts: ZzFacts }[]> {
  const { rows } = await tx.query<DbZzRow>(
    `select zz.store_id as "storeId", zz.id, zz.number, zz.month,
            array[zz.total_sales, zz.total_refunds, zz.total_tax, zz.cash_total, zz.card_total]::text[] as money,
            cardinality(zz.z_report_ids) as listed, t."distinct", t.here, t.complete, t.contradicted, t.missing, t.sums
       from public.zz_reports zz
      cross join lateral (
        select count(*) as "distinct", count(z.id) as here,
               count(*) filter (where l.state = 'complete') as complete,
               count(*) filter (where l.state = 'contradicted') as contradicted,
               coalesce((array_agg(i.id::text order by i.id) filter (where z.id is null))[1:3], '{}') as missing,
               array[coalesce(sum(z.cash_sales), 0), coalesce(sum(abs(z.cash_refunds::numeric)), 0),
                     coalesce(sum(z.card_sales), 0), coalesce(sum((l.facts ->> 'card_refunds')::numeric), 0),
                     coalesce(sum((l.facts ->> 'sales')::numeric), 0), coalesce(sum((l.facts ->> 'refunds')::numeric), 0),
                     coalesce(sum((l.facts ->> 'sales_tax')::numeric), 0),
                     coalesce(sum((l.facts ->> 'refunds_tax')::numeric), 0)]::text[] as sums
          from (select distinct u.id from unnest(zz.z_report_ids) as u(id)) i
          left join public.z_reports z on z.store_id = zz.store_id and z.id = i.id
          left join possync.ledger_z l on l.store_id = zz.store_id and l.z_id = z.id) t
      where zz.store_id = any($1::int[]) and (zz.id = any($2::uuid[]) or zz.z_report_ids && $3::uuid[])`,
    [
      [...new Set([...marked, ...zs].map(({ storeId }) => storeId))],
      marked.map(({ id }) => id),
      zs.map(({ id }) => id),
    ],
  );
  return rows.map((row) => ({ zz: zzOf(row), facts: zzFactsOf(row) }));
}

function zzOf({ storeId, id, number, month, money }: DbZzRow): ZzReport {
  const [sales, refunds, tax, cash, card] = money.map(BigInt);
  return {
    storeId,
    id,
    number,
    month,
    totalSales: sales ?? 0n,
    totalRefunds: refunds ?? 0n,
    totalTax: tax ?? 0n,
    cashTotal: cash ?? 0n,
    cardTotal: card ?? 0n,
  };
}

function zzFactsOf({ listed, distinct, here, complete, contradicted, missing, sums }: DbZzRow): ZzFacts {
  const [cashSales, cashRefunds, cardSales, cardRefunds, sales, refunds, salesTax, refundsTax] =
    sums.map(BigInt);
  return {
    listed,
    distinct,
    here,
    complete,
    contradicted,
    missing,
    cashSales: cashSales ?? 0n,
    cashRefunds: cashRefunds ?? 0n,
    cardSales: cardSales ?? 0n,
    cardRefunds: cardRefunds ?? 0n,
    sales: sales ?? 0n,
    refunds: refunds ?? 0n,
    salesTax: salesTax ?? 0n,
    refundsTax: refundsTax ?? 0n,
  };
}

export interface JudgedZz {
  readonly zz: ZzReport;
  readonly verdict: Verdict;
}

export async function writeZzStates(
  tx: Queryable,
  marked: readonly SessionKey[],
  judged: readonly JudgedZz[],
): Promise<void> {
  await tx.query(
    `delete from possync.ledger_zz l using unnest($1::int[], $2::uuid[]) as k(store_id, id)
      where l.store_id = k.store_id and l.zz_id = k.id and not (l.zz_id = any($3::uuid[]))`,
    [marked.map(({ storeId }) => storeId), marked.map(({ id }) => id), judged.map(({ zz }) => zz.id)],
  );
  const rows = judged.map(({ zz, verdict }) => ({
    store_id: zz.storeId,
    zz_id: zz.id,
    number: zz.number,
    month: zz.month,
    state: verdict.state,
    why: verdict.why ?? null,
  }));
  await tx.query(
    `insert into possync.ledger_zz as l (store_id, zz_id, number, month, state, why)
     select d.store_id, d.zz_id, d.number, d.month, d.state, d.why
       from jsonb_to_recordset($1::jsonb) as d(store_id int, zz_id uuid, number int, month text, state text, why text)
     on conflict (store_id, zz_id) do update
        set number = excluded.number, month = excluded.month,
            since = case when l.state = excluded.state then l.since else now() end,
            state = excluded.state, why = excluded.why, judged_at = now()`,
    [JSON.stringify(rows)],
  );
}
