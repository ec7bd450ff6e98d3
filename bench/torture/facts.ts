/**
 * What a database says has happened at the tills, as facts of one form on both sides: `sale:<id>` with its sums,
 * `void:<id>`, `z:<id>` … Compared with what the tills themselves noted down outside of any database.
 */
import type { Queryable } from '../../src/db/transaction.ts';

export interface Facts {
  /** Fact → its content. */
  readonly content: ReadonlyMap<string, string>;
  /** Facts that are there more than once. */
  readonly doubled: readonly string[];
}

/** `$1` is the store; the same text runs at HQ and in the store. */
const FACTS = `
select 'register:' || r.id as fact, r.code as content from public.registers r where r.store_id = $1::integer
union all
select 'session:' || s.id, s.opening_amount::text from public.register_sessions s where s.store_id = $1::integer
union all
select 'sale:' || s.id,
       concat_ws('/', s.kind, s.receipt_number, s.total,
                 (select count(*) || '/' || coalesce(sum(l.total), 0) from public.sale_lines l where l.sale_id = s.id),
                 (select count(*) || '/' || coalesce(sum(t.amount), 0) from public.sale_line_taxes t where t.sale_id = s.id),
                 (select count(*) || '/' || coalesce(sum(p.amount), 0) from public.sale_payments p where p.sale_id = s.id))
  from public.sales s where s.store_id = $1::integer
union all
select 'void:' || s.id, '' from public.sales s where s.store_id = $1::integer and s.status = 'voided'
union all
select 'adjustment:' || a.id, a.quantity_delta::text from public.inventory_adjustments a where a.store_id = $1::integer
union all
select 'z:' || z.id, z.session_id::text from public.z_reports z where z.store_id = $1::integer
union all
select 'zz:' || z.id, z.month from public.zz_reports z where z.store_id = $1::integer
union all
select 'transfer:' || t.id, (select count(*) || '/' || sum(l.quantity) from public.transfer_lines l where l.transfer_id = t.id)
  from public.transfers t where t.from_store_id = $1::integer and t.status <> 'draft'
union all
select t.status || ':' || t.id, ''
  from public.transfers t where t.from_store_id = $1::integer and t.status in ('in_transit', 'cancelled')
union all
select 'receipt:' || r.transfer_id,
       (select count(*) || '/' || sum(l.quantity) from public.transfer_receipt_lines l where l.transfer_id = r.transfer_id)
  from public.transfer_receipts r join public.transfers t on t.id = r.transfer_id where t.to_store_id = $1::integer`;

export async function readFacts(db: Queryable, storeId: number): Promise<Facts> {
  const { rows } = await db.query<{ fact: string; content: string }>(FACTS, [storeId]);
  const content = new Map<string, string>();
  const doubled: string[] = [];
  for (const row of rows) {
    if (content.has(row.fact)) doubled.push(row.fact);
    content.set(row.fact, row.content);
  }
  return { content, doubled };
}

export function idOf(fact: string): string {
  return fact.slice(fact.indexOf(':') + 1);
}
