/**
 * SQL: the findings of the ledger: what is odd in what stores have sent. Written by its rounds, read by `verify`,
 * `status` and `ledger`.
 *
 * A finding is of a kind, has a key, and belongs to a *scope*: what a round judges as one (a session, a register's
 * numbers). A round says what is to be found in a scope; what is open there and not said any more is closed with a
 * time and kept. What comes back is opened again, and `times` counts it.
 */
import type pg from 'pg';
import type { ErrorCode } from '../../core/errors.ts';
import type { Queryable } from '../../db/transaction.ts';
import { writeAudit } from '../stores/stores.ts';
import { groupBy } from './group-by.ts';

/** What a kind of finding is called outside; a *note* is worth reading and no reason to act. */
export const FINDING_KINDS = {
  z_pending: { code: 'PS-LEDGER-Z-PENDING', note: false },
  z_contradicted: { code: 'PS-LEDGER-Z-DIFFERS', note: false },
  z_hole: { code: 'PS-LEDGER-Z-HOLE', note: false },
  z_double: { code: 'PS-LEDGER-Z-DOUBLE', note: false },
  z_start: { code: 'PS-LEDGER-Z-START', note: true },
  late_sale: { code: 'PS-LEDGER-LATE-SALE', note: false },
  zz_pending: { code: 'PS-LEDGER-ZZ-PENDING', note: false },
  zz_contradicted: { code: 'PS-LEDGER-ZZ-DIFFERS', note: false },
  zz_hole: { code: 'PS-LEDGER-ZZ-HOLE', note: false },
  zz_double: { code: 'PS-LEDGER-ZZ-DOUBLE', note: false },
  receipt_hole: { code: 'PS-LEDGER-RECEIPT-HOLE', note: false },
  receipt_double: { code: 'PS-LEDGER-RECEIPT-DOUBLE', note: false },
  receipt_series: { code: 'PS-LEDGER-RECEIPT-SERIES', note: true },
  session_of_user: { code: 'PS-LEDGER-SESSION-TWICE', note: false },
  session_of_register: { code: 'PS-LEDGER-SESSION-TWICE', note: false },
  session_unknown: { code: 'PS-LEDGER-SESSION-UNKNOWN', note: false },
  product_unknown: { code: 'PS-LEDGER-PRODUCT-UNKNOWN', note: true },
  given_up: { code: 'PS-LEDGER-GIVEN-UP', note: true },
  older_state: { code: 'PS-LEDGER-OLDER-STATE', note: false },
} as const satisfies Record<string, { readonly code: ErrorCode; readonly note: boolean }>;

export type FindingKind = keyof typeof FINDING_KINDS;

export interface LedgerFinding {
  readonly storeId: number;
  readonly kind: FindingKind;
  /** The register's code, or its id where HQ does not know the register. */
  readonly register?: string;
  /** Of a Z, a ZZ, a receipt or an entry; a range as `13..15`. */
  readonly number?: string;
  readonly expected?: string;
  readonly found?: string;
  readonly code: ErrorCode;
  /** RFC 3339: open since then. */
  readonly since: string;
  /** RFC 3339; only of findings that are mended. */
  readonly closed?: string;
  /** No reason to act. */
  readonly note: boolean;
  /** One sentence for people. */
  readonly detail: string;
}

export interface FindingFilter {
  readonly storeIds?: readonly number[] | undefined;
  /** Closed ones as well. */
  readonly closed?: boolean;
}

/** Open findings, alerts and notes, of all stores or some; in the order of store, code and number. */
export async function ledgerFindings(db: Queryable, storeIds?: readonly number[]): Promise<LedgerFinding[]> {
  return listFindings(db, { storeIds });
}

/** Nothing that still comes may end these: the store was restored, and what HQ has of the record it will never say again. */
const CLOSED_BY_HAND: readonly FindingKind[] = ['older_state'];

/** Ends an open finding about a record by hand; false = there is none of those that may be ended so. */
export async function closeFinding(
  tx: Queryable,
  { storeId, key, actor, reason }: { storeId: number; key: string; actor: string; reason: string },
): Promise<boolean> {
  const { rows } = await tx.query<{ kind: string; type: string; detail: string }>(
    `update possync.findings f set closed_at = now()
      where f.store_id = $1::integer and f.key = $2::text and f.kind = any ($3::text[]) and f.closed_at is null
     returning f.kind, f.type, f.detail::text as detail`,
    [storeId, key, CLOSED_BY_HAND],
  );
  for (const { kind, type, detail } of rows)
    await writeAudit(tx, {
      actor,
      action: 'ledger close',
      storeId,
      details: { kind, type, key, reason, finding: JSON.parse(detail) as unknown },
    });
  return rows.length > 0;
}

interface DbFindingRow extends pg.QueryResultRow {
  store_id: number;
  kind: string;
  key: string;
  register: string | null;
  number: string | null;
  expected: string | null;
  found: string | null;
  detail: string | null;
  note: boolean;
  since: string;
  closed: string | null;
}

