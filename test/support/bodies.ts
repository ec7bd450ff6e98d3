/** Bodies of the outbox as JSON, whatever version they have, for tests that look inside. */
import { ENTITIES } from '../../src/protocol/entities.ts';
import { bodyAsJson, layoutsOf } from '../../src/protocol/row-text.ts';
import type { Queryable } from '../../src/db/transaction.ts';

const LAYOUTS = layoutsOf(ENTITIES);
const JSON_COLUMNS = new Set(['tax_by_rate', 'totals_by_tender', 'declared_by_denomination']);

/** `{"sales":[{…}]}`, every value as text. */
export function jsonOf(body: string): string {
  return body.startsWith('{') ? body : bodyAsJson(body, LAYOUTS, (_, column) => JSON_COLUMNS.has(column));
}

/** Puts them into a temporary table `bodies (seq, body json)` of this connection, for SQL to look at. */
export async function copyBodies(db: Queryable): Promise<void> {
  const { rows } = await db.query<{ seq: number; body: string }>('select seq, body from possync.outbox');
  await db.query('create temp table bodies (seq bigint, body json)');
  await db.query(
    'insert into pg_temp.bodies (seq, body) select b.seq, b.body::json from unnest($1::bigint[], $2::text[]) b (seq, body)',
    [rows.map(({ seq }) => seq), rows.map(({ body }) => jsonOf(body))],
  );
}
