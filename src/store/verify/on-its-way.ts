/** Which records some entry behind HQ's position, or a capture that is not sealed yet, speaks of: read from their bodies. */
import type pg from 'pg';
import { tablesOf, type Entity } from '../../protocol/entities.ts';

import { bodyAsJson, JSON_LAYOUT, type Layout } from '../../protocol/row-text.ts';
import type { InboxPosition } from './read.ts';

/** Bodies at a time: a queue of weeks must not lie in memory. */
const PAGE = 500;

interface DbBody {
  epoch: number;
  seq: number;
  v: number;
  body: string;
}

export async function touchedRecords(
  tx: pg.PoolClient,
  entity: Entity,
  position: InboxPosition,
  records: readonly string[],
): Promise<ReadonlySet<string>> {
  if (records.length === 0) return new Set();
  const wanted = new Set(records);
  const touched = new Set<string>();
  const layouts = await readLayouts(tx);
  const look = (v: number, body: string): void => {
    for (const record of recordsIn(v < 2 ? body : bodyAsJson(body, layouts, () => false), entity)) {
      if (wanted.has(record)) touched.add(record);
    }
  };
  const { rows: captured } = await tx.query<{ layout: string; doc: string }>(
    `select coalesce(w.layout, '${JSON_LAYOUT} ' || w.tbl) as layout, w.doc from possync.raw w
      where w.tbl = any ($1::text[]) and w.doc is not null`,
    [tablesOf(entity).map(({ table }) => table)],
  );
  for (const { layout, doc } of captured) look(2, `I 1 ${layout}\n${doc}\n`);
  for (let { epoch, seq } = position; ;) {
    const { rows } = await tx.query<DbBody>(
      `select o.epoch, o.seq, o.v, o.body from possync.outbox o
        where (o.epoch, o.seq) > ($1::integer, $2::bigint) and jsonb_exists(o.types, $3::text)
        order by o.epoch, o.seq limit ${PAGE}`,
      [epoch, seq, entity.type],
    );
    for (const { v, body } of rows) look(v, body);
    const last = rows.at(-1);
    if (last === undefined || rows.length < PAGE) return touched;
    ({ epoch, seq } = last);
  }
}

async function readLayouts(tx: pg.PoolClient): Promise<ReadonlyMap<string, Layout>> {
  const { rows } = await tx.query<{ id: string; tbl: string; columns: string[] }>(
    'select id, tbl, columns from possync.layouts',
  );
  return new Map(rows.map(({ id, tbl, columns }) => [id, { id, table: tbl, columns }]));
}

/** Keys in the form of recordKey(). */
function* recordsIn(json: string, entity: Entity): Generator<string> {
  const body = new Map(Object.entries(JSON.parse(json) as Record<string, Record<string, unknown>[]>));
  for (const { table } of tablesOf(entity)) {
    const child = entity.children.find((candidate) => candidate.table === table);
    const columns = child?.parentKey ?? entity.root.key;
    for (const row of body.get(table) ?? []) {
      const fields = new Map(Object.entries(row));
      yield JSON.stringify(columns.map((column) => String(fields.get(column))));
    }
  }
}
