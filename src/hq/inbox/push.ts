/**
 * A batch of store transactions arrives at HQ: applied exactly once, in order, or answered with where HQ stands.
 *
 *   lock inbox row ─▶ epoch · fence · gap ─▶ chain over all entries, from `prev`
 *                                             │ entries ≤ seq: skipped, but the chain at seq must be ours
 *                                             ▼
 *                     new entries applied · inbox moved · commit          one transaction: both or neither
 *
 * A batch that is wholly in the past is answered with (seq, chain); the store compares, HQ does not believe.
 */
import type pg from 'pg';
import { PossyncError } from '../../core/errors.ts';
import { isRetryableSql, sqlstateOf, toPossyncError } from '../../core/classify.ts';
import { nextChain } from '../../core/chain.ts';
import { withTransaction } from '../../db/transaction.ts';
import { BODY_VERSION } from '../../protocol/version.ts';
import type { Push, PushAnswer, PushConflict } from '../../protocol/messages.ts';
import { ENTITIES, type Entity } from '../../protocol/entities.ts';
import { applyEntries, type Entry, type Outcome, type Reading } from './apply.ts';
import type { FastPlan } from './fast-path.ts';
import { layoutsFor, readingOf } from './reading.ts';
import { retryWaiting } from './dead.ts';
import { RETRY_LEAST_MS, RETRY_SPREAD_MS } from '../gate.ts';
import { deadSeqs, moveInbox, pruneChains, readInboxIfAny, stopInbox, type Inbox } from './inbox.ts';
import { togetherOf } from './together.ts';

export type PushResult =
  | { readonly result: 'ok'; readonly answer: PushAnswer }
  | { readonly result: 'conflict'; readonly conflict: PushConflict }
  /** Nothing was taken and nothing is dead: HQ itself has to be mended, then the store sends again. */
  | { readonly result: 'not-ready'; readonly error: PossyncError };

/** More refusals in a row, or in a large batch a larger share, point to a fault of HQ's or of the whole store. */
const BREAKER_STREAK = 20;
const BREAKER_BATCH = 200;
const BREAKER_SHARE = 0.01;

/** Serialization, deadlock: the same batch again at once; more often than this the store may as well wait. */
const ATTEMPTS = 5;

/** What can be worked out while earlier batches of the store are still being applied. */
interface Prepared {
  /** Over the whole batch, from what the store says the chain was before. */
  readonly chain: string;
  readonly plan: FastPlan | undefined;
}

export interface PushOptions {
  readonly entities?: readonly Entity[];
  /** Resolves when the batches of this store that came earlier are done. */
  readonly turn?: () => Promise<void>;
  /** So many entries of the batch could not be applied and are parked; told once that is committed. */
  readonly parked?: (entries: number) => void;
  /** So many entries had come before: their acknowledgement was lost, and nothing was applied twice. */
  readonly repeated?: (entries: number) => void;
}

/** What a batch held beside entries that are new and fit; told once it is committed. */
interface Seen {
  dead: number;
  repeated: number;
}

export async function push(
  pool: pg.Pool,
  storeId: number,
  message: Push,
  { entities = ENTITIES, turn, parked, repeated }: PushOptions = {},
): Promise<PushResult> {
  const reading = await readingOf(pool, entities);
  checkShape(message);
  const prepared = prepare(storeId, message, reading);
  await turn?.();
  const { plan, chain } = prepared;
  const shared = plan && (await togetherOf(pool).push({ storeId, message, chain, plan }));
  if (shared !== undefined) return { result: 'ok', answer: shared };
  for (let attempt = 1; ; attempt += 1) {
    try {
      const seen: Seen = { dead: 0, repeated: 0 };
      const result = await withTransaction(pool, (tx) => take(tx, storeId, message, reading, prepared, seen));
      if (seen.dead > 0) parked?.(seen.dead);
      if (seen.repeated > 0) repeated?.(seen.repeated);
      if (result.result === 'ok' && message.txs.some(bringsTransfers)) {
        // A receipt that came first may be waiting for this; if it fails now, the minute's retry finds it.
        await retryWaiting(pool).catch(() => 0);
      }
      return result;
    } catch (error) {
      if (error instanceof Stopped) {
        await stopInbox(pool, storeId, error.error.code, error.error.message);
        return { result: 'not-ready', error: error.error };
      }
      if (isNotReady(error)) {
        const notReady = new PossyncError('PS-HQ-NOTREADY', 'HQ’s database does not fit this program', {
          why: error instanceof Error ? error.message : String(error),
          cause: error,
        });
        await stopInbox(pool, storeId, notReady.code, notReady.why ?? notReady.message);
        return { result: 'not-ready', error: notReady };
      }
      const again = ['40001', '40P01'].includes(sqlstateOf(error) ?? '') && attempt < ATTEMPTS;
      if (!again) throw isRetryableSql(error) ? busy(error) : toPossyncError(error);
    }
  }
}

