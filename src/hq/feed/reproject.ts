/**
 * Projects every record of a type again: after a change of its projection, or of its table with triggers disabled.
 * Only real differences get a position and travel.
 */
import type pg from 'pg';
import { PossyncError } from '../../core/errors.ts';
import { recordKey } from '../../db/record-key.ts';
import { literal, publicTable } from '../../db/sql.ts';
import { withConnection } from '../../db/transaction.ts';
import { downEntities, type Entity } from '../../protocol/entities.ts';
import { readHead } from './rounds.ts';
import { sealInTurn } from './seal.ts';

/** Captures every key, those that only the feed still has included, seals, and returns how many records moved. */
export async function reproject(pool: pg.Pool, type: string, entities?: readonly Entity[]): Promise<number> {
  const entity = downEntities(entities).find((candidate) => candidate.type === type);
  if (entity === undefined) {
    const known = downEntities(entities).map((candidate) => candidate.type);
    throw new PossyncError('PS-USAGE', `no data type ${type} goes to the stores`, {
      hint: `use one of: ${known.join(', ')}`,
    });
  }
  return withConnection(pool, async (client) => {
    await client.query(
      `insert into possync.capture (entity, pk)
       select ${literal(type)}, ${recordKey('r', entity.root.key)} from ${publicTable(entity.root.table)} r
       union
       select f.entity, f.pk from possync.feed f where f.entity = ${literal(type)} and f.doc is not null`,
    );
    // Another process may seal these keys first, together with other changes: then the heads tell.
    const before = await readHead(client);
    const sealed = await sealInTurn(client);
    return sealed.result === 'sealed' ? sealed.records : (await readHead(client)) - before;
  });
}
