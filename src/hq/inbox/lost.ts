/**
 * Records whose beginning was given up: `queue drop` of a sale takes its lines with it. What changes such a record
 * later (its void) would be a header without lines, so it waits until it is dropped as well, or comes again whole.
 */
import { readEntities } from '../../db/own-types.ts';
import { ident, publicTable } from '../../db/sql.ts';
import { queryOne, type Queryable } from '../../db/transaction.ts';
import { upEntities } from '../../protocol/entities.ts';

/** Aggregate (`type:key`) → the entry that was dropped. */
export type Dropped = ReadonlyMap<string, { readonly epoch: number; readonly seq: number }>;

/** Of this store. Few rows ever: each is a decision of a person. */
export async function droppedAggregates(db: Queryable, storeId: number): Promise<Dropped> {
  const { rows } = await db.query<{ aggregate: string; epoch: number; seq: number }>(
    `select x.aggregate, a.epoch, a.seq
       from possync.queue_audit a cross join lateral jsonb_array_elements_text(a.detail -> 'aggregates') as x(aggregate)
      where a.store_id = $1::int and a.action = 'drop'`,
    [storeId],
  );
  return new Map(rows.map(({ aggregate, epoch, seq }) => [aggregate, { epoch, seq }]));
}

/** Says which dropped entry a transaction cannot do without; undefined: it stands by itself. */
export async function missesDropped(
  db: Queryable,
  storeId: number,
  body: string,
  dropped: Dropped,
): Promise<{ readonly epoch: number; readonly seq: number } | undefined> {
  // Looked for in the text first: nearly no transaction is concerned.
  const near = [...dropped].filter(([aggregate]) =>
    body.includes(aggregate.slice(aggregate.indexOf(':') + 1)),
  );
  if (near.length === 0) return undefined;
  const rows = JSON.parse(body) as Record<string, unknown>;
  for (const entity of upEntities(await readEntities(db))) {
    const [key] = entity.root.key;
    if (key === undefined || entity.root.key.length > 1 || entity.children.length === 0) continue;
    if (
      rows[entity.root.table] === undefined ||
      entity.children.some(({ table }) => rows[table] !== undefined)
    )
      continue;
    for (const [aggregate, entry] of near) {
      if (!aggregate.startsWith(`${entity.type}:`)) continue;
      const value = aggregate.slice(entity.type.length + 1);
      const table = publicTable(entity.root.table);
      const { there } = await queryOne<{ there: boolean }>(
        db,
        `select exists (select from ${table} t
                         where t.${ident(key)} = (json_populate_record(null::${table}, $1::json)).${ident(key)}
                           and t.${ident(entity.up.storeColumn ?? 'store_id')} = $2::int) as there`,
        [JSON.stringify({ [key]: value }), storeId],
      );
      if (!there) return entry;
    }
  }
  return undefined;
}

export function missingText(entry: { readonly seq: number }): string {
  return `entry ${entry.seq}, which held the rest of this record, was dropped: drop this one as well`;
}