function bringsTransfers({ v, body }: Push['txs'][number]): boolean {
  return body.includes(v < 2 ? '"transfers":' : ' transfers\n');
}

function busy(error: unknown): PossyncError {
  // Spread, like those whom the gate sends away: they all wait for the same lock.
  const retryMs = RETRY_LEAST_MS + Math.floor(Math.random() * RETRY_SPREAD_MS);
  return new PossyncError('PS-HQ-BUSY', 'HQ’s database could not take the batch now', {
    cause: error,
    details: { retryMs },
  });
}

/** Class 42 is "no such column", "no such function", "no right": HQ is not migrated, and no record is to blame. */
function isNotReady(error: unknown): boolean {
  return sqlstateOf(error)?.startsWith('42') === true;
}

/** Thrown to roll the batch back. */
class Stopped extends Error {
  readonly error: PossyncError;
  constructor(error: PossyncError) {
    super(error.message);
    this.error = error;
  }
}

function checkShape({ first, txs }: Push): void {
  if (txs.some(({ seq }, index) => seq !== first + index)) {
    throw new PossyncError('PS-PROTOCOL', 'the entries of a batch are not dense');
  }
  const newer = txs.find(({ v }) => v > BODY_VERSION);
  if (newer !== undefined) {
    throw new PossyncError('PS-VER-INCOMPATIBLE', `entry ${newer.seq} has a body of version ${newer.v}`, {
      why: `HQ reads bodies up to version ${BODY_VERSION}`,
      hint: 'update possync at HQ first',
    });
  }
}

function prepare(storeId: number, message: Push, { fast, isJson }: Reading): Prepared {
  const chain = message.txs.reduce((before, { seq, body }) => nextChain(before, seq, body), message.prev);
  const entries = message.txs.map((tx): Entry => ({ epoch: message.epoch, ...tx }));
  return { chain, plan: fast.plan(entries, storeId, fast.layouts, isJson) };
}

async function take(
  tx: pg.PoolClient,
  storeId: number,
  message: Push,
  reading: Reading,
  prepared: Prepared,
  seen: Seen,
): Promise<PushResult> {
  await tx.query(`set local synchronous_commit to on; set local possync.applying = 'on'`);
  const found = await readInboxIfAny(tx, storeId);
  // No inbox: HQ was restored since the hello. A new hello makes one.
  if (found === undefined) return conflict('fenced', { epoch: message.epoch, seq: 0, chain: '' });
  if (message.fence !== found.fence) return conflict('fenced', found);
  const inbox = message.epoch === found.epoch ? found : enterEpoch(found, message);
  if (inbox === undefined) return conflict('epoch', found);
  if (message.first > inbox.seq + 1) return conflict('gap', inbox);
  const checked = checkChain(inbox, message, prepared);
  if (checked === 'diverged') return conflict('diverged', inbox);
  const { chain, fresh } = checked;
  seen.repeated = message.txs.length - fresh.length;
  if (fresh.length === 0) return answer(tx, storeId, inbox);
  const layouts = await layoutsFor(tx, storeId, fresh, reading);
  // A store that was upgraded since its hello: the next one says what its layouts are.
  if (layouts === undefined) return conflict('fenced', inbox);
  const outcome = await applyEntries(tx, storeId, fresh, inbox.deadStreak, {
    ...reading,
    layouts,
    ...(fresh.length === message.txs.length ? { plan: prepared.plan } : {}),
  });
  guardBreaker(outcome, fresh.length, inbox);
  seen.dead = outcome.dead;
  const moved = { epoch: inbox.epoch, seq: message.first + message.txs.length - 1, chain };
  await moveInbox(tx, storeId, { ...moved, deadStreak: outcome.deadStreak });
  await pruneChains(tx, storeId, inbox.seq, moved.seq);
  if (outcome.clean) return { result: 'ok', answer: { seq: moved.seq, chain, dead: [] } };
  return answer(tx, storeId, moved);
}

