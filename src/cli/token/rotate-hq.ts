/**
 * `possync token rotate` at HQ: orders stores to rotate, some at a time, and follows how they do.
 *
 *   connected      ordered, at most --batch at work; no new ones after three have failed
 *   not connected  ordered as well: they rotate when they come back; nobody waits for them
 *
 * What does not end in time here goes on without this command: the order is in the database until it is done.
 */
import { EXIT, PossyncError, type ExitCode } from '../../core/errors.ts';
import type pg from 'pg';
import { orderRotations, readOrderStates, tellOrders, type OrderState } from '../../hq/stores/orders.ts';
import { showStore } from '../../hq/stores/stores.ts';
import { commandActor } from '../actor.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { formatDuration, plural } from '../../core/quantities.ts';
import { renderTable } from '../render/table.ts';
import type { Paint } from '../render/term.ts';
import type { RotateFlags } from './rotate-flags.ts';

const BATCH = 10;
const TIMEOUT_MS = 30_000;
const WAIT_MS = 600_000;
/** A disk image without room, a firewall, a bad release: what breaks three stores breaks the rest as well. */
const FAILURES_MAX = 3;
const POLL_MS = 200;
/** A NOTIFY may get lost; the order does not. */
const TELL_AGAIN_MS = 5_000;

type Result = 'rotated' | 'pending' | 'failed' | 'not_needed' | 'not_begun' | 'dry_run';

interface Outcome {
  readonly state: OrderState;
  readonly result: Result;
  readonly code: string | null;
  readonly note: string;
}

export async function rotateStores(
  context: Context,
  args: Args,
  codes: readonly string[],
  flags: RotateFlags,
): Promise<Answer> {
  const batch = args.integer('batch') ?? BATCH;
  if (batch < 1 || batch > 1_000) throw new PossyncError('PS-USAGE', '--batch must be from 1 to 1000');
  const patient = args.flag('wait') || args.text('wait') !== undefined;
  const timeoutMs = args.durationMs('wait') ?? args.durationMs('timeout') ?? (patient ? WAIT_MS : TIMEOUT_MS);
  const { pool, role } = await context.database();
  if (role !== 'hq')
    throw new PossyncError('PS-WRONG-SIDE', 'store codes and --all are for HQ', {
      why: 'this database belongs to a store',
      hint: 'run `possync token rotate` without them here, or run this at HQ',
    });
  const ids = codes.length === 0 ? null : await idsOf(pool, codes);
  const began = context.clock.now();
  const run = new FleetRotation(context, pool, flags, { batch, timeoutMs });
  const outcomes = await run.rotate(await readOrderStates(pool, ids));
  const tookMs = context.clock.now() - began;
  return answerOf(outcomes, tookMs);
}

async function idsOf(pool: pg.Pool, codes: readonly string[]): Promise<number[]> {
  const ids: number[] = [];
  for (const code of new Set(codes)) {
    const store = await showStore(pool, code);
    if (store.status === 'deactivated')
      throw new PossyncError('PS-STORE-DISABLED', `store ${code} is deactivated`, {
        hint: `activate it first: possync stores activate ${code}`,
      });
    ids.push(store.id);
  }
  return ids;
}

class FleetRotation {
  readonly #context: Context;
  readonly #pool: pg.Pool;
  readonly #flags: RotateFlags;
  readonly #limits: { readonly batch: number; readonly timeoutMs: number };

  constructor(
    context: Context,
    pool: pg.Pool,
    flags: RotateFlags,
    limits: { readonly batch: number; readonly timeoutMs: number },
  ) {
    this.#context = context;
    this.#pool = pool;
    this.#flags = flags;
    this.#limits = limits;
  }

