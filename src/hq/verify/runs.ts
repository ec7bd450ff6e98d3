/**
 * SQL: comparisons that somebody asks for at HQ. The store makes them; HQ asks over its live link and waits.
 *
 *   possync verify (HQ) ─▶ verify_runs ─NOTIFY─▶ hq serve ─frame─▶ store ─ its questions ─▶ done, total
 *                              ▲                                      └─ its report ────────────┐
 *                              └────────────────────────────────────────────────────────────────┘
 */
import { randomUUID } from 'node:crypto';
import { queryMaybe, type Queryable } from '../../db/transaction.ts';
import { storeReportSchema, type Finding, type StoreReport, type VerifyRun } from '../../protocol/verify.ts';
import { ledgerFindings } from '../ledger/findings.ts';
import { LINK_FRESH_MS, tellServers } from '../stores/live.ts';

export interface RunState {
  readonly done: number | null;
  readonly total: number | null;
  /** Since the store said anything of it. */
  readonly silentMs: number;
  readonly report: StoreReport | null;
}

/** Reports are for the one who waits; the repairs they name are kept in possync.repairs. */
const KEPT = `interval '35 days'`;

/** Asks a store to compare itself; undefined = its link is down, nothing was asked. */
export async function askStore(
  db: Queryable,
  storeId: number,
  { repair, actor }: { readonly repair: boolean; readonly actor: string },
): Promise<string | undefined> {
  const live = await queryMaybe(
    db,
    `select 1 as yes from possync.live_links l
      where l.store_id = $1::integer and l.connected
        and l.written_at > clock_timestamp() - $2::bigint * interval '1 millisecond'`,
    [storeId, LINK_FRESH_MS],
  );
  if (live === undefined) return undefined;
  const id = randomUUID();
  await db.query(`delete from possync.verify_runs v where v.asked_at < now() - ${KEPT}`);
  await db.query(
    `insert into possync.verify_runs (id, store_id, repair, actor)
     values ($1::uuid, $2::integer, $3::boolean, $4::text)`,
    [id, storeId, repair, actor],
  );
  await tellServers(db, { type: 'verify', store: storeId, id });
  return id;
}

/** What a server sends to the store: read here and not from the notification, which anybody in the database can send. */
export async function readRequest(
  db: Queryable,
  storeId: number,
  id: string,
): Promise<{ repair: boolean; actor: string } | undefined> {
  return queryMaybe<{ repair: boolean; actor: string }>(
    db,
    `select v.repair, v.actor from possync.verify_runs v
      where v.id = $1::uuid and v.store_id = $2::integer and v.report is null`,
    [id, storeId],
  );
}

/** How far a store is; nothing happens where nobody at HQ asked, or another store's run is named. */
export async function noteProgress(
  db: Queryable,
  storeId: number,
  { id, done, total }: VerifyRun,
): Promise<void> {
  await db.query(
    `update possync.verify_runs v set done = $3::bigint, total = $4::bigint, heard_at = clock_timestamp()
      where v.id = $1::uuid and v.store_id = $2::integer and v.report is null`,
    [id, storeId, done, total],
  );
}

/** The report of a store about itself; false = nobody asked that store for it. */
export async function saveReport(
  db: Queryable,
  storeId: number,
  id: string,
  report: StoreReport,
): Promise<boolean> {
  const { rowCount } = await db.query(
    `update possync.verify_runs v set report = $3::jsonb, reported_at = clock_timestamp()
      where v.id = $1::uuid and v.store_id = $2::integer and v.report is null`,
    [id, storeId, JSON.stringify({ ...report, id: storeId })],
  );
  return rowCount === 1;
}

export async function readRun(db: Queryable, id: string): Promise<RunState | undefined> {
  const row = await queryMaybe<{
    done: number | null;
    total: number | null;
    silent_ms: number;
    report: string | null;
  }>(
    db,
    `select v.done, v.total, v.report::text as report,
            (extract(epoch from clock_timestamp() - coalesce(v.heard_at, v.asked_at)) * 1000)::bigint as silent_ms
       from possync.verify_runs v where v.id = $1::uuid`,
    [id],
  );
  if (row === undefined) return undefined;
  return {
    done: row.done,
    total: row.total,
    silentMs: row.silent_ms,
    report: row.report === null ? null : storeReportSchema.parse(JSON.parse(row.report)),
  };
}

/** More is not shown; that there are any is what decides. */
const FINDINGS_MAX = 200;

/** What the ledger found in the data of a store and has not seen mended. */
export async function openFindings(db: Queryable, storeId: number): Promise<Finding[]> {
  const found = await ledgerFindings(db, [storeId]);
  return found
    .slice(0, FINDINGS_MAX)
    .map(({ kind, code, register, number, expected, found: is, since, note, detail }) => ({
      kind,
      code,
      register: register ?? null,
      number: number ?? null,
      expected: expected ?? null,
      found: is ?? null,
      since,
      note,
      detail,
    }));
}