function conflict(
  code: PushConflict['code'],
  { epoch, seq, chain }: Pick<Inbox, 'epoch' | 'seq' | 'chain'>,
): PushResult {
  return { result: 'conflict', conflict: { code, epoch, seq, chain } };
}

async function answer(
  tx: pg.PoolClient,
  storeId: number,
  { epoch, seq, chain }: Pick<Inbox, 'epoch' | 'seq' | 'chain'>,
): Promise<PushResult> {
  return { result: 'ok', answer: { seq, chain, dead: await deadSeqs(tx, storeId, epoch) } };
}

/**
 * HQ was restored to before a re-enrolment: the store has sent what it keeps of HQ's epoch and goes on with a later
 * one. It begins at 1, and only after everything that the store declared for the epochs in between.
 */
function enterEpoch(inbox: Inbox, message: Push): Inbox | undefined {
  if (message.epoch < inbox.epoch || message.first !== 1) return undefined;
  for (const declared of inbox.declared) {
    if (
      declared.epoch === inbox.epoch &&
      (declared.seq > inbox.seq || (declared.seq === inbox.seq && declared.chain !== inbox.chain))
    )
      return undefined;
    if (declared.epoch > inbox.epoch && declared.epoch < message.epoch && declared.seq > 0) return undefined;
  }
  if (!inbox.declared.some(({ epoch }) => epoch === inbox.epoch)) return undefined;
  return { ...inbox, epoch: message.epoch, seq: 0, chain: '' };
}

/** The chain over the whole batch, and the entries that HQ has not taken yet. */
function checkChain(
  inbox: Inbox,
  message: Push,
  prepared: Prepared,
): 'diverged' | { chain: string; fresh: Entry[] } {
  const { chain } = prepared;
  if (message.first === inbox.seq + 1) {
    if (message.prev !== inbox.chain) return 'diverged';
  } else if (inbox.seq < message.first + message.txs.length) {
    const known = message.txs.filter(({ seq }) => seq <= inbox.seq);
    const there = known.reduce((before, { seq, body }) => nextChain(before, seq, body), message.prev);
    if (known.length > 0 && there !== inbox.chain) return 'diverged';
  }
  const fresh = message.txs
    .filter(({ seq }) => seq > inbox.seq)
    .map(({ seq, v, body }): Entry => ({ epoch: inbox.epoch, seq, v, body }));
  if (chain !== message.lastChain) {
    throw new PossyncError('PS-PROTOCOL', 'the batch was damaged on its way: its last chain does not match');
  }
  return { chain, fresh };
}

/** Rather stop one store than fill `dead` with everything it sends. `queue retry` waives the next batch. */
function guardBreaker(outcome: Outcome, batch: number, inbox: Inbox): void {
  if (inbox.breakerWaived) return;
  const tooMany = batch >= BREAKER_BATCH && outcome.refused > batch * BREAKER_SHARE;
  if (outcome.deadStreak <= BREAKER_STREAK && !tooMany) return;
  throw new Stopped(
    new PossyncError(
      'PS-UP-BREAKER',
      `HQ refuses too much of what this store sends: ${outcome.refused} of the last ${batch} transactions`,
      { why: outcome.firstError ?? 'see queue ls --dead' },
    ),
  );
}
