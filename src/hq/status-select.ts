/** Which stores of HQ's status are shown and in which order: one rule for the command line, the API and the dashboard. */
import { ERRORS, isErrorCode } from '../core/errors.ts';
import { formatCount, plural } from '../core/quantities.ts';
import type { HqStatusView, HqStoreView } from '../protocol/status.ts';
import { isServing, summaryOf } from './status.ts';

export const SORTS = ['trouble', 'oldest', 'since', 'store'] as const;
export type StatusSort = (typeof SORTS)[number];

export interface StatusSelection {
  /** Only stores that ought to be connected and are not. */
  readonly red?: boolean;
  /** Only stores in which something has waited longer than this, or that have not synced for so long. */
  readonly behindMs?: number | undefined;
  readonly sort?: StatusSort;
}

/** Connected or not, somebody should look at it. */
export function isBehind(store: HqStoreView): boolean {
  return (
    store.stalled ||
    store.upstream.parked > 0 ||
    store.findings > 0 ||
    store.upstream.halted !== null ||
    store.downstream.pending > 0
  );
}

export function isRed(store: HqStoreView): boolean {
  return isServing(store) && store.connection.indicator === 'red';
}

/** Why a line of the list deserves a look, in a few words. */
export function whyOf(store: HqStoreView): string {
  const { connection, upstream, stalled } = store;
  if (connection.reason !== null) return connection.reason.message;
  if (upstream.halted !== null) return `halted: ${upstream.halted}`;
  if (stalled) return 'queue does not move';
  if (upstream.parked > 0) return `${formatCount(upstream.parked)} parked`;
  if (store.findings > 0) return plural(store.findings, 'finding');
  return store.downstream.pending > 0 ? 'catching up' : '';
}

/** And what to do about it; begins with a verb. */
export function fixOf({ connection, upstream, stalled, findings }: HqStoreView): string {
  if (connection.reason !== null) return connection.reason.hint;
  if (upstream.halted !== null && isErrorCode(upstream.halted)) return ERRORS[upstream.halted].hint;
  if (upstream.halted !== null || stalled) return 'look in the store: possync queue ls';
  if (upstream.parked > 0) return 'look at what was refused: possync queue ls --dead';
  return findings > 0 ? 'look at what does not add up: possync ledger' : '';
}

/** The queue is as the store last said, before it was cut off: it can only have grown. */
export function isRemembered(store: HqStoreView): boolean {
  return store.connection.indicator === 'red' && store.upstream.queued !== null;
}

/**
 * Whether the code is `pattern`, in which `*` stands for anything and `?` for one character. Two fingers and no regular
 * expression: a pattern of many stars must cost no more than a short one.
 */
export function matchesCode(code: string, pattern: string): boolean {
  let at = 0;
  let asked = 0;
  let star = -1;
  let from = 0;
  while (at < code.length) {
    if (
      asked < pattern.length &&
      (pattern[asked] === '?' || pattern[asked] === code[at]) &&
      pattern[asked] !== '*'
    ) {
      at += 1;
      asked += 1;
    } else if (pattern[asked] === '*') {
      star = asked;
      from = at;
      asked += 1;
    } else if (star >= 0) {
      // The last star takes one more character.
      from += 1;
      at = from;
      asked = star + 1;
    } else {
      return false;
    }
  }
  while (pattern[asked] === '*') asked += 1;
  return asked === pattern.length;
}

/** A status of these stores alone: sums and alerts are theirs, HQ's own alerts stay. */
export function ofStores(view: HqStatusView, patterns: readonly string[]): HqStatusView {
  const stores = view.stores.filter(({ code }) => patterns.some((pattern) => matchesCode(code, pattern)));
  const codes = new Set(stores.map(({ code }) => code));
  return {
    ...view,
    summary: summaryOf(stores),
    alerts: view.alerts.filter(({ store }) => store === null || codes.has(store)),
    stores,
  };
}

/** The sums stay those of all stores: a list of the red ones must not look like a chain that is wholly red. */
export function selectStores(
  view: HqStatusView,
  { red = false, behindMs, sort = 'trouble' }: StatusSelection,
  nowMs: number,
): HqStatusView {
  const stores = view.stores
    .filter((store) => !red || isRed(store))
    .filter((store) => behindMs === undefined || (isServing(store) && lagMs(store, nowMs) >= behindMs))
    .sort((a, b) => ORDERS[sort](a, b) || byCode(a, b));
  return { ...view, stores };
}

/** The longest time that something has waited, in either direction. */
function lagMs({ upstream, last_sync_at }: HqStoreView, nowMs: number): number {
  const since = (at: string | null): number => (at === null ? 0 : nowMs - Date.parse(at));
  return Math.max(since(upstream.oldest_at), last_sync_at === null ? Infinity : since(last_sync_at));
}

const byCode = (a: HqStoreView, b: HqStoreView): number => (a.code < b.code ? -1 : a.code > b.code ? 1 : 0);

/** Times as text: the older one first, what is unknown last. */
function older(a: string | null, b: string | null): number {
  if (a === b) return 0;
  if (a === null || b === null) return a === null ? 1 : -1;
  return a < b ? -1 : 1;
}

/** Red first, then what somebody should look at, then those that work, then those that nobody expects. */
function rank(store: HqStoreView): number {
  if (isRed(store)) return 0;
  if (!isServing(store)) return store.status === 'pending_provisioning' ? 3 : 4;
  return isBehind(store) ? 1 : 2;
}

const ORDERS: Readonly<Record<StatusSort, (a: HqStoreView, b: HqStoreView) => number>> = {
  trouble: (a, b) => rank(a) - rank(b) || older(a.upstream.oldest_at, b.upstream.oldest_at),
  oldest: (a, b) => older(a.upstream.oldest_at, b.upstream.oldest_at),
  since: (a, b) => older(a.connection.since, b.connection.since),
  store: byCode,
};
