/** The queue of a store, printed as it is read: a million entries take no more memory than a page of them. */
import type pg from 'pg';
import { databaseError } from '../../core/classify.ts';
import { EXIT, type ExitCode } from '../../core/errors.ts';
import { VERSION } from '../../core/version.ts';
import {
  countQueue,
  listQueue,
  type QueueCounts,
  type QueueEntry,
  type QueueFilters,
} from '../../store/outbox/queue.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { formatAgo, formatBytes, formatCount, formatDuration } from '../../core/quantities.ts';
import { renderTable } from '../render/table.ts';
import type { Paint } from '../render/term.ts';
import type { DocumentName } from '../schemas/documents.ts';
import { queueFilters } from './filters.ts';

const SCHEMA = 'possync.queue/1' satisfies DocumentName;
/** Rows of a table whose column widths are worked out together. */
const TABLE_ROWS = 500;

export async function listStoreQueue(
  context: Context,
  pool: pg.Pool,
  args: Args,
): Promise<Answer | ExitCode> {
  const { stdout, clock } = context;
  const filters = queueFilters(args);
  const failIfOlderMs = args.durationMs('failIfOlder');
  const counts = await countQueue(pool);
  const ageMs = counts.oldestAt === null ? 0 : clock.now() - Date.parse(counts.oldestAt);
  const exit = failIfOlderMs !== undefined && ageMs > failIfOlderMs ? EXIT.no : EXIT.ok;
  if (args.flag('jsonl')) {
    for await (const entry of listQueue(pool, filters)) stdout.write(`${JSON.stringify(entryBody(entry))}\n`);
    return exit;
  }
  if (args.flag('counts'))
    return {
      schema: SCHEMA,
      exit,
      body: { counts: countsBody(counts) },
      text: (paint) => countsLine(paint, counts, clock.now()),
    };
  if (context.json) return await printDocument(context, pool, filters, counts, exit);
  let shown = 0;
  let rows: QueueEntry[] = [];
  for await (const entry of listQueue(pool, filters)) {
    rows.push(entry);
    shown += 1;
    if (rows.length === TABLE_ROWS) {
      stdout.write(entryTable(context.term.out, rows, clock.now()));
      rows = [];
    }
  }
  if (rows.length > 0) stdout.write(entryTable(context.term.out, rows, clock.now()));
  const total = counts.queued + counts.parked;
  if (total === 0) stdout.write(`Nothing queued. Last sent ${formatAgo(counts.ackedAt, clock.now())}.\n`);
  else {
    const rest = shown < total ? `   Showing ${formatCount(shown)} of ${formatCount(total)} (--all).` : '';
    stdout.write(`${countsLine(context.term.out, counts, clock.now()).trimEnd()}${rest}\n`);
  }
  return exit;
}

/**
 * One document in the frame of every other, written entry by entry. What fails half way is told at its end: a document
 * that breaks off would be no JSON.
 */
async function printDocument(
  { stdout, clock }: Context,
  pool: pg.Pool,
  filters: QueueFilters,
  counts: QueueCounts,
  exit: ExitCode,
): Promise<ExitCode> {
  const head = {
    schema: SCHEMA,
    generated_at: new Date(clock.now()).toISOString(),
    possync: VERSION,
    counts: countsBody(counts),
  };
  stdout.write(`${JSON.stringify(head).slice(0, -1)},"entries":[`);
  let first = true;
  try {
    for await (const entry of listQueue(pool, filters)) {
      stdout.write(`${first ? '' : ','}${JSON.stringify(entryBody(entry))}`);
      first = false;
    }
  } catch (thrown) {
    const error = databaseError(thrown);
    const { code, message, hint } = error;
    stdout.write(`],"exit_code":${error.exit},"error":${JSON.stringify({ code, message, hint })}}\n`);
    return error.exit;
  }
  stdout.write(`],"exit_code":${exit}}\n`);
  return exit;
}

export function countsBody(counts: QueueCounts): Record<string, unknown> {
  return {
    queued: counts.queued,
    waiting: counts.waiting,
    sending: counts.sending,
    parked: counts.parked,
    queued_high: counts.queuedHigh,
    bytes: counts.bytes,
    oldest_at: iso(counts.oldestAt),
    last_sent_at: iso(counts.ackedAt),
    halted: counts.halted,
    by_type: counts.byType,
  };
}

function entryBody(entry: QueueEntry): Record<string, unknown> {
  return {
    epoch: entry.epoch,
    seq: entry.seq,
    type: entry.type,
    key: entry.key,
    records: entry.records,
    bytes: entry.bytes,
    priority: entry.high ? 'high' : 'normal',
    captured_at: iso(entry.capturedAt),
    tries: entry.tries,
    state: entry.state,
    next_try_at: iso(entry.nextTryAt),
    after: entry.after,
    last_error: entry.lastError,
  };
}

function entryTable(paint: Paint, entries: readonly QueueEntry[], nowMs: number): string {
  return renderTable(
    paint,
    ['SEQ', 'TYPE', 'KEY', 'PRI', 'AGE', 'TRIES', 'STATE', 'NEXT TRY', 'LAST ERROR'],
    entries.map((entry) => [
      entry.seq === null ? 'unsealed' : String(entry.seq),
      entry.records > 1 ? `${entry.type} +${entry.records - 1}` : entry.type,
      entry.key,
      entry.high ? 'high' : '-',
      formatDuration(Math.max(0, nowMs - Date.parse(entry.capturedAt))),
      String(entry.tries),
      entry.state,
      nextTry(entry, nowMs),
      entry.lastError ?? '',
    ]),
  );
}

function nextTry(entry: QueueEntry, nowMs: number): string {
  if (entry.after !== null) return `after #${entry.after}`;
  return entry.nextTryAt === null ? '-' : formatDuration(Math.max(0, Date.parse(entry.nextTryAt) - nowMs));
}

function countsLine({ glyphs }: Paint, counts: QueueCounts, nowMs: number): string {
  const dot = ` ${glyphs.dot} `;
  const parked = counts.parked === 0 ? '' : `${dot}${formatCount(counts.parked)} parked at HQ`;
  const oldest =
    counts.oldestAt === null
      ? ''
      : `${dot}oldest ${formatDuration(Math.max(0, nowMs - Date.parse(counts.oldestAt)))}`;
  return (
    `${formatCount(counts.queued)} queued: ${formatCount(counts.waiting)} waiting, ${formatCount(counts.sending)} sending` +
    `${parked}${dot}${formatBytes(counts.bytes)}${oldest}.\n`
  );
}

function iso(at: string | null): string | null {
  return at === null ? null : new Date(at).toISOString();
}