  async rotate(stores: readonly OrderState[]): Promise<Outcome[]> {
    const { clock } = this.#context;
    const { withinMs, dryRun } = this.#flags;
    const enrolled = stores.filter(({ kid }) => kid !== null);
    const wanted = enrolled.filter(
      ({ kidExpiresAt }) => withinMs === undefined || endsWithin(kidExpiresAt, withinMs, clock.now()),
    );
    const ordered = dryRun ? new Map<number, string>() : await this.#orderAll(wanted);
    const ids = stores.map(({ storeId }) => storeId);
    const after = new Map((await readOrderStates(this.#pool, ids)).map((state) => [state.storeId, state]));
    return stores.map((before) => {
      const state = after.get(before.storeId) ?? before;
      if (before.kid === null) return outcome(state, 'not_needed', 'no credential in force: not enrolled');
      if (!wanted.includes(before)) return outcome(state, 'not_needed', lifeOf(before, clock.now()));
      if (dryRun)
        return outcome(state, 'dry_run', before.connected ? 'connected' : away(before, clock.now()));
      return judge(state, ordered.get(before.storeId), clock.now());
    });
  }

  /** By store the id of its order; a store that is not in it was not ordered. */
  async #orderAll(stores: readonly OrderState[]): Promise<ReadonlyMap<number, string>> {
    const { clock, signal } = this.#context;
    const { batch, timeoutMs } = this.#limits;
    const until = clock.now() + timeoutMs;
    const queue = stores.filter(({ connected }) => connected).map(({ storeId }) => storeId);
    const ids = new Map<number, string>();
    let working: number[] = [];
    let failures = 0;
    let toldMs = clock.now();
    for (;;) {
      const next = failures >= FAILURES_MAX ? [] : queue.splice(0, batch - working.length);
      if (next.length > 0) {
        for (const [id, order] of await this.#order(next)) ids.set(id, order);
        working.push(...next.filter((id) => ids.has(id)));
      }
      if (working.length === 0 && (queue.length === 0 || failures >= FAILURES_MAX)) break;
      if (clock.now() >= until) break;
      await clock.sleep(Math.min(POLL_MS, Math.max(1, until - clock.now())), signal);
      signal.throwIfAborted();
      const states = await readOrderStates(this.#pool, working);
      const results = new Map(
        states.map((state) => [state.storeId, judge(state, ids.get(state.storeId), 0)]),
      );
      failures += [...results.values()].filter(({ result }) => result === 'failed').length;
      // A store that went away meanwhile rotates when it is back: its place is free.
      working = working.filter((id) => {
        const found = results.get(id);
        return found?.result === 'pending' && found.state.connected;
      });
      if (clock.now() - toldMs < TELL_AGAIN_MS) continue;
      toldMs = clock.now();
      await tellOrders(this.#pool, working);
    }
    if (failures < FAILURES_MAX) {
      const rest = stores.filter(({ storeId, connected }) => !connected && !ids.has(storeId));
      for (const [id, order] of await this.#order(rest.map(({ storeId }) => storeId))) ids.set(id, order);
    }
    return ids;
  }

  async #order(storeIds: readonly number[]): Promise<[number, string][]> {
    if (storeIds.length === 0) return [];
    const { graceMs, expiresInMs, revokeOldNow, force } = this.#flags;
    await orderRotations(this.#pool, storeIds, {
      graceMs,
      expiresInMs,
      revokeOldNow,
      replace: force,
      actor: commandActor(),
    });
    const states = await readOrderStates(this.#pool, storeIds);
    return states.flatMap(({ storeId, order }): [number, string][] =>
      order === null ? [] : [[storeId, order.id]],
    );
  }
}

/** How the order of this run stands; `orderId` undefined = none was given. */
function judge(state: OrderState, orderId: string | undefined, nowMs: number): Outcome {
  const { order, connected } = state;
  if (orderId === undefined)
    return outcome(state, 'not_begun', 'not ordered: the time ran out, or too many others failed');
  if (order?.id !== orderId) return outcome(state, 'pending', 'somebody ordered it anew');
  if (order.done && (order.settled || !connected)) return outcome(state, 'rotated', '');
  if (order.oldState === 'revoked' || order.oldState === 'expired' || order.oldState === 'gone')
    return order.done
      ? outcome(state, 'rotated', '')
      : outcome(state, 'failed', `its credential is ${order.oldState}`, 'PS-TOKEN-REVOKED');
  if (order.failureCode !== null) return outcome(state, 'failed', order.failure ?? '', order.failureCode);
  return outcome(state, 'pending', connected ? 'at work' : away(state, nowMs));
}

function outcome(state: OrderState, result: Result, note: string, code: string | null = null): Outcome {
  return { state, result, note, code };
}

function endsWithin(expiresAt: string | null, withinMs: number, nowMs: number): boolean {
  return expiresAt !== null && Date.parse(expiresAt) <= nowMs + withinMs;
}

function lifeOf({ kid, kidExpiresAt }: OrderState, nowMs: number): string {
  return kidExpiresAt === null
    ? `${kid ?? '?'} does not expire`
    : `${kid ?? '?'} has ${formatDuration(Date.parse(kidExpiresAt) - nowMs)} left`;
}

function away({ linkSinceMs }: OrderState, nowMs: number): string {
  if (linkSinceMs === null) return 'never connected; rotates itself at its first connect';
  const since = nowMs > linkSinceMs ? ` ${formatDuration(nowMs - linkSinceMs)}` : '';
  return `disconnected${since}; rotates itself at next connect`;
}

const RESULTS: readonly Result[] = ['rotated', 'not_needed', 'pending', 'failed', 'not_begun', 'dry_run'];

/** Some refused: 1, as of every command that looked and found a no. Nothing refused, some still to come: 75. */
function exitOf(count: (result: Result) => number): ExitCode {
  if (count('failed') > 0) return EXIT.no;
  return count('pending') + count('not_begun') > 0 ? EXIT.temporary : EXIT.ok;
}

function answerOf(outcomes: readonly Outcome[], tookMs: number): Answer {
  const count = (wanted: Result): number => outcomes.filter(({ result }) => result === wanted).length;
  const summary = Object.fromEntries(RESULTS.map((result) => [result, count(result)]));
  return {
    schema: 'possync.token-rotate-stores/1',
    exit: exitOf(count),
    body: { summary, took_ms: tookMs, stores: outcomes.map((each) => storeBody(each)) },
    text: (paint) => table(paint, outcomes) + sentence(count, tookMs),
  };
}

function storeBody({ state, result, code, note }: Outcome): Record<string, unknown> {
  const { order } = state;
  const mine = result === 'not_needed' || result === 'dry_run' || result === 'not_begun' ? null : order;
  return {
    store_id: state.storeId,
    code: state.code,
    result,
    order_id: mine?.id ?? null,
    old:
      mine === null
        ? { kid: state.kid, valid_until: state.kidExpiresAt }
        : { kid: mine.oldKid, valid_until: mine.oldUntil },
    new: mine?.newKid == null ? null : { kid: mine.newKid, expires_at: state.kidExpiresAt },
    offline_ms: mine?.offlineMs ?? null,
    connected: state.connected,
    error: code === null ? null : { code, message: note },
    note: note === '' ? null : note,
  };
}

function table(paint: Paint, outcomes: readonly Outcome[]): string {
  if (outcomes.length === 0) return '';
  const { glyphs, good, bad, caution } = paint;
  return renderTable(
    paint,
    ['STORE', 'RESULT', `OLD ${glyphs.to} NEW`, 'OFFLINE', 'NOTE'],
    outcomes.map(({ state, result, note, code }) => {
      const { order, kid } = state;
      const word = result.replace('_', ' ');
      const kids =
        result === 'rotated' && order !== null
          ? `${order.oldKid} ${glyphs.to} ${order.newKid ?? '?'}`
          : (order?.oldKid ?? kid ?? glyphs.dash);
      return [
        state.code,
        result === 'rotated'
          ? good(word)
          : result === 'failed'
            ? bad(word)
            : result === 'pending'
              ? caution(word)
              : word,
        result === 'not_needed' ? (kid ?? glyphs.dash) : kids,
        result === 'rotated' && order?.offlineMs !== null ? `${order?.offlineMs ?? 0} ms` : glyphs.dash,
        code === null ? note : `${note} (${code})`,
      ];
    }),
  );
}

function sentence(count: (result: Result) => number, tookMs: number): string {
  if (count('dry_run') > 0)
    return `Would order ${plural(count('dry_run'), 'store')} to rotate. Nothing changed.\n`;
  const more = (['not_needed', 'not_begun'] as const).flatMap((result) =>
    count(result) === 0 ? [] : [`, ${count(result)} ${result.replace('_', ' ')}`],
  );
  return `${count('rotated')} rotated, ${count('pending')} pending, ${count('failed')} failed${more.join('')} in ${formatDuration(tookMs)}.\n`;
}
