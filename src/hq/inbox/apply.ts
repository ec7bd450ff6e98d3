/**
 * Applies the new entries of a batch inside the caller's transaction.
 *
 *   COPY of what is new, the rest as one set ──ok──▶ done             (the usual way: fast-path.ts)
 *        │ a data error (SQLSTATE class 22, 23 or our PS…)
 *        ▼
 *   all of them as one set, as JSON ──ok──▶ done                      (rows that were there before)
 *        │ a data error
 *        ▼
 *   one savepoint per store transaction ──▶ applied
 *        │ refused ──▶ dead, with its text      │ touches a record of a dead one ──▶ dead as well, behind it
 *
 * So one bad record stops nothing but itself and what changes the same record later. Any other error is not the
 * record's fault and is thrown: the batch is repeated (server, lock) or the store is stopped (HQ not migrated).
 */
import type pg from 'pg';
import { isDataError, sqlstateOf } from '../../core/classify.ts';
import { copyIn } from '../../db/copy-in.ts';
import { bodyAsJson, type Layout } from '../../protocol/row-text.ts';
import { droppedAggregates, missesDropped, missingText, type Dropped } from './lost.ts';
import { summarize, type BodySummary, type RootKeys } from './body.ts';
import type { FastPath, FastPlan, IsJson } from './fast-path.ts';

export interface Entry {
  readonly epoch: number;
  readonly seq: number;
  readonly v: number;
  readonly body: string;
}

export interface Outcome {
  /** Refused for what they hold: neither parked behind others nor waiting for a parent. */
  readonly refused: number;
  readonly parked: number;
  /** Refused one after the other, counted on from before the batch; a success starts again at 0. */
  readonly deadStreak: number;
  readonly firstError: string | undefined;
  /** All that were not applied: refused, parked behind others, or waiting for a parent. */
  readonly dead: number;
  /** The store has no dead letter at all, as before the batch. */
  readonly clean: boolean;
}

/** What bodies mean here: made once from the entity table and HQ's catalogue. */
export interface Reading {
  readonly keys: RootKeys;
  readonly fast: FastPath;
  readonly isJson: IsJson;
}

export async function applyEntries(
  tx: pg.PoolClient,
  storeId: number,
  entries: readonly Entry[],
  deadStreak: number,
  reading: Reading & { readonly layouts: ReadonlyMap<string, Layout>; readonly plan?: FastPlan | undefined },
): Promise<Outcome> {
  const { keys, fast, isJson, layouts } = reading;
  const parked = await parkedAggregates(tx, storeId);
  const clean = { refused: 0, parked: 0, deadStreak: 0, firstError: undefined, dead: 0, clean: true };
  const dropped = await droppedAggregates(tx, storeId);
  const concerned = (body: string): boolean =>
    [...dropped.keys()].some((aggregate) => body.includes(aggregate.slice(aggregate.indexOf(':') + 1)));
  const asSet = parked.size === 0 && !(dropped.size > 0 && entries.some(({ body }) => concerned(body)));
  if (asSet) {
    const plan = reading.plan ?? fast.plan(entries, storeId, layouts, isJson);
    if (plan !== undefined && (await attemptCopy(tx, storeId, plan)) === undefined) return clean;
  }
  const asJson = entries.map((entry) => inJson(entry, layouts, isJson));
  if (asSet && (await attempt(tx, storeId, asJson)) === undefined) return clean;
  return applyApart(tx, storeId, asJson, { parked, dropped }, deadStreak, keys);
}

/** Dead letters are kept in JSON, whatever came: their readers need no layouts. */
function inJson(entry: Entry, layouts: ReadonlyMap<string, Layout>, isJson: IsJson): Entry {
  if (entry.v < 2) return entry;
  try {
    return { ...entry, v: 1, body: bodyAsJson(entry.body, layouts, isJson) };
  } catch (error) {
    // The database refuses it as well, and it becomes a dead letter as it came.
    if (error instanceof SyntaxError) return { ...entry, v: 1 };
    throw error;
  }
}

/** As `attempt`; the savepoint ends with the transaction. */
async function attemptCopy(
  tx: pg.PoolClient,
  storeId: number,
  { copies, rest, headers }: FastPlan,
): Promise<unknown> {
  try {
    await copyIn(tx, copies, ['savepoint possync_apply']);
    if (headers.length > 0)
      await tx.query('select possync.refuse_redated($1::int, $2::text[], $3::text[], $4::text[])', [
        storeId,
        ...([0, 1, 2] as const).map((part) => headers.map((header) => header[part])),
      ]);
    if (rest.length > 0) await applyBatch(tx, storeId, rest);
    return undefined;
  } catch (error) {
    if (!isDataError(error)) throw error;
    await tx.query('rollback to savepoint possync_apply; release savepoint possync_apply');
    return error;
  }
}

async function applyBatch(
  tx: pg.PoolClient,
  storeId: number,
  entries: readonly Pick<Entry, 'seq' | 'body'>[],
): Promise<void> {
  await tx.query('select possync.apply_batch($1::int, $2::bigint[], $3::text[])', [
    storeId,
    entries.map((entry) => entry.seq),
    entries.map((entry) => entry.body),
  ]);
}

