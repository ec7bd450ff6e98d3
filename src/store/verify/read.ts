/** SQL: what a store reads of itself for a comparison with HQ, each time in one snapshot that waits for nobody. */
import type pg from 'pg';
import { readColumnTypes, type ColumnTypes } from '../../db/column-types.ts';
import type { ComparedTable } from '../../db/compared.ts';
import {
  beginReading,
  readDigests,
  readFloor,
  readRows,
  type DigestedRow,
  type Digests,
} from '../../db/digest.ts';
import { queryOne, withTransaction } from '../../db/transaction.ts';
import type { Entity } from '../../protocol/entities.ts';
import { VERIFY_MAX_BUCKETS, VERIFY_MAX_ROWS } from '../../protocol/verify.ts';
import { touchedRecords } from './on-its-way.ts';

export interface StorePosition {
  readonly pos: number;
  readonly nonce: string | null;
}

/** Where HQ stood when it read its rows: entries behind it are on their way. */
export interface InboxPosition {
  readonly epoch: number;
  readonly seq: number;
}

/** Rows in a bucket where nothing is known better: few bytes for the digests against few for the rows of one bucket. */
const ROWS_A_BUCKET = 64;
const LEAST_BUCKETS = 8;

export class StoreReader {
  readonly #pool: pg.Pool;
  readonly #storeId: number;
  readonly #types: ColumnTypes;

  private constructor(pool: pg.Pool, storeId: number, types: ColumnTypes) {
    this.#pool = pool;
    this.#storeId = storeId;
    this.#types = types;
  }

  static async open(pool: pg.Pool, storeId: number, entities: readonly Entity[]): Promise<StoreReader> {
    return new StoreReader(pool, storeId, await readColumnTypes(pool, entities));
  }

  get types(): ColumnTypes {
    return this.#types;
  }

  /** Rows of each table as PostgreSQL last estimated them: for the number of buckets and for showing progress. */
  async estimates(tables: readonly ComparedTable[]): Promise<Map<string, number>> {
    const names = [...new Set(tables.map(({ table }) => table.table))];
    // A table that was never analyzed has no estimate; its size tells enough.
    const { rows } = await this.#pool.query<{ name: string; rows: number }>(
      `select c.relname::text as name,
              (case when c.reltuples >= 0 then c.reltuples else pg_relation_size(c.oid) / 150 end)::bigint as rows
         from pg_class c join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'public'
        where c.relname = any ($1::text[])`,
      [names],
    );
    return new Map(rows.map((row) => [row.name, row.rows]));
  }

  async floor(table: ComparedTable): Promise<string | null> {
    return readFloor(this.#pool, table, this.#storeId);
  }

  async digests(table: ComparedTable, buckets: number): Promise<Digests> {
    return this.#read((tx) =>
      readDigests(tx, table, this.#types, { side: 'store', storeId: this.#storeId, buckets }),
    );
  }

  /** Rows, and the round that this store had applied when it had them. */
  async rowsDown(
    table: ComparedTable,
    buckets: number,
    wanted: readonly number[],
  ): Promise<{ rows: DigestedRow[]; cursor: StorePosition }> {
    return this.#read(async (tx) => ({
      cursor: await queryOne<{ pos: number; nonce: string | null }>(
        tx,
        'select c.pos, c.nonce from possync.cursor c',
      ),
      rows: await this.#rows(tx, table, buckets, wanted),
    }));
  }

  /** Rows, and which of `records(rows)` have changed since HQ stood at `inbox`: sealed or not, sent or not. */
  async rowsUp(
    table: ComparedTable,
    buckets: number,
    wanted: readonly number[],
    inbox: InboxPosition,
    suspects: (rows: readonly DigestedRow[]) => readonly string[],
  ): Promise<{ rows: DigestedRow[]; touched: ReadonlySet<string> }> {
    return this.#read(async (tx) => {
      const rows = await this.#rows(tx, table, buckets, wanted);
      return { rows, touched: await touchedRecords(tx, table.entity, inbox, suspects(rows)) };
    });
  }

  #rows(
    tx: pg.PoolClient,
    table: ComparedTable,
    buckets: number,
    wanted: readonly number[],
  ): Promise<DigestedRow[]> {
    return readRows(tx, table, this.#types, {
      side: 'store',
      storeId: this.#storeId,
      buckets,
      wanted,
      limit: VERIFY_MAX_ROWS + 1,
    });
  }

  #read<T>(work: (tx: pg.PoolClient) => Promise<T>): Promise<T> {
    return withTransaction(
      this.#pool,
      async (tx) => {
        await beginReading(tx);
        return await work(tx);
      },
      { isolation: 'repeatable read', readOnly: true },
    );
  }
}

export function bucketsFor(rows: number): number {
  const wanted = 2 ** Math.ceil(Math.log2(Math.max(1, rows / ROWS_A_BUCKET)));
  return Math.min(VERIFY_MAX_BUCKETS, Math.max(LEAST_BUCKETS, wanted));
}