export async function listFindings(
  db: Queryable,
  { storeIds, closed = false }: FindingFilter,
): Promise<LedgerFinding[]> {
  const { rows } = await db.query<DbFindingRow>(
    `select f.store_id, f.kind, f.key, coalesce(r.code, f.detail ->> 'register_id') as register,
            f.detail ->> 'number' as number, f.detail ->> 'expected' as expected, f.detail ->> 'found' as found,
            coalesce(f.detail ->> 'text', f.type || ' ' || f.key) as detail, f.note,
            ${rfc3339('f.opened_at')} as since, ${rfc3339('f.closed_at')} as closed
       from possync.findings f
       left join public.registers r on r.store_id = f.store_id and r.id::text = f.detail ->> 'register_id'
      where ($1::int[] is null or f.store_id = any($1::int[])) and ($2::boolean or f.closed_at is null)
        and f.kind = any($3::text[])
      order by f.store_id, f.kind, f.detail ->> 'register_id', length(f.detail ->> 'number'), f.detail ->> 'number', f.key`,
    [storeIds ?? null, closed, Object.keys(FINDING_KINDS)],
  );
  return rows.map((row) => {
    const kind = row.kind as FindingKind; // the statement asks for no other
    return {
      storeId: row.store_id,
      kind,
      ...(row.register === null ? {} : { register: row.register }),
      ...(row.number === null ? {} : { number: row.number }),
      ...(row.expected === null ? {} : { expected: row.expected }),
      ...(row.found === null ? {} : { found: row.found }),
      code: FINDING_KINDS[kind].code,
      since: row.since,
      ...(row.closed === null ? {} : { closed: row.closed }),
      note: row.note,
      detail: row.detail ?? row.key,
    };
  });
}

function rfc3339(column: string): string {
  return `to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;
}

/** What a round found. */
export interface Found {
  readonly storeId: number;
  readonly scope: string;
  readonly kind: FindingKind;
  /** The entity it is about. */
  readonly type: string;
  readonly key: string;
  readonly registerId?: string;
  readonly number?: string;
  readonly expected?: string;
  readonly found?: string;
  readonly text: string;
}

export interface Scope {
  readonly storeId: number;
  readonly scope: string;
}

/** Makes what is open in these scopes exactly `found`; of a scope that was not named, nothing is closed. */
export async function settleFindings(
  tx: Queryable,
  scopes: readonly Scope[],
  found: readonly Found[],
): Promise<void> {
  const rows = bounded(found).map((one) => ({
    store_id: one.storeId,
    scope: one.scope,
    kind: one.kind,
    type: one.type,
    key: one.key,
    note: FINDING_KINDS[one.kind].note,
    detail: {
      register_id: one.registerId,
      number: one.number,
      expected: one.expected,
      found: one.found,
      text: one.text,
    },
  }));
  await tx.query(
    `update possync.findings f set closed_at = now()
       from unnest($1::int[], $2::text[]) as s(store_id, scope)
      where f.store_id = s.store_id and f.scope = s.scope and f.closed_at is null
        and not exists (select from jsonb_to_recordset($3::jsonb) as d(store_id int, kind text, type text, key text)
                         where d.store_id = f.store_id and d.kind = f.kind and d.type = f.type and d.key = f.key)`,
    [scopes.map(({ storeId }) => storeId), scopes.map(({ scope }) => scope), JSON.stringify(rows)],
  );
  if (rows.length === 0) return;
  // A finding that says the same again is left alone: its row is not written at every push of a store.
  await tx.query(
    `insert into possync.findings as f (store_id, kind, type, key, scope, note, detail)
     select d.store_id, d.kind, d.type, d.key, d.scope, d.note, d.detail
       from jsonb_to_recordset($1::jsonb)
            as d(store_id int, kind text, type text, key text, scope text, note boolean, detail jsonb)
     on conflict (store_id, kind, type, key) do update
        set scope = excluded.scope, note = excluded.note, detail = excluded.detail, last_at = now(),
            times = f.times + (f.closed_at is not null)::int,
            opened_at = case when f.closed_at is null then f.opened_at else now() end, closed_at = null
      where f.closed_at is not null or f.detail is distinct from excluded.detail`,
    [JSON.stringify(rows)],
  );
}

/** A store may send anything: no more than so many of one kind in a scope. */
const MOST_OF_A_KIND = 100;

function bounded(found: readonly Found[]): Found[] {
  const groups = groupBy(found, ({ storeId, scope, kind }) => `${storeId} ${kind} ${scope}`);
  return [...groups.values()].flatMap((group) => {
    const [first] = group;
    const more = group.length - MOST_OF_A_KIND;
    if (first === undefined || more <= 0) return group;
    const { storeId, scope, kind, type } = first;
    const text = `and ${more + 1} more of the same kind`;
    return [
      ...group.slice(0, MOST_OF_A_KIND - 1),
      { storeId, scope, kind, type, key: `more ${scope}`, text },
    ];
  });
}

/** A product that was unknown may have come (back) to the catalogue. */
export async function closeKnownProducts(tx: Queryable): Promise<void> {
  await tx.query(
    `update possync.findings f set closed_at = now()
      where f.kind = 'product_unknown' and f.closed_at is null
        and exists (select from public.products p where p.id = f.key::uuid)`,
  );
}
