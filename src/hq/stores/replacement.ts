/**
 * What an empty server needs to take over from a lost one: the next epoch, and the rows its numbering and open work
 * continue from. They are sent once and applied there, not captured.
 */
import { queryMaybe, type Queryable } from '../../db/transaction.ts';

type Continuation = [string, Record<string, unknown>][];

/** Ends the epoch in which the lost server was; nothing it may still send in it is taken. */
export async function startEpochForReplacement(tx: Queryable, storeId: number): Promise<number> {
  const row = await queryMaybe<{ epoch: number }>(
    tx,
    `update possync.inbox set epoch = epoch + 1, seq = 0, chain = '', fence = null
      where store_id = $1::integer returning epoch`,
    [storeId],
  );
  return row?.epoch ?? 1;
}

/**
 * Parents first. Each statement gives rows as the store has them: HQ's own columns are taken out, and of the
 * children of a sale the keys they got from their header.
 */
const ROWS: readonly (readonly [table: string, sql: string])[] = [
  [
    'registers',
    `select to_jsonb(r) - 'received_at' as row from public.registers r where r.store_id = $1::integer`,
  ],
  [
    'register_sessions',
    `select to_jsonb(r) - 'received_at' as row from public.register_sessions r
      where r.store_id = $1::integer
        and (r.status <> 'closed' or r.id in (select x.session_id from last_sales x)
             or r.id in (select z.session_id from last_z z))`,
  ],
  [
    'sales',
    `select to_jsonb(r) - 'received_at' as row from public.sales r
      where r.store_id = $1::integer and r.id in (select x.id from last_sales x)`,
  ],
  ...(['sale_lines', 'sale_line_taxes', 'sale_payments'] as const).map(
    (table) =>
      [
        table,
        `select to_jsonb(r) - 'received_at' - 'store_id' - 'business_date' as row from public.${table} r
          where r.store_id = $1::integer and r.sale_id in (select x.id from last_sales x)`,
      ] as const,
  ),
  [
    'z_reports',
    `select to_jsonb(r) - 'received_at' as row from public.z_reports r
      where r.store_id = $1::integer and r.id in (select z.id from last_z z)`,
  ],
  [
    'zz_reports',
    `select to_jsonb(r) - 'received_at' as row from public.zz_reports r
      where r.store_id = $1::integer order by r.number desc limit 1`,
  ],
  [
    'transfers',
    `select to_jsonb(r) - 'received_at' as row from public.transfers r where r.id in (select t.id from open_transfers t)`,
  ],
  [
    'transfer_lines',
    `select to_jsonb(r) - 'received_at' as row from public.transfer_lines r
      where r.transfer_id in (select t.id from open_transfers t)`,
  ],
];

/** The newest sale and Z report of each register, and the store's own transfers that nobody has received. */
const FROM = `
with last_sales as (
  select distinct on (s.register_id) s.id, s.session_id from public.sales s
   where s.store_id = $1::integer order by s.register_id, s.occurred_at desc, s.id desc
), last_z as (
  select distinct on (z.register_id) z.id, z.session_id from public.z_reports z
   where z.store_id = $1::integer order by z.register_id, z.number desc
), open_transfers as (
  select t.id from public.transfers t
   where t.from_store_id = $1::integer and t.status in ('pending', 'in_transit')
     and not exists (select from public.transfer_receipts c where c.transfer_id = t.id)
)`;

export async function readContinuation(tx: Queryable, storeId: number): Promise<Continuation> {
  const rows: Continuation = [];
  for (const [table, sql] of ROWS) {
    const found = await tx.query<{ row: string }>(`${FROM} ${sql}`, [storeId]);
    for (const { row } of found.rows) rows.push([table, JSON.parse(row) as Record<string, unknown>]);
  }
  return rows;
}
