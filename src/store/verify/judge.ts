/** Pure: two sets of rows with their hashes, and which of them differ once everything on its way is left out. */
import type { Direction } from '../../db/compared.ts';
import type { DigestedRow } from '../../db/digest.ts';

export interface Suspect {
  readonly key: string;
  readonly record: string;
}

export interface Judged {
  readonly differing: Suspect[];
  readonly missingAtHq: Suspect[];
  readonly missingAtStore: Suspect[];
  /** Up: the store wrote it and has it no longer. */
  readonly onlyAtHq: number;
  /** Rows that differ and are left out. */
  readonly inFlight: number;
}

export function judge(
  direction: Direction,
  mine: readonly DigestedRow[],
  theirs: readonly DigestedRow[],
  unsettled: ReadonlySet<string>,
): Judged {
  const atHq = new Map(theirs.map((row) => [row.key, row]));
  const here = new Set<string>();
  const differing: Suspect[] = [];
  const missingAtHq: Suspect[] = [];
  const missingAtStore: Suspect[] = [];
  let onlyAtHq = 0;
  let inFlight = 0;
  const suspect = (list: Suspect[], { key, record }: DigestedRow): void => {
    if (unsettled.has(record)) inFlight += 1;
    else list.push({ key, record });
  };
  for (const row of mine) {
    here.add(row.key);
    const other = atHq.get(row.key);
    if (other === undefined) suspect(missingAtHq, row);
    else if (other.hash !== row.hash) suspect(differing, row);
  }
  for (const row of theirs) {
    if (here.has(row.key)) continue;
    if (direction === 'up') onlyAtHq += 1;
    else suspect(missingAtStore, row);
  }
  return { differing, missingAtHq, missingAtStore, onlyAtHq, inFlight };
}

/** Records of rows that are not the same on both sides, whatever the reason. */
export function suspectRecords(mine: readonly DigestedRow[], theirs: readonly DigestedRow[]): string[] {
  const hashes = new Map(theirs.map(({ key, hash }) => [key, hash]));
  return [...new Set(mine.filter(({ key, hash }) => hashes.get(key) !== hash).map(({ record }) => record))];
}

/** What both looks agree on: whatever one of them did not see was on its way. */
export function confirmed(first: Judged, again: Judged): Judged {
  const keys = (...lists: readonly Suspect[][]): ReadonlySet<string> =>
    new Set(lists.flat().map(({ key }) => key));
  const before = keys(first.differing, first.missingAtHq, first.missingAtStore);
  const still = (list: readonly Suspect[]): Suspect[] => list.filter(({ key }) => before.has(key));
  return {
    ...first,
    differing: still(again.differing),
    missingAtHq: still(again.missingAtHq),
    missingAtStore: still(again.missingAtStore),
  };
}
