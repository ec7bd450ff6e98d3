/** The queues as HQ sees them: what it refused and keeps, and what each store last reported. */
import type pg from 'pg';
import { EXIT } from '../../core/errors.ts';
import { listDead, type DeadEntry } from '../../hq/inbox/dead.ts';
import { readHqStatus } from '../../hq/status.ts';
import { showStore } from '../../hq/stores/stores.ts';
import type { HqStoreView } from '../../protocol/status.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { formatAgo, formatCount, formatDuration, plural } from '../../core/quantities.ts';
import { renderTable } from '../render/table.ts';
import type { Paint } from '../render/term.ts';

const LIMIT_DEFAULT = 20;

export async function listHqQueue({ clock }: Context, pool: pg.Pool, args: Args): Promise<Answer> {
  const code = args.maybeAt(0);
  const storeId = code === undefined ? undefined : (await showStore(pool, code)).id;
  const [dead, status] = await Promise.all([
    listDead(pool, storeId),
    readHqStatus(pool, storeId === undefined ? {} : { storeId }),
  ]);
  const codes = new Map(status.stores.map((store) => [store.id, store.code]));
  const limit = args.flag('all') ? dead.length : (args.integer('limit') ?? LIMIT_DEFAULT);
  const type = args.text('type');
  const found = dead.filter((entry) => type === undefined || entry.type === type);
  const shown = found.slice(0, limit);
  const stores = status.stores.map(({ code: store, upstream }) => ({ store, ...upstream }));
  return {
    schema: 'possync.queue/1',
    exit: EXIT.ok,
    body: {
      counts: { parked: dead.length },
      ...(args.flag('dead') ? {} : { stores }),
      entries: shown.map((entry) => deadBody(entry, codes.get(entry.storeId) ?? null)),
    },
    text: (paint) =>
      (args.flag('dead') ? '' : `${reportTable(paint, status.stores, clock.now())}\n`) +
      deadText(paint, shown, codes) +
      (shown.length < found.length
        ? `Showing ${formatCount(shown.length)} of ${formatCount(found.length)} (--all).\n`
        : ''),
  };
}

export function deadBody(entry: DeadEntry, code: string | null): Record<string, unknown> {
  return {
    store: code,
    epoch: entry.epoch,
    seq: entry.seq,
    type: entry.type,
    key: entry.key,
    kind: entry.kind,
    sqlstate: entry.sqlstate,
    error: entry.error,
    behind: entry.behindSeq,
    bytes: entry.bytes,
    tries: entry.tries,
    state: 'parked',
    first_at: new Date(entry.firstAt).toISOString(),
    last_at: new Date(entry.lastAt).toISOString(),
    next_try_at: entry.nextTryAt === null ? null : new Date(entry.nextTryAt).toISOString(),
  };
}

function reportTable(paint: Paint, stores: readonly HqStoreView[], nowMs: number): string {
  return renderTable(
    paint,
    ['STORE', 'QUEUED', 'OLDEST', 'PARKED', 'REPORTED'],
    stores.map(({ code, upstream }) => [
      code,
      upstream.queued === null ? '?' : formatCount(upstream.queued),
      upstream.oldest_at === null ? '-' : formatDuration(Math.max(0, nowMs - Date.parse(upstream.oldest_at))),
      formatCount(upstream.parked),
      formatAgo(upstream.as_of, nowMs),
    ]),
  );
}

function deadText(paint: Paint, dead: readonly DeadEntry[], codes: ReadonlyMap<number, string>): string {
  if (dead.length === 0) return 'Nothing parked: HQ has taken everything that stores have sent.\n';
  return (
    renderTable(
      paint,
      ['STORE', 'SEQ', 'TYPE', 'KEY', 'TRIES', 'KIND', 'ERROR'],
      dead.map((entry) => [
        codes.get(entry.storeId) ?? String(entry.storeId),
        String(entry.seq),
        entry.type,
        entry.key,
        String(entry.tries),
        entry.kind === 'parked' ? `behind #${entry.behindSeq ?? '?'}` : entry.kind,
        entry.error,
      ]),
    ) + `${plural(dead.length, 'entry', 'entries')} parked. Mend the cause, then: possync queue retry CODE\n`
  );
}
