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
 * yet. By size and by age all of it is looked at, in the index alone where no filter needs the entries themselves.
 */
export async function* listQueue(pool: pg.Pool, filters: QueueFilters = {}): AsyncGenerator<QueueEntry> {
  const client = await pool.connect();
  try {
    await client.query('begin isolation level repeatable read read only');
    // A million rows look expensive enough to compile the query first, which takes longer than the query.
    await client.query(`set local statement_timeout = '30s'; set local jit = off`);
    const listed = listing(filters, await readPosition(client, filters.type));
    if (listed === undefined) return;
    await client.query(`declare possync_queue no scroll cursor for ${listed.text}`, listed.values);
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

/** Read first and given to the listing as constants: a join with tables of one row is planned as one with hundreds. */
interface DbPosition {
  readonly epoch: number;
  readonly seq: number;
  readonly current: number;
  readonly parked: number;
  /** How many entries at the head of the queue are on their way. */
  readonly sending: number;
  /** Sealed records of the type that is looked for. */
  readonly wanted: number;
}

async function readPosition(db: Queryable, type: string | undefined): Promise<DbPosition> {
  return await queryOne<DbPosition & pg.QueryResultRow>(
    db,
    `select d.epoch, d.seq, s.epoch as current, cardinality(d.dead) as parked,
            case when ${SENDING} then d.try_last - d.try_first + 1 else 0 end as sending,
            (select coalesce(sum(case t.side when 'sealed' then t.n else -t.n end), 0)::bigint
               from possync.tally t where t.what = $1::text) as wanted
       from possync.sending d cross join possync.state s`,
    [type ?? null],
  );
}

const SEALED = 'o.epoch, o.seq, o.type, o.key, o.records, o.bytes, o.high, o.captured_at, o.types';

const parkedEntries = (epoch: string): string => `select ${SEALED}, 0 as tries, 'parked' as state,
       null::timestamptz as next_try_at, null::bigint as after, 'PS-HQ-REJECTED' as last_error
  from possync.outbox o
 where o.epoch = ${epoch}::integer and o.seq = any ((select d.dead from possync.sending d)::bigint[])
 order by o.epoch, o.seq`;

/** `source` is those entries of the outbox that wait, or some of them. */
const waitingEntries = (
  source: string,
): string => `select ${SEALED}, case when h.attempted then d.tries else 0 end as tries,
       case when h.attempted and ${SENDING} then 'sending' else 'waiting' end as state,
       case when h.attempted then d.next_try_at end as next_try_at,
       case when not h.attempted and d.last_error is not null then d.try_first end as after,
       case when h.attempted then d.last_error end as last_error
  from ${source} o cross join (select * from possync.sending limit 1) d
 cross join lateral (
   select coalesce(o.seq between d.try_first and d.try_last and o.epoch >= d.epoch, false) as attempted) h
 order by o.epoch, o.seq`;

const UNSEALED_ENTRIES = `select null::integer as epoch, null::bigint as seq,
       (array_agg(r.type order by r.id))[1] as type, (array_agg(r.root order by r.id))[1] as key,
       count(distinct (r.type, r.root))::integer as records, sum(octet_length(r.doc))::bigint as bytes,
       bool_or(r.high) as high, min(r.at) as captured_at, jsonb_object_agg(r.type, 1) as types,
       0 as tries, 'waiting' as state, null::timestamptz as next_try_at, null::bigint as after, null::text as last_error
  from possync.raw r where r.op <> 'D' group by r.xid order by max(r.id)`;

/** undefined: nothing can be listed, so nothing is read. */
function listing(
  { type, state, priority, olderThanMs, limit, sort = 'send' }: QueueFilters,
  position: DbPosition,
): { text: string; values: unknown[] } | undefined {
  const values: unknown[] = [];
  const value = (of: unknown): string => `$${values.push(of)}`;
  const old =
    olderThanMs === undefined
      ? []
      : [`captured_at < now() - make_interval(secs => ${value(olderThanMs)}::double precision / 1000)`];
  const most = limit === undefined ? undefined : `${value(limit)}::bigint`;
  const order = { send: '', age: 'captured_at', tries: '', bytes: 'bytes desc' }[sort];
  const waitingPart = (): string => {
    const after = `(${value(position.epoch)}::integer, ${value(position.seq)}::bigint)`;
    // The row of each key by itself: the planner takes "after (1, 0)" for one row where all are of epoch 1.
    const first = (conditions: readonly string[], by: string, count: string): string =>
      `(select e.* from (select k.epoch, k.seq from possync.outbox k
                          where ${[`(k.epoch, k.seq) > ${after}`, ...conditions].join(' and ')}
                          order by ${by} limit ${count}) k
         cross join lateral (select x.* from possync.outbox x
                              where x.epoch = k.epoch and x.seq = k.seq offset 0) e)`;
    if (state === 'sending')
      return waitingEntries(first([], 'k.epoch, k.seq', `${value(position.sending)}::bigint`));
    // Where the key knows it all, whose entries alone are read; type, urgency and state are not in it.
    const covered = type === undefined && priority === undefined && state === undefined;
    return covered && most !== undefined && (order !== '' || old.length > 0)
      ? waitingEntries(first(old, order === '' ? 'k.epoch, k.seq' : `k.${order}`, most))
      : waitingEntries(`(select w.* from possync.outbox w where (w.epoch, w.seq) > ${after})`);
  };
  const parked = state === undefined || state === 'parked' ? position.parked > 0 : false;
  const waiting =
    state !== 'parked' &&
    (type === undefined || position.wanted > 0) &&
    (state !== 'sending' || position.sending > 0);
  const parts = [
    ...(parked ? [parkedEntries(value(position.current))] : []),
    ...(waiting ? [waitingPart()] : []),
    ...(state === undefined || state === 'waiting' ? [UNSEALED_ENTRIES] : []),
  ];
  if (parts.length === 0) return undefined;
  // What was tried is what comes first of what waits; nothing else has tries.
  if (sort === 'tries' && parked) parts.push(...parts.splice(0, 1));
  const where = [
    ...(type === undefined ? [] : [`jsonb_exists(q.types, ${value(type)}::text)`]),
    ...(state === undefined ? [] : [`q.state = ${value(state)}::text`]),
    // A word and not a value: only so the index of urgent entries serves.
    ...(priority === undefined ? [] : [priority === 'high' ? 'q.high' : 'not q.high']),
    ...old.map((condition) => `q.${condition}`),
  ];
  // UNION ALL keeps the order of its parts, and under LIMIT the later parts are never started.
  return {
    text: `select q.epoch, q.seq, q.type, q.key, q.records, q.bytes, q.high, q.captured_at, q.tries, q.state,
       q.next_try_at, q.after, q.last_error
  from (${parts.map((part) => `(${part})`).join(' union all ')}) q
 ${where.length === 0 ? '' : `where ${where.join(' and ')}`}
 ${order === '' ? '' : `order by q.${order}`}
 ${most === undefined ? '' : `limit ${most}`}`,
    values,
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
