/**
 * HQ's part of a repair: sends single records to a store again, and lets single records of a store replace HQ's.
 *
 *   down   record ─▶ capture ─▶ one sealing round (only what really differs moves, to all whom it concerns)
 *                 └▶ its document goes to the store that asked, whether it moved or not
 *   up     record ─▶ possync.repairs, open: the next entry with it replaces HQ's rows, which are kept beside
 *
 * The owner of a record wins: HQ for what comes down, the store for what it wrote. Nothing is deleted at HQ, and no
 * state moves backwards. Every record is written down with who asked, before anything is sent.
 */
import type pg from 'pg';
import { sqlstateOf } from '../../core/classify.ts';
import { PossyncError } from '../../core/errors.ts';
import { readColumnTypes } from '../../db/column-types.ts';
import { keyMatches, recordKey } from '../../db/record-key.ts';
import { literal, publicTable } from '../../db/sql.ts';
import { queryOne, withConnection, withTransaction } from '../../db/transaction.ts';
import { downEntities, upEntities, type Entity } from '../../protocol/entities.ts';
import type { Repair } from '../../protocol/verify.ts';
import { sealInTurn } from '../feed/seal.ts';

/** The JSON text of a RepairAnswer: its documents are never parsed here, numbers would lose digits. */
export async function answerRepair(
  pool: pg.Pool,
  storeId: number,
  { run, actor, records }: Repair,
  entities: readonly Entity[],
): Promise<string> {
  const down = records.filter(({ direction }) => direction === 'down');
  const up = records.filter(({ direction }) => direction === 'up');
  for (const { type } of down) requireType(downEntities(entities), type);
  for (const { type } of up) requireType(upEntities(entities), type);
  await withTransaction(pool, async (tx) => {
    await noteRepairs(tx, storeId, run.id, actor, down, 'sent');
    await noteRepairs(tx, storeId, run.id, actor, up, 'open');
    await captureAgain(tx, down, entities);
  }).catch((error: unknown) => {
    // A key that is none of its type: only a request that was made up has one.
    if (sqlstateOf(error)?.startsWith('22') === true)
      throw new PossyncError('PS-PROTOCOL', 'a record to repair has a key that its type cannot have', {
        cause: error,
      });
    throw error;
  });
  if (down.length > 0) await withConnection(pool, (client) => sealInTurn(client));
  return documentsOf(pool, storeId, down);
}

type Records = Repair['records'];

function requireType(entities: readonly Entity[], type: string): void {
  if (!entities.some((entity) => entity.type === type))
    throw new PossyncError('PS-PROTOCOL', `no data type ${type} travels this way`);
}

/** Open again what an interrupted repair left open, under the new run. */
async function noteRepairs(
  tx: pg.PoolClient,
  storeId: number,
  run: string,
  actor: string,
  records: Records,
  state: 'sent' | 'open',
): Promise<void> {
  await tx.query(
    `insert into possync.repairs as p (run, actor, store_id, direction, type, key, state)
     select distinct $1::uuid, $2::text, $3::integer, case $4::text when 'open' then 'up' else 'down' end, r.type, r.key, $4::text
       from unnest($5::text[], $6::text[]) as r (type, key)
     on conflict (store_id, type, key) where state = 'open'
     do update set run = excluded.run, actor = excluded.actor, at = excluded.at`,
    [run, actor, storeId, state, records.map(({ type }) => type), records.map(({ key }) => key)],
  );
}

/** Only keys that exist are captured: a round must never meet one that it cannot read. */
async function captureAgain(tx: pg.PoolClient, records: Records, entities: readonly Entity[]): Promise<void> {
  for (const entity of downEntities(entities)) {
    const keys = records.filter(({ type }) => type === entity.type).map(({ key }) => key);
    if (keys.length === 0) continue;
    const { root, type } = entity;
    const types = await readColumnTypes(tx, [entity]);
    await tx.query(
      `insert into possync.capture (entity, pk)
       select ${literal(type)}, ${recordKey('r', root.key)}
         from unnest($1::text[]) as k (pk)
         join ${publicTable(root.table)} r on ${keyMatches('r', root.table, root.key, 'k.pk', types)}
       union
       select f.entity, f.pk from possync.feed f
        where f.entity = ${literal(type)} and f.pk = any ($1::text[]) and f.doc is not null`,
      [keys],
    );
  }
}

/** What this store is to have of the records: of its own audience and nothing else. */
async function documentsOf(pool: pg.Pool, storeId: number, records: Records): Promise<string> {
  const { answer } = await queryOne<{ answer: string }>(
    pool,
    `select json_build_object('head', (select h.pos from possync.head h), 'documents', coalesce((
       select json_agg(json_build_array(k.type, k.key, coalesce(f.pos, 0), f.doc))
         from unnest($2::text[], $3::text[]) as k (type, key)
         left join lateral (
           select f.pos, f.doc from possync.feed f
            where f.entity = k.type and f.pk = k.key and f.store_id in (0, $1::integer)
            order by f.doc is null, f.pos desc limit 1) f on true), '[]'))::text as answer`,
    [storeId, records.map(({ type }) => type), records.map(({ key }) => key)],
  );
  return answer;
}
