/**
 * SQL: one page of the feed for one store.
 *
 *   cursor ──────────────▶ from ──── this page ────▶ to ─────────────▶ head
 *   (last applied round)        rows with pos > from
 *
 * A round may close only on a page that reaches the head *in its own snapshot*: fewer rows than asked for, then
 * `to = head`. Until then a record read earlier may have moved to a higher position, and comes again. There is no
 * upper bound fixed at the start: records move out of it, and the store would apply half a change of HQ.
 *
 * One statement is one snapshot, and reads no live row: documents are those that the round sealed.
 */
import type pg from 'pg';
import { queryMaybe, queryOne, withConnection, type Queryable } from '../../db/transaction.ts';
import { writePage } from '../../protocol/page.ts';
import { sealInTurn } from './seal.ts';

/** A position with the nonce of the round that ended there: tells a restored HQ from the one that gave the position. */
export interface RoundMark {
  readonly pos: number;
  readonly nonce: string;
}

export interface PageRequest {
  readonly storeId: number;
  readonly from: number;
  readonly limit: number;
  /** The round that the store has applied; absent before its first. */
  readonly cursor?: RoundMark;
  /** The newest head among the pages of the round being downloaded. */
  readonly seen?: RoundMark;
  /** Seal first: the head then covers all that was committed before this call. */
  readonly fresh?: boolean;
}

/** What the answer is the same for. */
type Asked = Omit<PageRequest, 'storeId' | 'fresh'>;

export interface FeedPage {
  readonly result: 'page';
  readonly from: number;
  readonly to: number;
  readonly head: number;
  readonly closing: boolean;
  readonly nonce: string;
  /** When HQ sealed the round that `head` ends: milliseconds since 1970, by HQ's database. */
  readonly sealedAt: number;
  readonly count: number;
  /** `count` lines as protocol/page.ts has them. */
  readonly lines: string;
}

export type PageResult =
  | FeedPage
  /** HQ does not know that round: it was restored, or the round was pruned. */
  | { readonly result: 'resync' }
  /** A standby that has not replayed what the store has seen: ask another server, or later. */
  | { readonly result: 'behind' };

interface DbPage {
  readonly head: number;
  readonly nonce: string;
  readonly sealed_at: number;
  readonly standby: boolean;
  readonly known: boolean;
  readonly count: number;
  readonly last: number | null;
  readonly lines: string;
}

/** "store_id = any('{0,42}')" would sort the whole feed; two ordered scans merge and stop at the limit. */
const scan = (scope: string): string => `
          (select f.entity, f.pk, f.pos, f.doc from possync.feed f
            where f.store_id = ${scope} and f.pos > $2::bigint
              and ($2::bigint > 0 or f.doc is not null) -- an empty store has nothing to remove
            order by f.pos limit $3::integer)`;

/** A text in a line of COPY. The text of a jsonb has no control characters: of that only backslashes are written twice. */
const escaped = (text: string): string =>
  [
    ['\\\\', '\\\\\\\\'],
    ['\\t', '\\\\t'],
    ['\\n', '\\\\n'],
    ['\\r', '\\\\r'],
  ].reduce((sql, [from, to]) => `replace(${sql}, E'${from}', E'${to}')`, text);

/** `rows`: the scans; `own`: one more column. */
const pageStatement = (rows: string, own = ''): string => `
select h.pos as head, r.nonce, (extract(epoch from r.sealed_at) * 1000)::bigint as sealed_at, pg_is_in_recovery() as standby,
       ($4::bigint is null or exists (select from possync.rounds c where c.head = $4::bigint and c.nonce = $5::uuid))
       and ($6::bigint is null or exists (select from possync.rounds s where s.head = $6::bigint and s.nonce = $7::uuid))
         as known,
       p.count, p.last, p.lines${own}
  from possync.head h
  join possync.rounds r on r.head = h.pos
 cross join lateral (
   select count(*)::integer as count, max(m.pos) as last,
          coalesce(string_agg(concat_ws(E'\\t', m.entity, ${escaped('m.pk')}, m.pos,
                                        coalesce(replace(m.doc::text, E'\\\\', E'\\\\\\\\'), E'\\\\N'))
                              || E'\\n', '' order by m.pos), '') as lines
     from (${rows}) m) p`;

const PAGE = pageStatement(`${scan('0')}
           union all${scan('$1::integer')}
           order by pos limit $3::integer`);

/** Of each reader one probe of feed_pos, in the snapshot of the page. */
const SHARED_PAGE = pageStatement(
  scan('0'),
  `,
       array(select u.id from unnest($1::integer[]) u (id)
              where exists (select from possync.feed f where f.store_id = u.id and f.pos > $2::bigint)) as own`,
);

/** One page. Cheap when nothing changed: two index probes. */
export async function readPage(pool: pg.Pool, request: PageRequest): Promise<PageResult> {
  const { storeId, fresh = false } = request;
  if (fresh) {
    const sealed = await withConnection(pool, async (client) => {
      const { rows } = await client.query<{ standby: boolean }>('select pg_is_in_recovery() as standby');
      if (rows[0]?.standby !== false) return false;
      await sealInTurn(client);
      return true;
    });
    if (!sealed) return { result: 'behind' };
  }
  return resultOf(request, await queryMaybe<DbPage>(pool, PAGE, [storeId, ...valuesOf(request)]));
}

export interface SharedPage {
  readonly page: PageResult;
  /** Which of the readers have records of their own above `from`: the page is not theirs. */
  readonly own: readonly number[];
}

/** The page as it is for every one of these stores that is not in `own`; never seals first. */
export async function readSharedPage(
  pool: pg.Pool,
  request: Asked,
  storeIds: readonly number[],
): Promise<SharedPage> {
  const row = await queryMaybe<DbPage & { readonly own: number[] }>(pool, SHARED_PAGE, [
    storeIds,
    ...valuesOf(request),
  ]);
  return { page: resultOf(request, row), own: row?.own ?? [] };
}

/** Whether this store has records above `from` that are not for all. */
export async function hasOwnRecords(
  db: Queryable,
  { storeId, from }: Pick<PageRequest, 'storeId' | 'from'>,
): Promise<boolean> {
  const { own } = await queryOne<{ own: boolean }>(
    db,
    'select exists (select from possync.feed f where f.store_id = $1::integer and f.pos > $2::bigint) as own',
    [storeId, from],
  );
  return own;
}

function valuesOf({ from, limit, cursor, seen }: Asked): (number | string | null)[] {
  return [from, limit, cursor?.pos ?? null, cursor?.nonce ?? null, seen?.pos ?? null, seen?.nonce ?? null];
}

function resultOf({ from, limit, cursor, seen }: Asked, page: DbPage | undefined): PageResult {
  if (page === undefined) throw new Error('possync.head names a round that possync.rounds does not have');
  const furthest = Math.max(from, cursor?.pos ?? 0, seen?.pos ?? 0);
  if (page.standby && page.head < furthest) return { result: 'behind' };
  if (!page.known || page.head < furthest) return { result: 'resync' };
  const closing = page.count < limit;
  return {
    result: 'page',
    from,
    to: closing ? page.head : (page.last ?? page.head),
    head: page.head,
    closing,
    nonce: page.nonce,
    sealedAt: page.sealed_at,
    count: page.count,
    lines: page.lines,
  };
}

/** The body of a 200 answer. */
export function pageBody({ from, to, head, closing, nonce, sealedAt, count, lines }: FeedPage): string {
  return writePage({ from, to, head, closing, nonce, sealedAt, rows: count }, lines);
}
