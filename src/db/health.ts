/** Whether a side's database captures what is written into it: what `status` of both sides says beside the light. */
import type { ErrorCode } from '../core/errors.ts';
import { tablesOf, upEntities } from '../protocol/entities.ts';
import { FEED_TRIGGERS, marksByTable } from './capture-down.ts';
import type { Role } from './migrations.ts';
import { readEntities } from './own-types.ts';
import type { Queryable } from './transaction.ts';
import { triggerFaults } from './triggers.ts';

export interface DatabaseFault {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string;
}

const EVENTS = ['insert', 'update', 'delete', 'truncate'] as const;

/** undefined: every table of this side is captured. */
export async function captureFault(db: Queryable, role: Role): Promise<DatabaseFault | undefined> {
  const entities = await readEntities(db);
  const wanted =
    role === 'hq'
      ? [...marksByTable(entities).keys()].flatMap((table) => FEED_TRIGGERS.map((name) => ({ table, name })))
      : upEntities(entities)
          .flatMap(tablesOf)
          .flatMap(({ table }) => EVENTS.map((event) => ({ table, name: `possync_up_${event}` })));
  const { missing, disabled } = await triggerFaults(db, wanted);
  const [first] = [...missing, ...disabled];
  if (first === undefined) return undefined;
  const gone = missing.includes(first);
  const table = first.split('.')[0] ?? first;
  return {
    code: gone ? 'PS-DB-TRIGGER-MISSING' : 'PS-DB-TRIGGER-DISABLED',
    message: `changes of ${table} are not captured: trigger ${first} is ${gone ? 'missing' : 'disabled'}`,
    hint:
      role === 'hq'
        ? 'run: possync hq init (it puts them back), then possync hq reproject TYPE for what changed meanwhile'
        : 'run: possync store init (it puts them back; rows written meanwhile: possync store reexport)',
  };
}
