/**
 * Puts triggers in place without making anybody wait for long: CREATE TRIGGER takes a table from its writers, and
 * whoever writes next queues behind a CREATE TRIGGER that itself waits for a long transaction.
 *
 *   in place already (same text, enabled) ──▶ nothing is locked
 *   else, table by table: half a second for the lock ──▶ created
 *                         └─ not got: step aside for a second, again; PS-DB-LOCKED after half a minute
 */
import { createHash } from 'node:crypto';
import { sqlstateOf } from '../core/classify.ts';
import { PossyncError } from '../core/errors.ts';
import { ident, literal, publicTable } from './sql.ts';
import { queryMaybe, type Queryable } from './transaction.ts';

export interface TriggerSpec {
  readonly name: string;
  /** CREATE OR REPLACE TRIGGER …: a disabled trigger comes back enabled. */
  readonly create: string;
}

/** Writers that come while we wait for the lock wait behind us: so long, and no longer. */
const LOCK_MS = 500;
/** Between two tries the writers have the table to themselves. */
const PAUSE_S = 1;
const TRIES = 20;

/** Creates those triggers of one table that are missing, switched off or of another text. */
export async function installTableTriggers(
  db: Queryable,
  table: string,
  triggers: readonly TriggerSpec[],
  tries: number = TRIES,
): Promise<void> {
  const wanted = triggers.map((spec) => ({ ...spec, mark: markOf(spec) }));
  const there = await marksInPlace(db, table);
  const missing = wanted.filter(({ name, mark }) => there.get(name) !== mark);
  if (missing.length === 0) return;
  const on = publicTable(table);
  await withLock(
    db,
    table,
    missing.flatMap(({ name, create, mark }) => [
      create.replace(/;\s*$/, ''),
      `comment on trigger ${ident(name)} on ${on} is ${literal(mark)}`,
    ]),
    tries,
  );
}

/** Changes when the text of the trigger does. */
function markOf({ create }: TriggerSpec): string {
  return `possync ${createHash('sha256').update(create).digest('hex').slice(0, 16)}`;
}

/** Of the enabled triggers: what is written on them. */
async function marksInPlace(db: Queryable, table: string): Promise<ReadonlyMap<string, string>> {
  const { rows } = await db.query<{ name: string; mark: string | null }>(
    `select t.tgname::text as name, obj_description(t.oid, 'pg_trigger') as mark
       from pg_catalog.pg_trigger t
      where t.tgrelid = to_regclass($1::text) and not t.tgisinternal and t.tgenabled in ('O', 'A')`,
    [publicTable(table)],
  );
  return new Map(rows.map(({ name, mark }) => [name, mark ?? '']));
}

/** The statements as one transaction; repeated as long as somebody else has the table. */
async function withLock(
  db: Queryable,
  table: string,
  statements: readonly string[],
  most: number,
): Promise<void> {
  const message = [`begin`, `set local lock_timeout = ${LOCK_MS}`, ...statements, 'commit'].join(';\n');
  for (let tries = 1; ; tries += 1) {
    try {
      await db.query(message);
      return;
    } catch (error) {
      await db.query('rollback');
      if (!['55P03', '40P01'].includes(sqlstateOf(error) ?? '')) throw error;
      if (tries >= most) throw await lockedError(db, table, error);
      await db.query('select pg_sleep($1::float8)', [PAUSE_S]);
    }
  }
}

async function lockedError(db: Queryable, table: string, cause: unknown): Promise<PossyncError> {
  const holder = await queryMaybe<{ pid: number; who: string; since: string | null }>(
    db,
    `select a.pid, coalesce(nullif(a.application_name, ''), a.usename::text, '?') as who,
            to_char(a.xact_start at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as since
       from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid
      where l.relation = to_regclass($1::text) and l.granted and l.mode <> 'AccessShareLock' and a.pid <> pg_backend_pid()
      order by a.xact_start limit 1`,
    [publicTable(table)],
  );
  return new PossyncError('PS-DB-LOCKED', `the table ${table} is in use by a long transaction`, {
    why:
      holder === undefined
        ? 'its lock could not be had within half a minute'
        : `process ${holder.pid} (${holder.who}) has had it since ${holder.since ?? '?'}`,
    cause,
  });
}

export interface TriggerFaults {
  /** `table.trigger` */
  readonly missing: readonly string[];
  /** Switched off, or firing for replicas only: what is written meanwhile is not captured. */
  readonly disabled: readonly string[];
}

/** Which of these triggers would not fire for an ordinary writer. */
export async function triggerFaults(
  db: Queryable,
  wanted: readonly { readonly table: string; readonly name: string }[],
): Promise<TriggerFaults> {
  const { rows } = await db.query<{ name: string; enabled: string | null }>(
    `select w.tbl || '.' || w.trg as name, t.tgenabled::text as enabled
       from unnest($1::text[], $2::text[]) with ordinality as w(tbl, trg, n)
       left join pg_catalog.pg_trigger t
         on t.tgrelid = to_regclass(format('public.%I', w.tbl)) and t.tgname = w.trg and not t.tgisinternal
      order by w.n`,
    [wanted.map(({ table }) => table), wanted.map(({ name }) => name)],
  );
  return {
    missing: rows.filter(({ enabled }) => enabled === null).map(({ name }) => name),
    // O fires for everybody but replicas, A always.
    disabled: rows.filter(({ enabled }) => enabled === 'D' || enabled === 'R').map(({ name }) => name),
  };
}
