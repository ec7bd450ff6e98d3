/** The schedule of a run: which fault hits whom, when and for how long; the same seed gives the same schedule. */
import { randomFor, type Random } from '../../test/support/random.ts';

/** What can be done to a chain, and the shortest and longest time it lasts (seconds). */
export const KINDS = {
  refuse: { on: 'line', lasts: [1, 5], what: 'nobody listens at HQ' },
  reset: { on: 'line', lasts: [1, 4], what: 'every connection is reset' },
  'black-hole': { on: 'line', lasts: [2, 14], what: 'what is sent disappears without a word' },
  delay: { on: 'line', lasts: [2, 6], what: 'each piece of data arrives later' },
  'half-close': { on: 'line', lasts: [1, 3], what: "HQ's side ends its direction" },
  'lost-answer': { on: 'line', lasts: [4, 8], what: 'HQ has taken a push, its answer never arrives' },
  duplicate: {
    on: 'line',
    lasts: [4, 8],
    what: 'a push arrives twice, the second time at any process of HQ',
  },
  'kill-daemon': { on: 'store', lasts: [0, 2], what: 'kill -9 of a store daemon' },
  'kill-hq': { on: 'server', lasts: [0, 2], what: 'kill -9 of a process of HQ' },
  'freeze-daemon': { on: 'store', lasts: [1, 12], what: 'SIGSTOP, later SIGCONT' },
  'freeze-hq': { on: 'server', lasts: [1, 12], what: 'SIGSTOP, later SIGCONT' },
  'second-daemon': {
    on: 'store',
    lasts: [0, 0],
    what: 'a second daemon on the same database: it must refuse',
  },
  'kill-backend': {
    on: 'machine',
    lasts: [0, 0],
    what: 'kill -9 of a PostgreSQL backend, so of all of them',
  },
  'pg-fast': { on: 'machine', lasts: [0, 0], what: 'PostgreSQL restarted, fast' },
  'pg-immediate': { on: 'machine', lasts: [0, 0], what: 'PostgreSQL restarted, immediate' },
  'pg-power': { on: 'machine', lasts: [0, 0], what: 'PostgreSQL and all its backends killed, started again' },
  'rewind-store': {
    on: 'store',
    lasts: [3, 10],
    what: "a store's database goes back to a copy of some seconds ago",
  },
  'rewind-hq': { on: 'hq', lasts: [3, 10], what: "HQ's database goes back to a copy of some seconds ago" },
  'clone-store': { on: 'store', lasts: [5, 10], what: 'a copy of a store runs beside it, tills and all' },
  'clock-step': { on: 'machine', lasts: [3, 8], what: 'the wall clock of a machine steps by up to a day' },
  'disk-full': { on: 'disk', lasts: [2, 5], what: "no byte left on a store's disk" },
} as const;

export type FaultKind = keyof typeof KINDS;
export const ALL_KINDS = Object.keys(KINDS) as FaultKind[];

export interface Fault {
  readonly n: number;
  readonly atMs: number;
  readonly kind: FaultKind;
  /** `HQ` or a store's code. */
  readonly target: string;
  readonly lastsMs: number;
  /** Milliseconds of delay, seconds of a clock step, which process of HQ. */
  readonly amount: number;
}

export interface Plan {
  readonly seed: number;
  readonly durationMs: number;
  readonly stores: readonly string[];
  readonly faults: readonly Fault[];
}

export interface PlanOptions {
  readonly seed: number;
  readonly durationMs: number;
  readonly stores: readonly string[];
  readonly servers: number;
  readonly kinds: readonly FaultKind[];
}

/** Nothing is broken before the tills have begun; everything has the time to begin before the end. */
const FIRST_MS = 1_500;
const LAST_BEFORE_END_MS = 3_000;
/** Of time between two faults: most of the time several are in force at once. */
const GAP_MS = [300, 2_300] as const;
/** Each of them stops a whole machine: drawn once a deck; the others twice. */
const HEAVY = new Set<FaultKind>([
  'rewind-hq',
  'clone-store',
  'disk-full',
  'pg-fast',
  'pg-immediate',
  'pg-power',
  'kill-backend',
  'second-daemon',
  'clock-step',
]);

export function makePlan({ seed, durationMs, stores, servers, kinds }: PlanOptions): Plan {
  const random = randomFor('torture plan', seed);
  const faults: Fault[] = [];
  // The first deck holds each kind once, so that a minute is enough to see every one of them.
  let deck = random.shuffle(kinds);
  const end = durationMs - LAST_BEFORE_END_MS;
  for (let atMs = FIRST_MS; atMs < end; atMs += between(random, GAP_MS[0], GAP_MS[1])) {
    if (deck.length === 0)
      deck = random.shuffle(kinds.flatMap((kind) => (HEAVY.has(kind) ? [kind] : [kind, kind])));
    const kind = deck.pop();
    if (kind === undefined) break;
    const { on, lasts } = KINDS[kind];
    faults.push({
      n: faults.length + 1,
      atMs,
      kind,
      target: targetOf(on, stores, random),
      lastsMs: Math.min(between(random, lasts[0] * 1_000, lasts[1] * 1_000), Math.max(0, durationMs - atMs)),
      amount: amountOf(kind, servers, random),
    });
  }
  return { seed, durationMs, stores, faults };
}

function targetOf(on: (typeof KINDS)[FaultKind]['on'], stores: readonly string[], random: Random): string {
  switch (on) {
    case 'hq':
    case 'server':
      return 'HQ';
    case 'machine':
      return random.pick(['HQ', ...stores]);
    case 'disk':
      return stores.at(-1) ?? 'HQ'; // the one on the small disk
    case 'line':
    case 'store':
      return random.pick(stores);
  }
}

function amountOf(kind: FaultKind, servers: number, random: Random): number {
  const draw = random.int(1_000_000); // always drawn: a kind must not shift what follows
  if (kind === 'delay') return 50 + (draw % 700);
  if (kind === 'clock-step') return [86_400, -86_400, 3_600, -3_600, -30, 45][draw % 6] ?? 0;
  return draw % servers;
}

function between(random: Random, from: number, to: number): number {
  return from + random.int(to - from + 1);
}
