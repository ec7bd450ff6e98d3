/** SQL: the cursor row, which says what this store has of HQ, and the staging of pages. */
import type { Queryable } from '../../db/transaction.ts';
import { queryOne } from '../../db/transaction.ts';

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
 * Stages one page and moves `paged`, in one statement: after kill -9 the download goes on behind the last page.
 * Returns false if another process has moved the cursor since `from` was read.
 *
 * The higher position wins: a record may come twice, when it moved while the store was paging, and within one page
 * with the removal of one scope and the document of another.
 */
export async function stagePage(
  db: Queryable,
  page: { readonly from: number; readonly to: number; readonly head: number; readonly nonce: string },
  text: string,
): Promise<boolean> {
  const { rowCount } = await db.query(
    `with mine as (
       update possync.cursor c set paged = $2::bigint, seen_head = $3::bigint, seen_nonce = $4::uuid
        where c.paged = $1::bigint and c.seen_head <= $3::bigint
       returning c.one
     ), rows as (
       select (r.row ->> 0) collate "C" as entity, (r.row ->> 1) collate "C" as pk, (r.row ->> 2)::bigint as pos,
              nullif(r.row -> 3, 'null'::jsonb) as doc
         from jsonb_array_elements($5::jsonb -> 'rows') r (row)
     ), latest as (
       select distinct on (w.entity, w.pk) w.entity, w.pk, w.pos, w.doc from rows w order by w.entity, w.pk, w.pos desc
     ), staged as (
       insert into possync.staging as s (entity, pk, pos, doc)
       select l.entity, l.pk, l.pos, l.doc from latest l cross join mine
       on conflict (entity, pk) do update set pos = excluded.pos, doc = excluded.doc where excluded.pos > s.pos
     )
     select from mine`,
    [page.from, page.to, page.head, page.nonce, text],
  );
  return rowCount === 1;
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
