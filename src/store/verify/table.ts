/**
 * One table in one direction: digests first, then the rows of the buckets in which they differ, and those twice.
 *
 * verifier.ts says which side reads first and what is left out as being on its way.
 */
import { PossyncError } from '../../core/errors.ts';
import type { ComparedTable } from '../../db/compared.ts';
import { differingBuckets, foldDigests } from '../../db/digest.ts';
import { VERIFY_MAX_KEYS, type RowsQuestion, type TableReport } from '../../protocol/verify.ts';
import type { VerifyHq } from './hq.ts';
import { confirmed, judge, suspectRecords, type Judged, type Suspect } from './judge.ts';
import type { StoreReader } from './read.ts';
import type { RepairList } from './repair.ts';

/** Rows of each side that are held at once. */
const CHUNK_ROWS = 20_000;

/** A table of which nothing is known. */
export function unknownTable(
  { table, direction }: Pick<ComparedTable, 'table' | 'direction'>,
  { code, message, why }: Pick<PossyncError, 'code' | 'message' | 'why'>,
): TableReport {
  return {
    table: table.table,
    direction,
    rows_hq: null,
    rows_store: null,
    differing: null,
    missing_at_hq: null,
    missing_at_store: null,
    only_at_hq: null,
    in_flight: null,
    keys: { differing: [], missing_at_hq: [], missing_at_store: [] },
    reason: {
      code,
      message: (why === undefined || why === '' ? message : `${message}: ${why}`).slice(0, 2_000),
    },
  };
}

/** One table in one direction. */
export class TableComparison {
  readonly #hq: VerifyHq;
  readonly #reader: StoreReader;
  readonly #table: ComparedTable;
  readonly #list: RepairList;
  readonly #run: () => RowsQuestion['run'];
  readonly #keys = {
    differing: [] as string[],
    missing_at_hq: [] as string[],
    missing_at_store: [] as string[],
  };
  readonly #counts = { differing: 0, missing_at_hq: 0, missing_at_store: 0, only_at_hq: 0, in_flight: 0 };

  constructor(
    hq: VerifyHq,
    reader: StoreReader,
    table: ComparedTable,
    list: RepairList,
    run: () => RowsQuestion['run'],
  ) {
    this.#hq = hq;
    this.#reader = reader;
    this.#table = table;
    this.#list = list;
    this.#run = run;
  }

  async run(buckets: number): Promise<TableReport> {
    const { table, direction } = this.#table;
    const floor = await this.#reader.floor(this.#table);
    const mine = await this.#reader.digests(this.#table, buckets);
    const digest = foldDigests(mine.buckets);
    const theirs = await this.#hq.digests({
      run: this.#run(),
      table: table.table,
      direction,
      buckets,
      floor,
      digest,
    });
    this.#counts.only_at_hq += theirs.below;
    if (theirs.buckets !== null) {
      const answered = Buffer.from(theirs.buckets, 'base64');
      if (answered.length !== mine.buckets.length)
        throw new PossyncError('PS-PROTOCOL', 'HQ answered with another number of buckets');
      const differing = differingBuckets(mine.buckets, answered);
      const each = Math.max(1, Math.floor((CHUNK_ROWS * buckets) / Math.max(1, mine.rows, theirs.rows)));
      for (let from = 0; from < differing.length; from += each) {
        const known = await this.#chunk(buckets, differing.slice(from, from + each));
        if (!known)
          return unknownTable(
            this.#table,
            new PossyncError('PS-VERIFY-BEHIND', 'HQ does not know where this store stands'),
          );
      }
    }
    return {
      table: table.table,
      direction,
      rows_hq: theirs.rows + theirs.below,
      rows_store: mine.rows,
      ...this.#counts,
      keys: this.#keys,
      reason: null,
    };
  }

  /** Some buckets, twice where anything in them differs; false = HQ does not know the store's cursor. */
  async #chunk(buckets: number, wanted: readonly number[]): Promise<boolean> {
    const first = await this.#look(buckets, wanted);
    if (first === undefined) return false;
    const suspects = [...first.differing, ...first.missingAtHq, ...first.missingAtStore];
    const again = suspects.length === 0 ? first : await this.#look(buckets, wanted);
    if (again === undefined) return false;
    const found = confirmed(first, again);
    this.#counts.only_at_hq += found.onlyAtHq;
    this.#counts.in_flight += found.inFlight;
    this.#note('differing', found.differing);
    this.#note('missing_at_hq', found.missingAtHq);
    this.#note('missing_at_store', found.missingAtStore);
    return true;
  }

  async #look(buckets: number, wanted: readonly number[]): Promise<Judged | undefined> {
    return this.#table.direction === 'down' ? this.#lookDown(buckets, wanted) : this.#lookUp(buckets, wanted);
  }

  /** The store first: HQ then says what has moved since the cursor that these rows go with. */
  async #lookDown(buckets: number, wanted: readonly number[]): Promise<Judged | undefined> {
    const { rows: mine, cursor } = await this.#reader.rowsDown(this.#table, buckets, wanted);
    const { pos, nonce } = cursor;
    const theirs = await this.#ask(buckets, wanted, null, nonce === null ? null : { pos, nonce });
    if (!theirs.known) return undefined;
    return judge('down', mine, rowsOf(theirs.rows), new Set(theirs.unsettled));
  }

  /** HQ first: the store then knows what it has captured behind the inbox that those rows go with. */
  async #lookUp(buckets: number, wanted: readonly number[]): Promise<Judged> {
    const floor = await this.#reader.floor(this.#table);
    const theirs = await this.#ask(buckets, wanted, floor, null);
    const atHq = rowsOf(theirs.rows);
    const { rows: mine, touched } = await this.#reader.rowsUp(
      this.#table,
      buckets,
      wanted,
      theirs.inbox,
      (rows) => suspectRecords(rows, atHq),
    );
    return judge('up', mine, atHq, new Set([...theirs.unsettled, ...touched]));
  }

  #ask(
    buckets: number,
    wanted: readonly number[],
    floor: string | null,
    cursor: RowsQuestion['cursor'],
  ): ReturnType<VerifyHq['rows']> {
    const { table, direction } = this.#table;
    return this.#hq.rows({
      run: this.#run(),
      table: table.table,
      direction,
      buckets,
      floor,
      wanted: [...wanted],
      cursor,
    });
  }

  #note(kind: keyof TableReport['keys'], found: readonly Suspect[]): void {
    this.#counts[kind] += found.length;
    const { type } = this.#table.entity;
    for (const { key, record } of found) {
      if (this.#keys[kind].length < VERIFY_MAX_KEYS) this.#keys[kind].push(key);
      this.#list.add({ type, direction: this.#table.direction, key: record });
    }
  }
}

function rowsOf(rows: readonly (readonly string[])[]): { key: string; hash: string; record: string }[] {
  return rows.map(([key = '', hash = '', record = key]) => ({ key, hash, record }));
}
