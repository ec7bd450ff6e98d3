/**
 * Holes and doubles in numbers, as ranges: pure functions.
 *
 * Z and ZZ numbers are integers without a gap. Receipt numbers are text: the digits at its end count, and what stands
 * before them names a series of its own (`R1-0099` → `R1-0100`; a register that is renamed begins a new series). What is
 * normal for receipts is a note, told once for a series, and no hole or double:
 *
 *   numbers 1…300 used again by later sessions    it wraps, or begins again every day: "begins again"
 *   9 999 → 20 000                                 a leap of more than 1000: "leaps"
 *   more gaps than numbers, or ranges without end  these are no numbers one after the other
 *   1, 4, 7 here and 2, 3, 5, 6 at the next register  one numbering for both: only what none of them has is a hole
 */

/** From and to, both included. */
export type Range = readonly [bigint, bigint];

/** `{[1,5),[7,8)}`, PostgreSQL's own form of an int8multirange. */
export function readRanges(text: string): Range[] {
  return [...text.matchAll(/\[(-?\d+),(-?\d+)\)/g)].map(([, from = '', to = '']): Range => [
    BigInt(from),
    BigInt(to) - 1n,
  ]);
}

/** What lies between ranges that are in order and do not touch. */
export function gapsIn(ranges: readonly Range[]): Range[] {
  return ranges.slice(1).map(([from], index): Range => [(ranges[index]?.[1] ?? from) + 1n, from - 1n]);
}

export function sizeOf(ranges: readonly Range[]): bigint {
  return ranges.reduce((sum, [from, to]) => sum + to - from + 1n, 0n);
}

/** `13` or `13..15`. */
export function rangeText([from, to]: Range, prefix = ''): string {
  return from === to ? `${prefix}${from}` : `${prefix}${from}..${to}`;
}

export interface Series {
  readonly registerId: string;
  readonly prefix: string;
  /** undefined: too many ranges to be numbers one after the other. */
  readonly numbers: readonly Range[] | undefined;
  /** Used twice within a session. */
  readonly doubles: readonly Range[];
  /** Used by several sessions. */
  readonly shared: readonly Range[];
}

export interface NumbersFound {
  readonly registerId: string;
  readonly kind: 'receipt_hole' | 'receipt_double' | 'receipt_series';
  /** Within kind and series. */
  readonly key: string;
  readonly number: string;
  readonly text: string;
}

/** More missing in a row than that: the register was numbered anew. */
const LEAP = 1_000n;
/** More holes than that in a series are told as one. */
const MOST_HOLES = 50;
/** A numbering that began again may have holes of its own in its second round. */
const SECOND_ROUND_GAP = 50n;

/** All series of one store with one prefix: registers may share a numbering. */
export function judgeSeries(series: readonly Series[]): NumbersFound[] {
  const told = new Set<bigint>();
  return series.flatMap((one) => [
    ...holesOf(
      one,
      series.filter((other) => other !== one && isSharedNumbering(one, other)),
      told,
    ),
    ...doublesOf(one),
  ]);
}

/** Two registers that draw from one counter have (nearly) no number in common; two counters have many. */
function isSharedNumbering(one: Series, other: Series): boolean {
  const mine = one.numbers ?? [];
  const theirs = other.numbers ?? [];
  const common = sizeOf(mine) + sizeOf(theirs) - sizeOf(union(mine, theirs));
  const smaller = sizeOf(mine) < sizeOf(theirs) ? sizeOf(mine) : sizeOf(theirs);
  return common * 10n <= smaller;
}

function holesOf(one: Series, sharing: readonly Series[], told: Set<bigint>): NumbersFound[] {
  const { registerId, prefix, numbers } = one;
  if (numbers === undefined) return [noSeries(one)];
  const others = sharing.reduce<Range[]>((all, { numbers: more }) => union(all, more ?? []), []);
  const gaps = gapsIn(numbers).flatMap((gap) => subtract(gap, others));
  const leaps = gaps.filter(([from, to]) => to - from >= LEAP);
  const holes = gaps.filter(([from, to]) => to - from < LEAP);
  const found: NumbersFound[] = [];
  const lastLeap = leaps.at(-1);
  if (lastLeap !== undefined) {
    found.push({
      registerId,
      kind: 'receipt_series',
      key: 'leaps',
      number: rangeText(lastLeap, prefix),
      text: `the register leaps over more than ${LEAP} receipt numbers, ${leaps.length} times; the last time over these`,
    });
  }
  if (sizeOf(holes) > sizeOf(numbers)) return [...found, noSeries(one)];
  const first = holes[0];
  const last = holes.at(-1);
  if (first !== undefined && last !== undefined && holes.length > MOST_HOLES) {
    const number = rangeText([first[0], last[1]], prefix);
    const text = `${sizeOf(holes)} receipt numbers are missing in ${holes.length} places`;
    return [...found, { registerId, kind: 'receipt_hole', key: 'many', number, text }];
  }
  for (const hole of holes) {
    if (sharing.length > 0 && told.has(hole[0])) continue; // another register of the same numbering has told it
    told.add(hole[0]);
    const count = sizeOf([hole]);
    const text = count === 1n ? 'a receipt number is missing' : `${count} receipt numbers are missing`;
    const number = rangeText(hole, prefix);
    found.push({ registerId, kind: 'receipt_hole', key: String(hole[0]), number, text });
  }
  return found;
}

function noSeries({ registerId, prefix }: Series): NumbersFound {
  return {
    registerId,
    kind: 'receipt_series',
    key: 'none',
    number: prefix,
    text: 'the receipt numbers of this register do not follow one after the other: holes are not looked for',
  };
}

function doublesOf({ registerId, prefix, doubles, shared }: Series): NumbersFound[] {
  const again: Range[] = [];
  for (const range of shared) {
    const before = again.at(-1);
    const goesOn = before === undefined ? range[0] <= 1n : range[0] - before[1] <= SECOND_ROUND_GAP;
    if (!goesOn) break;
    again.push(range);
  }
  const found: NumbersFound[] = union(doubles, shared.slice(again.length)).map((range) => ({
    registerId,
    kind: 'receipt_double',
    key: String(range[0]),
    number: rangeText(range, prefix),
    text: 'used by more than one receipt',
  }));
  const first = again[0];
  const last = again.at(-1);
  if (first !== undefined && last !== undefined) {
    found.push({
      registerId,
      kind: 'receipt_series',
      key: 'again',
      number: rangeText([first[0], last[1]], prefix),
      text: 'the receipt numbers of this register have begun again; these were used more than once',
    });
  }
  return found;
}

function union(some: readonly Range[], more: readonly Range[]): Range[] {
  const sorted = [...some, ...more].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  const merged: [bigint, bigint][] = [];
  for (const [from, to] of sorted) {
    const last = merged.at(-1);
    if (last === undefined || from > last[1] + 1n) merged.push([from, to]);
    else if (to > last[1]) last[1] = to;
  }
  return merged;
}

/** What is left of one range. */
function subtract([from, to]: Range, taken: readonly Range[]): Range[] {
  const left: Range[] = [];
  let next = from;
  for (const [start, end] of taken) {
    if (end < next) continue;
    if (start > to) break;
    if (start > next) left.push([next, start - 1n]);
    next = end + 1n;
  }
  if (next <= to) left.push([next, to]);
  return left;
}
