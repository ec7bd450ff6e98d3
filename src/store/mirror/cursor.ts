/** SQL: the cursor row, which says what this store has of HQ, and the staging of pages. */
import type pg from 'pg';
import { sqlstateOf } from '../../core/classify.ts';
import { PossyncError } from '../../core/errors.ts';
import { copyIn } from '../../db/copy-in.ts';
import { queryOne, type Queryable } from '../../db/transaction.ts';
import type { Page } from '../../protocol/page.ts';

const STAGE = `copy possync.staging (entity, pk, pos, doc) from stdin with (encoding 'UTF8')`;

export interface MirrorState {
  /** Head of the last applied round. */
  readonly pos: number;
  /** Its nonce; null before the first apply, and while everything is pulled again. */
  readonly nonce: string | null;
  /** Pages are staged up to here; equal to pos when no download is in progress. */
  readonly paged: number;
  /** The newest head among the pages of the download in progress, 0 without one. */
  readonly seenHead: number;
  readonly seenNonce: string | null;
  readonly appliedAt: string | null;
  /** Records of the last applied round. */
  readonly records: number;
  /** Why the last apply failed, and the first of its kind since one succeeded; null once one has. */
  readonly error: { readonly code: string; readonly message: string; readonly at: string } | null;
}

interface DbCursor {
  readonly pos: number;
  readonly nonce: string | null;
  readonly paged: number;
  readonly seen_head: number;
  readonly seen_nonce: string | null;
  readonly applied_at: string | null;
  readonly records: number;
  readonly error_code: string | null;
  readonly error: string | null;
  readonly error_at: string | null;
}

/** Reads staging never: an apply that empties it must not make `status` wait. */
export async function readMirrorState(db: Queryable): Promise<MirrorState> {
  const row = await queryOne<DbCursor>(
    db,
    `select c.pos, c.nonce, c.paged, c.seen_head, c.seen_nonce, c.records, c.error_code, c.error,
            to_char(c.applied_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as applied_at,
            to_char(c.error_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as error_at
       from possync.cursor c`,
  );
  const { error, error_code: code, error_at: at } = row;
  return {
    pos: row.pos,
    nonce: row.nonce,
    paged: row.paged,
    seenHead: row.seen_head,
    seenNonce: row.seen_nonce,
    appliedAt: row.applied_at,
    records: row.records,
    error: error === null || at === null ? null : { code: code ?? 'PS-APPLY-FAILED', message: error, at },
  };
}

/**
 * Stages one page and moves `paged`, in the caller's transaction: after kill -9 the download goes on behind the last page.
 * Returns false if another process has moved the cursor since `from` was read.
 *
 * A record may be staged twice, when it moved while the store was paging, or with the removal of one scope and the
 * document of another: the apply keeps the higher position (dropOlder).
 */
export async function stagePage(tx: pg.ClientBase, page: Page): Promise<boolean> {
  const { rowCount } = await tx.query(
    `update possync.cursor c set paged = $2::bigint, seen_head = $3::bigint, seen_nonce = $4::uuid
      where c.paged = $1::bigint and c.seen_head <= $3::bigint`,
    [page.from, page.to, page.head, page.nonce],
  );
  if (rowCount !== 1) return false;
  if (page.rows > 0) await copyLines(tx, page);
  return true;
}

async function copyLines(tx: pg.ClientBase, { lines, rows }: Page): Promise<void> {
  try {
    await copyIn(tx, [{ sql: STAGE, data: lines, rows }]);
  } catch (error) {
    // Data that are none (22), fewer or more rows than announced (22P04), a document that is no object (23514).
    if (!/^2[23]/.test(sqlstateOf(error) ?? '')) throw error;
    throw new PossyncError('PS-PROTOCOL', 'HQ sent a page that breaks the protocol', {
      why: error instanceof Error ? error.message : String(error),
      cause: error,
    });
  }
}

/** Of a record that was staged more than once, all but its newest state. Nearly always there is none. */
export async function dropOlder(tx: Queryable): Promise<void> {
  await tx.query(
    `delete from possync.staging s
      using (select g.ctid as row, row_number() over (partition by g.entity, g.pk order by g.pos desc) as n
               from possync.staging g
              where (g.entity, g.pk) in (select m.entity, m.pk from possync.staging m
                                          group by m.entity, m.pk having count(*) > 1)) ranked
      where s.ctid = ranked.row and ranked.n > 1`,
  );
}

/** Forgets what was downloaded and applied: everything is pulled again from 0, and what did not come is swept. */
export async function resetCursor(db: Queryable): Promise<void> {
  // One message is one transaction. The lock comes first: a page that is just being staged would be too young for the
  // snapshot of a single statement, would stay, and its higher positions would hide what a restored HQ sends.
  await db.query(
    `select from possync.cursor c for update;
     delete from possync.staging s;
     update possync.cursor c set pos = 0, nonce = null, paged = 0, seen_head = 0, seen_nonce = null`,
  );
}

/** Notes why a round could not be applied, and since when it is this. */
export async function noteApplyError(db: Queryable, code: string, message: string): Promise<void> {
  await db.query(
    `update possync.cursor c set error_code = $1::text, error = $2::text,
            error_at = case when c.error_code = $1::text then c.error_at else clock_timestamp() end`,
    [code, message],
  );
}

/** The shape that the applied rounds filled; null before the first. */
export async function readShape(db: Queryable): Promise<string | null> {
  const { shape } = await queryOne<{ shape: string | null }>(db, 'select c.shape from possync.cursor c');
  return shape;
}
