/** SQL: per store and data type, how much went which way and when it last did. */
import type { Queryable } from '../db/transaction.ts';
import { readEntities } from '../db/own-types.ts';
import type { Entity } from '../protocol/entities.ts';
import type { TypeView } from '../protocol/status.ts';

interface Taken {
  readonly records: number;
  readonly lastMs: number;
}

/** What one store sent, and what is in the feed for it. */
export class TypesOfStore {
  readonly #entities: readonly Entity[];
  readonly #taken: ReadonlyMap<string, Taken>;
  readonly #given: ReadonlyMap<string, number>;
  readonly #common: ReadonlyMap<string, number>;

  constructor(
    entities: readonly Entity[],
    taken: ReadonlyMap<string, Taken>,
    given: ReadonlyMap<string, number>,
    common: ReadonlyMap<string, number>,
  ) {
    this.#entities = entities;
    this.#taken = taken;
    this.#given = given;
    this.#common = common;
  }

  get lastSaleMs(): number | null {
    return this.#taken.get('sale')?.lastMs ?? null;
  }

  /** A pull that moved nothing was a success of every type that goes down. */
  views(lastPullMs: number | null): Record<string, TypeView> {
    const views: Record<string, TypeView> = {};
    for (const { type, direction } of this.#entities) {
      const taken = this.#taken.get(type);
      const given = (this.#given.get(type) ?? 0) + (this.#common.get(type) ?? 0);
      const up = { last_success_at: iso(taken?.lastMs ?? null), records: taken?.records ?? 0 };
      const down = { last_success_at: iso(lastPullMs), records: given };
      views[type] =
        direction === 'down'
          ? { direction, ...down }
          : direction === 'up'
            ? { direction, ...up }
            : { direction: 'both', ...up, records: up.records + down.records };
    }
    return views;
  }
}

/** By store id. What goes to every store is counted once. */
export async function readTypes(
  tx: Queryable,
  storeId: number | undefined,
): Promise<ReadonlyMap<number, TypesOfStore>> {
  const entities = await readEntities(tx);
  const only = [storeId ?? null];
  const stores = await tx.query<{ id: number }>(
    'select s.id from public.stores s where $1::integer is null or s.id = $1::integer',
    only,
  );
  const taken = await tx.query<{ store: number; type: string; records: number; lastMs: number }>(
    `select r.store_id as store, r.type, r.records, (extract(epoch from r.last_at) * 1000)::bigint as "lastMs"
       from possync.received r where $1::integer is null or r.store_id = $1::integer`,
    only,
  );
  const given = await tx.query<{ store: number; type: string; records: number }>(
    `select f.store_id as store, f.entity as type, count(*) as records
       from possync.feed f
      where f.doc is not null and ($1::integer is null or f.store_id in (0, $1::integer))
      group by f.store_id, f.entity`,
    only,
  );
  const takenBy = byStore(taken.rows, ({ records, lastMs }) => ({ records, lastMs }));
  const givenTo = byStore(given.rows, ({ records }) => records);
  const common = givenTo.get(0) ?? new Map<string, number>();
  return new Map(
    stores.rows.map(({ id }) => [
      id,
      new TypesOfStore(entities, takenBy.get(id) ?? new Map(), givenTo.get(id) ?? new Map(), common),
    ]),
  );
}

/** By store, and then by type: looked through once, however many stores there are. */
function byStore<Row extends { readonly store: number; readonly type: string }, T>(
  rows: readonly Row[],
  of: (row: Row) => T,
): Map<number, Map<string, T>> {
  const stores = new Map<number, Map<string, T>>();
  for (const row of rows) {
    const types = stores.get(row.store) ?? new Map<string, T>();
    types.set(row.type, of(row));
    stores.set(row.store, types);
  }
  return stores;
}

function iso(ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString();
}
