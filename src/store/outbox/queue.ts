/** SQL: what `possync queue ls`, `status` and the stat frame show; reads no body and takes no lock. */
import type pg from 'pg';
import { PossyncError } from '../../core/errors.ts';
import { queryMaybe, queryOne, type Queryable } from '../../db/transaction.ts';

export type EntryState = 'waiting' | 'sending' | 'parked';

export interface QueueCounts {
  /** Store transactions that HQ has not acknowledged, sealed or not: waiting + sending. */
  readonly queued: number;
  readonly waiting: number;
  readonly sending: number;
  /** HQ has them, refused or behind a refused one: counted beside the queue. */
  readonly parked: number;
  readonly queuedHigh: number;
  readonly unsealed: number;
  readonly bytes: number;
  readonly oldestAt: string | null;
  /** Records (a sale is one) per type; what is not sealed yet is left out. */
  readonly byType: Readonly<Record<string, number>>;
  readonly sealedSeq: number;
  readonly ackedSeq: number;
  readonly ackedAt: string | null;
  readonly halted: string | null;
  readonly haltedWhy: string | null;
  readonly lastError: string | null;
  readonly nextTryAt: string | null;
}

export interface QueueEntry {
  /** null: captured, but not sealed yet. */
  readonly epoch: number | null;
  readonly seq: number | null;
  /** Type and key of the first record. */
  readonly type: string;
  readonly key: string;
  readonly records: number;
  readonly bytes: number;
  readonly high: boolean;
  readonly capturedAt: string;
  readonly tries: number;
  readonly state: EntryState;
  readonly nextTryAt: string | null;
  /** It waits for this entry, the head of the queue. */
  readonly after: number | null;
  readonly lastError: string | null;
}

export interface QueueFilters {
  readonly type?: string;
  readonly state?: EntryState;
  readonly priority?: 'high' | 'normal';
  readonly olderThanMs?: number;
  readonly limit?: number;
  readonly sort?: 'send' | 'age' | 'tries' | 'bytes';
}

/** A daemon that was killed while sending leaves the mark behind; no request lasts this long. */
const SENDING = `d.sending_at > now() - interval '2 minutes'`;

interface DbCountsRow {
  entries: number;
  high: number;
  bytes: number;
  by_type: string;
  raw_entries: number;
  raw_high: number;
  raw_bytes: number;
  sending: number;
  parked: number;
  oldest_at: string | null;
  sealed_seq: number;
  acked_seq: number;
  acked_at: string | null;
  halted: string | null;
  halted_why: string | null;
  last_error: string | null;
  next_try_at: string | null;
}

/**
 * The queue as differences of running totals: the same speed for ten entries and for a million. What is not sealed yet
 * is read row by row, once: count(distinct (xid, root)) would sort it, on disk from some ten thousand rows on.
 */
export async function countQueue(db: Queryable): Promise<QueueCounts> {
  const row = await queryOne<DbCountsRow & pg.QueryResultRow>(
    db,
    `with left_over as (
       select t.what, sum(case t.side when 'sealed' then t.n else -t.n end)::bigint as n
         from possync.tally t group by t.what),
     captured as materialized (
       select r.xid, r.type, r.root, bool_or(r.high) as high, sum(octet_length(r.doc)) as bytes, min(r.at) as at,
              bool_or(r.op <> 'D') as kept
         from possync.raw r group by r.xid, r.type, r.root),
     unsealed as (
       select count(*) as entries, count(*) filter (where x.high) as high,
              coalesce(sum(x.bytes), 0)::bigint as bytes, min(x.at) as oldest_at
         from (select bool_or(c.high) as high, sum(c.bytes) as bytes, min(c.at) as at
                 from captured c group by c.xid) x),
     types as (
       select w.what, sum(w.n) as n
         from (select l.what, l.n from left_over l where l.what not like '#%'
               union all
               select c.type, count(*) from captured c where c.kept group by c.type) w
        group by w.what)
     select coalesce((select n from left_over where what = '#entries'), 0) as entries,
            coalesce((select n from left_over where what = '#high'), 0) as high,
            coalesce((select n from left_over where what = '#bytes'), 0) as bytes,
            coalesce((select json_object_agg(t.what, t.n) from types t where t.n <> 0)::text, '{}') as by_type,
            u.entries as raw_entries, u.high as raw_high, u.bytes as raw_bytes,
            case when ${SENDING} then d.try_last - d.try_first + 1 else 0 end as sending,
            cardinality(d.dead) as parked,
            coalesce((select o.captured_at from possync.outbox o where (o.epoch, o.seq) > (d.epoch, d.seq)
                       order by o.epoch, o.seq limit 1), u.oldest_at) as oldest_at,
            s.seq as sealed_seq, case when d.epoch = s.epoch then d.seq else 0 end as acked_seq,
            d.acked_at, d.halted, d.halted_why, d.last_error, d.next_try_at
       from possync.state s cross join possync.sending d cross join unsealed u`,
  );
  const queued = row.entries + row.raw_entries;
  const sending = Math.min(row.sending, row.entries);
  return {
    queued,
    waiting: queued - sending,
    sending,
    parked: row.parked,
    queuedHigh: row.high + row.raw_high,
    unsealed: row.raw_entries,
    bytes: row.bytes + row.raw_bytes,
    oldestAt: row.oldest_at,
    byType: JSON.parse(row.by_type) as Record<string, number>,
    sealedSeq: row.sealed_seq,
    ackedSeq: row.acked_seq,
    ackedAt: row.acked_at,
    halted: row.halted,
    haltedWhy: row.halted_why,
    lastError: row.last_error,
    nextTryAt: row.next_try_at,
  };
}

