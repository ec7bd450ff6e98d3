/** `possync verify --repairs`: which records were sent again, by whom and with what result; newest first, on either side. */
import type pg from 'pg';
import { EXIT, PossyncError } from '../../core/errors.ts';
import { listRepairs as atHq } from '../../hq/verify/repairs.ts';
import { showStore } from '../../hq/stores/stores.ts';
import type { ListedRepair } from '../../protocol/verify.ts';
import { readStoreIdentity } from '../../store/outbox/identity.ts';
import { listRepairs as inStore } from '../../store/verify/repairs.ts';
import type { Answer } from '../context.ts';
import { renderTable } from '../render/table.ts';
import type { Paint } from '../render/term.ts';

const LIMIT_DEFAULT = 50;
const LIMIT_MAX = 100_000;

export async function repairsAnswer(
  pool: pg.Pool,
  {
    role,
    code,
    limit = LIMIT_DEFAULT,
  }: { role: 'hq' | 'store'; code: string | undefined; limit: number | undefined },
): Promise<Answer> {
  if (limit < 1 || limit > LIMIT_MAX)
    throw new PossyncError('PS-USAGE', `--limit must be between 1 and ${LIMIT_MAX}`);
  // One more than is shown: whether there are more is told.
  const found = role === 'hq' ? await readAtHq(pool, code, limit + 1) : await readInStore(pool, limit + 1);
  const repairs = found.slice(0, limit);
  const more = found.length > limit;
  return {
    schema: 'possync.repairs/1',
    exit: EXIT.ok,
    body: { repairs, more },
    text: (paint) => repairsText(paint, repairs, more),
  };
}

async function readAtHq(pool: pg.Pool, code: string | undefined, limit: number): Promise<ListedRepair[]> {
  const storeId = code === undefined ? undefined : (await showStore(pool, code)).id;
  return atHq(pool, { storeId, limit });
}

async function readInStore(pool: pg.Pool, limit: number): Promise<ListedRepair[]> {
  const identity = await readStoreIdentity(pool);
  return identity === undefined ? [] : inStore(pool, identity.code, limit);
}

const WAY = { down: 'HQ → store', up: 'store → HQ' } as const;

function repairsText(paint: Paint, repairs: readonly ListedRepair[], more: boolean): string {
  if (repairs.length === 0) return 'Nothing was ever repaired.\n';
  const rows = repairs.map(({ store, at, actor, direction, type, key, result, replaced_rows: replaced }) => [
    `${at.slice(0, 10)} ${at.slice(11, 19)}`,
    store,
    WAY[direction].replace('→', paint.glyphs.to),
    type,
    key,
    `${result}${replaced === null || replaced === 0 ? '' : ` (${replaced} rows of HQ kept)`}`,
    actor,
  ]);
  return (
    renderTable(paint, ['WHEN', 'STORE', 'WAY', 'TYPE', 'KEY', 'RESULT', 'BY'], rows) +
    (more ? `There are more: --limit ${2 * repairs.length}.\n` : '')
  );
}