/** Runs of entries that concern no parked record go as a set; each of a failed run by itself. */
async function applyApart(
  tx: pg.PoolClient,
  storeId: number,
  entries: readonly Entry[],
  { parked, dropped }: { readonly parked: Map<string, Behind>; readonly dropped: Dropped },
  streakBefore: number,
  keys: RootKeys,
): Promise<Outcome> {
  let refused = 0;
  let behindCount = 0;
  let dead = 0;
  let deadStreak = streakBefore;
  let firstError: string | undefined;

  const park = async (entry: Entry, summary: BodySummary, cause: Cause): Promise<void> => {
    await insertDead(tx, storeId, entry, summary, cause);
    dead += 1;
    for (const aggregate of summary.aggregates) {
      if (!parked.has(aggregate)) parked.set(aggregate, entry);
    }
  };

  const single = async (entry: Entry): Promise<void> => {
    const summary = summarize(entry.body, keys);
    const blocker = summary.aggregates
      .map((aggregate) => parked.get(aggregate))
      .find((found) => found !== undefined);
    if (blocker !== undefined) {
      behindCount += 1;
      await park(entry, summary, {
        kind: 'parked',
        sqlstate: null,
        error: `behind entry ${blocker.seq}`,
        behind: blocker,
      });
      return;
    }
    const gone = await missesDropped(tx, storeId, entry.body, dropped);
    if (gone !== undefined) {
      behindCount += 1;
      await park(entry, summary, { kind: 'parked', sqlstate: null, error: missingText(gone), behind: gone });
      return;
    }
    const error = await attempt(tx, storeId, [entry]);
    if (error === undefined) {
      deadStreak = 0;
      return;
    }
    const cause = causeOf(error);
    // What waits for another store's message is no sign that something is wrong here.
    if (cause.kind === 'data') {
      refused += 1;
      deadStreak += 1;
    }
    firstError ??= cause.error;
    await park(entry, summary, cause);
  };

  let run: Entry[] = [];
  const flush = async (): Promise<void> => {
    if (run.length > 1 && (await attempt(tx, storeId, run)) === undefined) {
      deadStreak = 0;
    } else {
      for (const entry of run) await single(entry);
    }
    run = [];
  };
  // Parts of a batch bound the work that one bad record among hundreds can cost.
  for (const entry of entries) {
    const blocked = summarize(entry.body, keys).aggregates.some(
      (aggregate) => parked.has(aggregate) || dropped.has(aggregate),
    );
    if (!blocked) run.push(entry);
    if (blocked || run.length === RUN) await flush();
    if (blocked) await single(entry);
  }
  await flush();
  return { refused, parked: behindCount, deadStreak, firstError, dead, clean: parked.size === 0 };
}

/** Entries tried as one set on the slow path. */
const RUN = 25;

/** undefined: applied. A data error is returned and has left nothing behind; any other is thrown. */
export async function attempt(
  tx: pg.PoolClient,
  storeId: number,
  entries: readonly Entry[],
): Promise<unknown> {
  await tx.query('savepoint possync_apply');
  try {
    await applyBatch(tx, storeId, entries);
    await tx.query('release savepoint possync_apply');
    return undefined;
  } catch (error) {
    if (!isDataError(error)) throw error;
    await tx.query('rollback to savepoint possync_apply; release savepoint possync_apply');
    return error;
  }
}

interface Behind {
  readonly epoch: number;
  readonly seq: number;
}

export interface Cause {
  readonly kind: 'data' | 'missing_parent' | 'parked';
  readonly sqlstate: string | null;
  readonly error: string;
  readonly behind?: Behind;
}

/** A missing parent may still come, from another store or from a store that re-sends: it is retried by itself. */
export function causeOf(error: unknown): Cause {
  const sqlstate = sqlstateOf(error) ?? null;
  const text = error instanceof Error ? error.message : String(error);
  const detail =
    error instanceof Error && 'detail' in error && typeof error.detail === 'string' && error.detail !== ''
      ? ` (${error.detail})`
      : '';
  return {
    kind: sqlstate === '23503' || sqlstate === 'PS409' ? 'missing_parent' : 'data',
    sqlstate,
    error: `${text}${detail}`.slice(0, 2_000),
  };
}

/** Records with a dead entry: whatever else concerns them waits behind it. */
async function parkedAggregates(tx: pg.PoolClient, storeId: number): Promise<Map<string, Behind>> {
  const { rows } = await tx.query<{ aggregate: string; epoch: number; seq: number }>(
    `select distinct on (a.aggregate) a.aggregate, d.epoch, d.seq
       from possync.dead d cross join lateral unnest(d.aggregates) as a(aggregate)
      where d.store_id = $1::int order by a.aggregate, d.epoch, d.seq`,
    [storeId],
  );
  return new Map(rows.map(({ aggregate, epoch, seq }) => [aggregate, { epoch, seq }]));
}

async function insertDead(
  tx: pg.PoolClient,
  storeId: number,
  entry: Entry,
  summary: BodySummary,
  cause: Cause,
): Promise<void> {
  await tx.query(
    `insert into possync.dead (store_id, epoch, seq, v, body, type, key, aggregates, kind, sqlstate, error,
                               behind_epoch, behind_seq, next_try_at)
     values ($1::int, $2::int, $3::bigint, $4::int, $5::text, $6::text, $7::text, $8::text[], $9::text, $10::text,
             $11::text, $12::int, $13::bigint,
             case when $9::text = 'missing_parent' then clock_timestamp() + interval '1 minute' end)`,
    [
      storeId,
      entry.epoch,
      entry.seq,
      entry.v,
      entry.body,
      summary.type,
      summary.key,
      summary.aggregates,
      cause.kind,
      cause.sqlstate,
      cause.error,
      cause.behind?.epoch ?? null,
      cause.behind?.seq ?? null,
    ],
  );
}