interface DbQueueRow {
  epoch: number | null;
  seq: number | null;
  type: string;
  key: string;
  records: number;
  bytes: number;
  high: boolean;
  captured_at: string;
  tries: number;
  state: EntryState;
  next_try_at: string | null;
  after: number | null;
  last_error: string | null;
}

/** Rows fetched at a time: constant memory, however long the queue. */
const FETCH = 500;

/**
 * The queue in send order: what HQ parked (always before what it has not acknowledged), what waits, what is not sealed
 * yet. Other orders look at the whole queue.
 */
export async function* listQueue(pool: pg.Pool, filters: QueueFilters = {}): AsyncGenerator<QueueEntry> {
  const client = await pool.connect();
  try {
    await client.query('begin isolation level repeatable read read only');
    await client.query(`set local statement_timeout = '30s'`);
    const { text, values } = listing(filters);
    await client.query(`declare possync_queue no scroll cursor for ${text}`, values);
    for (;;) {
      const { rows } = await client.query<DbQueueRow>(`fetch ${FETCH} from possync_queue`);
      for (const row of rows) yield toEntry(row);
      if (rows.length < FETCH) return;
    }
  } finally {
    await client.query('rollback').then(
      () => {
        client.release();
      },
      (error: unknown) => {
        client.release(error instanceof Error ? error : true);
      },
    );
  }
}

const SEALED = 'o.epoch, o.seq, o.type, o.key, o.records, o.bytes, o.high, o.captured_at, o.types';

const PARKED_ENTRIES = `select ${SEALED}, 0 as tries, 'parked' as state, null::timestamptz as next_try_at,
       null::bigint as after, 'PS-HQ-REJECTED' as last_error
  from possync.state s cross join possync.sending d
  join possync.outbox o on o.epoch = s.epoch and o.seq = any (d.dead)
 where (o.epoch, o.seq) <= (d.epoch, d.seq) order by o.epoch, o.seq`;

const WAITING_ENTRIES = `select ${SEALED}, case when h.attempted then d.tries else 0 end as tries,
       case when h.attempted and ${SENDING} then 'sending' else 'waiting' end as state,
       case when h.attempted then d.next_try_at end as next_try_at,
       case when not h.attempted and d.last_error is not null then d.try_first end as after,
       case when h.attempted then d.last_error end as last_error
  from possync.sending d cross join possync.outbox o
 cross join lateral (
   select coalesce(o.seq between d.try_first and d.try_last and o.epoch >= d.epoch, false) as attempted) h
 where (o.epoch, o.seq) > (d.epoch, d.seq) order by o.epoch, o.seq`;

const UNSEALED_ENTRIES = `select null::integer as epoch, null::bigint as seq,
       (array_agg(r.type order by r.id))[1] as type, (array_agg(r.root order by r.id))[1] as key,
       count(distinct (r.type, r.root))::integer as records, sum(octet_length(r.doc))::bigint as bytes,
       bool_or(r.high) as high, min(r.at) as captured_at, jsonb_object_agg(r.type, 1) as types,
       0 as tries, 'waiting' as state, null::timestamptz as next_try_at, null::bigint as after, null::text as last_error
  from possync.raw r where r.op <> 'D' group by r.xid order by max(r.id)`;

