/**
 * A page of the feed on the wire: a line of JSON about the page, then its rows as PostgreSQL's COPY reads them.
 *
 *   {"from":0,"to":5000,"head":7301,"closing":false,"nonce":"…","sealedAt":1795449395769,"rows":5000}
 *   type ⇥ key ⇥ position ⇥ document or \N          one line a record, by position; tab, line feed, carriage return
 *   …                                               and backslash inside a value are written \t \n \r \\
 *
 * The rows go from HQ's database to the store's without becoming values of JavaScript at either end: parsing and checking
 * them there took as long as writing them into the database.
 */
import { pageHeadSchema, type PageHead } from './messages.ts';

export interface Page extends PageHead {
  /** Exactly `rows` lines, each with its line feed. */
  readonly lines: Buffer;
}

/** Far more than the first line ever takes. */
const HEAD_LIMIT_BYTES = 2_000;
const LINE_FEED = 0x0a;

export function writePage(head: PageHead, lines: string): string {
  return `${JSON.stringify(head)}\n${lines}`;
}

/** The page that goes on from `from`; a text says why it is none. */
export function readPage(body: Buffer, from: number): Page | string {
  const end = body.subarray(0, HEAD_LIMIT_BYTES).indexOf(LINE_FEED);
  const head = pageHeadSchema.safeParse(end < 0 ? undefined : jsonOf(body.toString('utf8', 0, end)));
  if (!head.success) return head.error.issues[0]?.message ?? 'it has another form';
  const page = { ...head.data, lines: body.subarray(end + 1) };
  const last = positionOfLast(page.lines) ?? from;
  const follows =
    page.from === from &&
    page.to >= last &&
    page.to <= page.head &&
    (!page.closing || page.to === page.head) &&
    page.rows > 0 === page.lines.length > 0;
  return follows
    ? page
    : `asked from ${from}, got ${page.from} to ${page.to} of ${page.head}, ${page.rows} rows in ${page.lines.length} bytes`;
}

/** undefined: there are no lines. NaN: the last one has no position, and nothing is at least that. */
function positionOfLast(lines: Buffer): number | undefined {
  if (lines.length === 0) return undefined;
  const begin = lines.lastIndexOf(LINE_FEED, lines.length - 2) + 1;
  const [, , position = ''] = lines
    .toString('utf8', begin, Math.min(lines.length, begin + 20_000))
    .split('\t');
  return /^\d{1,16}$/.test(position) ? Number(position) : NaN;
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
