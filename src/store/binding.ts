/** Whose database this is: bound to one store when it is enrolled, and to no other ever after. */
import type pg from 'pg';
import { PossyncError } from '../core/errors.ts';
import { queryOne, withTransaction, type Queryable } from '../db/transaction.ts';
import { setStoreIdentity } from './outbox/identity.ts';

export interface Takeover {
  readonly epoch: number;
  /** [table, row], parents first. */
  readonly rows: readonly (readonly [string, Record<string, unknown>])[];
}

/** The tables that a takeover may write: names from a message never become SQL. */
const CONTINUED = [
  'registers',
  'register_sessions',
  'sales',
  'sale_lines',
  'sale_line_taxes',
  'sale_payments',
  'z_reports',
  'zz_reports',
  'transfers',
  'transfer_lines',
] as const;

/**
 * Makes this the database of `store`. With a takeover also its epoch and the rows to continue from, which are written
 * as an apply: what HQ has sent is not sent back. Returns how many rows were new.
 */
export async function bindStore(
  pool: pg.Pool,
  store: { readonly id: number; readonly code: string },
  takeover: Takeover | undefined,
): Promise<number> {
  return await withTransaction(pool, async (tx) => {
    await setStoreIdentity(tx, { id: store.id, code: store.code, epoch: takeover?.epoch ?? 1 });
    if (takeover === undefined) return 0;
    await tx.query(`select set_config('possync.applying', 'on', true)`);
    let written = 0;
    for (const [name, row] of takeover.rows) written += await continueRow(tx, name, row);
    return written;
  });
}

async function continueRow(tx: Queryable, name: string, row: Record<string, unknown>): Promise<number> {
  const table = CONTINUED.find((known) => known === name);
  if (table === undefined)
    throw new PossyncError(
      'PS-PROTOCOL',
      `HQ sent a row of '${name}' to continue from, which this version does not know`,
    );
  const { rowCount } = await tx.query(
    `insert into public.${table} select r.* from jsonb_populate_record(null::public.${table}, $1::jsonb) r
     on conflict do nothing`,
    [JSON.stringify(row)],
  );
  return rowCount ?? 0;
}

/** Nothing sealed, captured or sold: nobody has ever worked with this database. */
export async function isUntouched(db: Queryable): Promise<boolean> {
  const { untouched } = await queryOne<{ untouched: boolean }>(
    db,
    `select s.seq = 0 and not exists (select from possync.raw) and not exists (select from possync.outbox)
              and not exists (select from public.sales) as untouched
       from possync.state s`,
  );
  return untouched;
}

/** Throws unless this database is empty enough to take over: nothing sold here, nothing waiting to be sent. */
export async function refuseReplacement(db: Queryable): Promise<void> {
  const { waiting, sold } = await queryOne<{ waiting: boolean; sold: boolean }>(
    db,
    `select exists (select from possync.raw) or exists (select from possync.outbox o join possync.sending d on (o.epoch, o.seq) > (d.epoch, d.seq)) as waiting,
            exists (select from public.sales) as sold`,
  );
  if (waiting)
    throw new PossyncError('PS-OUTBOX-NOT-EMPTY', 'this database holds what HQ has not acknowledged', {
      why: '--replace is for an empty server that takes over from a lost one',
    });
  if (sold)
    throw new PossyncError('PS-OUTBOX-NOT-EMPTY', 'this database holds sales already', {
      why: '--replace is for an empty server that takes over from a lost one',
      hint: 'leave --replace out, or use an empty database',
    });
}