function listing({ type, state, priority, olderThanMs, limit, sort = 'send' }: QueueFilters): {
  text: string;
  values: unknown[];
} {
  const order = {
    send: '',
    age: 'order by q.captured_at',
    tries: 'order by q.tries desc',
    bytes: 'order by q.bytes desc',
  }[sort];
  // UNION ALL keeps the order of its parts, and under LIMIT the later parts are never started.
  return {
    text: `select q.epoch, q.seq, q.type, q.key, q.records, q.bytes, q.high, q.captured_at, q.tries, q.state,
       q.next_try_at, q.after, q.last_error
  from ((${PARKED_ENTRIES}) union all (${WAITING_ENTRIES}) union all (${UNSEALED_ENTRIES})) q
 where ($1::text is null or jsonb_exists(q.types, $1::text))
   and ($2::text is null or q.state = $2::text)
   and ($3::boolean is null or q.high = $3::boolean)
   and ($4::double precision is null or q.captured_at < now() - make_interval(secs => $4::double precision / 1000))
 ${order} limit $5::bigint`,
    values: [
      type ?? null,
      state ?? null,
      priority === undefined ? null : priority === 'high',
      olderThanMs ?? null,
      limit ?? null,
    ],
  };
}

function toEntry(row: DbQueueRow): QueueEntry {
  const { captured_at: capturedAt, next_try_at: nextTryAt, last_error: lastError, ...rest } = row;
  return { ...rest, capturedAt, nextTryAt, lastError };
}

export interface ShownEntry {
  readonly epoch: number;
  readonly seq: number;
  readonly type: string;
  readonly key: string;
  readonly records: number;
  readonly rows: number;
  readonly bytes: number;
  readonly high: boolean;
  /** Records per type. */
  readonly types: Readonly<Record<string, number>>;
  readonly chain: string;
  readonly capturedAt: string;
  readonly sealedAt: string;
  readonly ackedAt: string | null;
  readonly state: EntryState | 'acknowledged';
  /** Only when asked for: it holds tender data. */
  readonly body: string | null;
}

interface DbShownRow {
  epoch: number;
  seq: number;
  type: string;
  key: string;
  records: number;
  rows: number;
  bytes: number;
  high: boolean;
  types: string;
  chain: string;
  captured_at: string;
  sealed_at: string;
  acked_at: string | null;
  state: EntryState | 'acknowledged';
  body: string | null;
}

/** One sealed entry; without `epoch` the newest one with that number. */
export async function showEntry(
  db: Queryable,
  seq: number,
  { epoch, payload = false }: { readonly epoch?: number; readonly payload?: boolean } = {},
): Promise<ShownEntry> {
  const row = await queryMaybe<DbShownRow & pg.QueryResultRow>(
    db,
    `select o.epoch, o.seq, o.type, o.key, o.records, o.rows, o.bytes, o.high, o.types::text as types,
            encode(o.chain, 'hex') as chain, o.captured_at, o.sealed_at,
            possync.acked_at(o.epoch, o.seq) as acked_at,
            case when (o.epoch, o.seq) > (d.epoch, d.seq) then
                   case when ${SENDING} and o.seq between d.try_first and d.try_last then 'sending' else 'waiting' end
                 when o.epoch = s.epoch and o.seq = any (d.dead) then 'parked' else 'acknowledged' end as state,
            case when $3::boolean then o.body end as body
       from possync.outbox o cross join possync.sending d cross join possync.state s
      where o.seq = $1::bigint and ($2::int is null or o.epoch = $2::int)
      order by o.epoch desc limit 1`,
    [seq, epoch ?? null, payload],
  );
  if (row === undefined) throw new PossyncError('PS-QUEUE-UNKNOWN', `the outbox keeps no entry ${seq}`);
  const { captured_at: capturedAt, sealed_at: sealedAt, acked_at: ackedAt, types, ...rest } = row;
  return { ...rest, capturedAt, sealedAt, ackedAt, types: JSON.parse(types) as Record<string, number> };
}
