/** SQL: what the watch reads, again and again, from the databases of HQ and the stores; each in one snapshot. */
import { queryMaybe, queryOne, type Queryable } from '../../src/db/transaction.ts';
import { HALVES } from './office.ts';

export interface Half {
  readonly what: string;
  readonly which: string;
  readonly seen: string;
}

export async function readHalves(db: Queryable): Promise<Half[]> {
  const { rows } = await db.query<{ what: string; which: string; seen: string }>(HALVES);
  return rows;
}

export async function readHalted(store: Queryable): Promise<string | null> {
  // The breaker is HQ's: the store goes on asking, and is told it each time.
  const row = await queryMaybe<{ halted: string | null }>(
    store,
    `select coalesce(s.halted, case when s.last_error = 'PS-UP-BREAKER' then s.last_error end) as halted
       from possync.sending s`,
  );
  return row?.halted ?? null;
}

export interface StoreReading {
  readonly cursor: number;
  readonly nonce: string | null;
  readonly epoch: number;
  readonly sealed: number;
  readonly ackedEpoch: number;
  readonly acked: number;
  readonly chain: string;
}

export async function readStore(store: Queryable): Promise<StoreReading> {
  return queryOne<StoreReading & Record<string, unknown>>(
    store,
    `select c.pos as cursor, c.nonce::text as nonce, s.epoch, s.seq as sealed, d.epoch as "ackedEpoch", d.seq as acked,
            encode(d.chain, 'hex') as chain
       from possync.cursor c, possync.state s, possync.sending d`,
  );
}

export interface InboxReading {
  readonly store_id: number;
  readonly epoch: number;
  readonly seq: number;
  readonly chain: string;
}

export async function readHead(hq: Queryable): Promise<{ head: number; inboxes: InboxReading[] }> {
  const { head, inboxes } = await queryOne<{ head: number; inboxes: string }>(
    hq,
    `select h.pos as head,
            (select coalesce(json_agg(json_build_object('store_id', i.store_id, 'epoch', i.epoch, 'seq', i.seq,
                                                       'chain', encode(i.chain, 'hex'))), '[]')::text
               from possync.inbox i) as inboxes
       from possync.head h`,
  );
  return { head, inboxes: JSON.parse(inboxes) as InboxReading[] };
}

/** A record twice, although its key is there once a day: a sale that met two business dates. */
const DOUBLED = `
select 'sale ' || s.id as what from public.sales s group by s.store_id, s.id having count(*) > 1
union all
select 'adjustment ' || a.id from public.inventory_adjustments a group by a.store_id, a.id having count(*) > 1
union all
select 'line ' || l.sale_id || ' ' || l.line_no from public.sale_lines l
 group by l.store_id, l.sale_id, l.line_no having count(*) > 1`;

export async function readDoubled(hq: Queryable): Promise<string[]> {
  return texts(hq, DOUBLED);
}

/** An effect whose cause is not there: whatever arrives, arrives after what it hangs on (invariant 14). */
const CAUSELESS = `
select s.session_id::text as id, 'sale ' || s.id || ' without its session' as what from public.sales s
 where not exists (select from public.register_sessions x where x.store_id = s.store_id and x.id = s.session_id)
union all
select s.original_sale_id::text, 'refund ' || s.id || ' without its sale' from public.sales s
 where s.original_sale_id is not null
   and not exists (select from public.sales x where x.store_id = s.store_id and x.id = s.original_sale_id)
union all
select x.register_id::text, 'session ' || x.id || ' without its register' from public.register_sessions x
 where not exists (select from public.registers r where r.store_id = x.store_id and r.id = x.register_id)
union all
select z.session_id::text, 'Z report ' || z.id || ' without its closed session' from public.z_reports z
 where not exists (select from public.register_sessions x
                    where x.store_id = z.store_id and x.id = z.session_id and x.status = 'closed')
union all
select s.id::text, 'half a sale: ' || s.id from public.sales s
 where not exists (select from public.sale_lines l
                    where l.store_id = s.store_id and l.business_date = s.business_date and l.sale_id = s.id)
    or not exists (select from public.sale_payments p
                    where p.store_id = s.store_id and p.business_date = s.business_date and p.sale_id = s.id)
union all
select r.transfer_id::text, 'receipt ' || r.transfer_id || ' of what was not shipped' from public.transfer_receipts r
 where not exists (select from public.transfers t where t.id = r.transfer_id and t.status = 'in_transit')`;

export async function readCauseless(hq: Queryable): Promise<{ id: string; what: string }[]> {
  const { rows } = await hq.query<{ id: string; what: string }>(CAUSELESS);
  return rows;
}

/** Steps of an inbox that do not begin where the one before ended, or go back within an epoch. */
const BROKEN_STEPS = `
select o.store_id || ': ' || o.from_epoch || '/' || o.from_seq || ' -> ' || o.to_epoch || '/' || o.to_seq
       || ' after ' || o.was_epoch || '/' || o.was_seq as what
  from (select s.n, s.store_id, s.from_epoch, s.from_seq, s.to_epoch, s.to_seq,
               lag(s.to_epoch, 1, 1) over w as was_epoch, lag(s.to_seq, 1, 0::bigint) over w as was_seq
          from torture.steps s window w as (partition by s.store_id order by s.n)) o
 where (o.from_epoch, o.from_seq) is distinct from (o.was_epoch, o.was_seq)
    or (o.to_epoch, o.to_seq) <= (o.from_epoch, o.from_seq)`;

export async function readBrokenSteps(hq: Queryable): Promise<string[]> {
  return texts(hq, BROKEN_STEPS);
}

export interface Dead {
  readonly store_id: number;
  readonly seq: number;
  readonly kind: string;
  readonly error: string;
  readonly body: string;
}

export async function readDead(hq: Queryable): Promise<Dead[]> {
  const { rows } = await hq.query<{
    store_id: number;
    seq: number;
    kind: string;
    error: string;
    body: string;
  }>(
    'select d.store_id, d.seq, d.kind, d.error, d.body from possync.dead d order by d.store_id, d.epoch, d.seq',
  );
  return rows;
}

/** Transfers that nobody but their store may know of. */
export async function readDrafts(store: Queryable): Promise<Set<string>> {
  return new Set(
    await texts(store, `select t.id::text as what from public.transfers t where t.status = 'draft'`),
  );
}

async function texts(db: Queryable, sql: string): Promise<string[]> {
  const { rows } = await db.query<{ what: string }>(sql);
  return rows.map(({ what }) => what);
}
