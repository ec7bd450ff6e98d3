/** What a bench asks of the process that plays the stores, and what it answers. */
import type { StoreIdentity } from './identity.ts';

export interface FleetSpec {
  readonly hq: { readonly url: string; readonly id: string };
  readonly stores: readonly StoreIdentity[];
  /** HQ's head: the stores of a chain that has been there for a while have everything up to it. */
  readonly cursor: Cursor;
  /** Each keeps its credential in a folder below it and rotates it as a daemon does; without it none can. */
  readonly dir?: string;
}

export interface Cursor {
  readonly pos: number;
  readonly nonce: string | null;
}

export interface Lights {
  readonly green: number;
  /** Attempts and connections that ended since the last `mark`, by reason. */
  readonly ends: Readonly<Record<string, number>>;
  /** Of these, how many stores an HQ that answers has turned away once, twice and more often. */
  readonly refusedOnce: number;
  readonly refusedMore: number;
  readonly pullsFailed: Readonly<Record<string, number>>;
}

export interface PushWork {
  readonly inFlight: number;
}

export interface Pushed {
  readonly batches: number;
  readonly ms: number;
  /** Answers 429 and 503. */
  readonly later: number;
  readonly p50: number;
  readonly p99: number;
}

/** When stores got what was expected, on the clock of `timestampMs`. */
export interface Arrivals {
  readonly first: number;
  readonly median: number;
  readonly last: number;
}

export interface FleetCommands {
  readonly open: (spec: FleetSpec) => Promise<void>;
  /** Begins so many connections a second. */
  readonly connect: (pace: { readonly perSecond: number }) => void;
  readonly mark: () => void;
  readonly lights: () => Lights;
  /** Each store opens a shift; HQ has it when this resolves. */
  readonly openShifts: (work: PushWork) => Promise<void>;
  /** Each store writes so many batches in its shift. */
  readonly write: (work: { readonly batchesPerStore: number; readonly salesPerBatch: number }) => void;
  /** Sends everything that was written, `inFlight` stores at a time, each with one batch. */
  readonly push: (work: PushWork) => Promise<Pushed>;
  /** Resolves when all are green, each since a moment after that one. */
  readonly allGreen: (limit: { readonly afterMs: number; readonly timeoutMs: number }) => Promise<Arrivals>;
  /** Resolves when every store has a head above `pos`. */
  readonly allAbove: (what: { readonly pos: number; readonly timeoutMs: number }) => Promise<Arrivals>;
  readonly stop: () => Promise<void>;
}

/** Milliseconds since 1970 in fractions, comparable between processes of one machine. */
export function timestampMs(): number {
  return performance.timeOrigin + performance.now();
}
