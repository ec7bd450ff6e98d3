/** A store that pulls from HQ's database without HTTP between, and what both sides show of their synced tables. */
import type pg from 'pg';
import { pageBody, readPage, type RoundMark } from '../../src/hq/feed/pull.ts';
import { sealInTurn, type SealedRound } from '../../src/hq/feed/seal.ts';
import { queryOne, type Queryable } from '../../src/db/transaction.ts';
import { Mirror, type FetchPage, type PullResult } from '../../src/store/mirror/mirror.ts';

export const NEVER = new AbortController().signal;

function roundMark(text: string | undefined): RoundMark | undefined {
  const [pos, nonce] = text?.split(',') ?? [];
  return pos === undefined || nonce === undefined ? undefined : { pos: Number(pos), nonce };
}

/** What `GET pull` answers to a store. */
export function fetchFrom(hq: pg.Pool, storeId: number): FetchPage {
  return async ({ from, limit = 5_000, cursor, seen, fresh }) => {
    const applied = roundMark(cursor);
    const newest = roundMark(seen);
    const page = await readPage(hq, {
      storeId,
      from,
      limit,
      ...(applied === undefined ? {} : { cursor: applied }),
      ...(newest === undefined ? {} : { seen: newest }),
      fresh: fresh === '1',
    });
    return page.result === 'page' ? { result: 'page', body: Buffer.from(pageBody(page)) } : page;
  };
}

/** Seals what is visible; fails if nothing that travels has changed. */
export async function seal(db: Queryable): Promise<SealedRound> {
  const outcome = await sealInTurn(db);
  if (outcome.result !== 'sealed') throw new Error(`nothing was sealed: ${outcome.result}`);
  return outcome;
}

/** One complete pull of a store. */
export async function pull(
  hq: pg.Pool,
  store: pg.Pool,
  storeId: number,
  pageRows = 5_000,
): Promise<PullResult> {
  return new Mirror({ pool: store, pageRows }).pull(fetchFrom(hq, storeId), NEVER);
}

/** The synced tables, and which of HQ's rows are for store `$s`. Rows kept after a removal are not a store's state. */
const TABLES: readonly { table: string; columns: string; key: string; type: string; atHq: string }[] = [
  { type: 'store', table: 'stores', key: 'x.id', columns: 'x.id, x.code, x.name, x.active', atHq: 'true' },
  {
    type: 'department',
    table: 'departments',
    key: 'x.id',
    columns: 'x.id, x.code, x.name, x.parent_id, x.active',
    atHq: 'true',
  },
  {
    type: 'tax_rate',
    table: 'tax_rates',
    key: 'x.id',
    columns: 'x.id, x.code, x.rate_bp, x.compounds_on, x.active',
    atHq: 'true',
  },
  {
    type: 'product',
    table: 'products',
    key: 'x.id',
    columns: 'x.id, x.sku, x.name, x.price, x.department_id, x.active',
    atHq: 'true',
  },
  {
    type: 'store_price',
    table: 'store_prices',
    key: 'x.store_id, x.product_id',
    columns: 'x.store_id, x.product_id, x.price, x.active',
    atHq: 'x.store_id = $s and x.active',
  },
  { type: 'role', table: 'roles', key: 'x.id', columns: 'x.id, x.name, x.active', atHq: 'true' },
  {
    type: 'role',
    table: 'role_permissions',
    key: 'x.role_id',
    columns: 'x.role_id, x.permission, x.active',
    atHq: 'x.active',
  },
  {
    type: 'user',
    table: 'users',
    key: 'x.id',
    columns: 'x.id, x.username, x.display_name, x.pin_hash, x.active',
    atHq: `exists (select from public.user_store_roles a
                    where a.user_id = x.id and a.active and coalesce(a.store_id, $s) = $s)`,
  },
  {
    type: 'user_role',
    table: 'user_store_roles',
    key: 'x.id',
    columns: 'x.id, x.user_id, x.role_id, x.store_id, x.active',
    atHq: 'x.active and coalesce(x.store_id, $s) = $s',
  },
];

/** A SELECT of one text column `state`: every row that store `s` (an SQL expression) should have, or has. */
export function stateQuery(side: 'hq' | 'store', s: string): string {
  const parts = TABLES.map(({ table, columns, key, type, atHq }) => {
    const keys = key
      .split(', ')
      .map((column) => `${column}::text`)
      .join(', ');
    const where =
      side === 'hq'
        ? atHq.replaceAll('$s', s)
        : `not exists (select from possync.kept k
                        where k.entity = '${type}' and k.pk::jsonb = jsonb_build_array(${keys}))`;
    return `select jsonb_build_array('${table}', ${columns})::text as line from public.${table} x where ${where}`;
  });
  return `select coalesce(string_agg(w.line, E'\\n' order by w.line collate "C"), '') as state
            from (${parts.join('\n union all ')}) w`;
}

/** What HQ wants this store to have, or what it has. */
export async function stateOf(db: Queryable, side: 'hq' | 'store', storeId: number): Promise<string> {
  return (await queryOne<{ state: string }>(db, stateQuery(side, `${storeId}`))).state;
}
