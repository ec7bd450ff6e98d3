/** `possync status` at HQ, as text: one line of sums, then the stores that need somebody. */
import { isBehind, isRemembered, whyOf } from '../../hq/status-select.ts';
import type { HqStatusView, HqStoreView, TodayView } from '../../protocol/status.ts';
import { formatAgo, formatCents, formatCount, formatDuration, plural } from '../../core/quantities.ts';
import { renderTable } from './table.ts';
import type { Paint } from './term.ts';

export interface HqRenderOptions {
  /** Every store that is given: somebody has chosen them. */
  readonly all: boolean;
}

/** Up to this many stores are shown in any case: a small chain wants to see its stores. */
const SHOW_ALL_UP_TO = 20;

export function renderHqStatus(
  paint: Paint,
  status: HqStatusView,
  nowMs: number,
  { all }: HqRenderOptions,
): string {
  const { summary, stores } = status;
  if (summary.stores === 0)
    return 'HQ   no stores yet: possync stores add CODE --name NAME --time-zone ZONE\n';
  const trouble = stores.filter((store) => store.connection.indicator === 'red' || isBehind(store));
  const shown = all || stores.length <= SHOW_ALL_UP_TO ? stores : trouble;
  const hidden = stores.length - shown.length;
  return (
    renderHqShort(paint, status) +
    databaseLines(paint, status) +
    (shown.length === 0 ? '' : storeTable(paint, shown, nowMs)) +
    (shown.some(isRemembered) ? '  * last report before it disconnected; it can only have grown.\n' : '') +
    (hidden > 0 ? `  --all shows the other ${formatCount(hidden)}.\n` : '') +
    (summary.parked > 0 ? '  Parked records: possync queue ls --dead\n' : '') +
    (summary.findings > 0 ? '  What does not add up: possync ledger\n' : '') +
    alertLines(paint, status)
  );
}

function databaseLines(paint: Paint, { database: { reason } }: HqStatusView): string {
  if (reason === null) return '';
  return `  ${paint.bad(paint.glyphs.warn)} ${reason.message} (${reason.code})\n  Fix: ${reason.hint}\n`;
}

function alertLines(paint: Paint, { alerts }: HqStatusView): string {
  return alerts
    .map(
      ({ code, message, hint }) =>
        `  ${paint.caution(paint.glyphs.warn)} ${message} (${code})\n      fix: ${hint}\n`,
    )
    .join('');
}

export function renderHqShort(paint: Paint, { summary, head, alerts }: HqStatusView): string {
  const { glyphs } = paint;
  const serving = summary.connected + summary.disconnected;
  const facts = [
    paint.good(`${glyphs.on} ${formatCount(summary.connected)} of ${formatCount(serving)} connected`),
    summary.disconnected > 0
      ? paint.bad(`${glyphs.off} ${formatCount(summary.disconnected)} disconnected`)
      : undefined,
    summary.stalled > 0 ? paint.caution(`${glyphs.warn} ${formatCount(summary.stalled)} stalled`) : undefined,
    summary.parked > 0 ? paint.caution(`${glyphs.warn} ${formatCount(summary.parked)} parked`) : undefined,
    summary.findings > 0 ? paint.caution(`${glyphs.warn} ${plural(summary.findings, 'finding')}`) : undefined,
    alerts.length > 0 ? paint.caution(`${glyphs.warn} ${plural(alerts.length, 'alert')}`) : undefined,
  ].filter((fact) => fact !== undefined);
  return `HQ   head ${head}   ${facts.join('   ')}\n`;
}

function storeTable(paint: Paint, stores: readonly HqStoreView[], nowMs: number): string {
  const { glyphs } = paint;
  const rows = stores.map((store) => {
    const { connection, upstream } = store;
    const green = connection.indicator === 'green';
    const mark = isRemembered(store) ? '*' : '';
    return [
      store.code,
      store.name,
      green ? paint.good(`${glyphs.on} connected`) : paint.bad(`${glyphs.off} disconnected`),
      connection.for_ms === null ? glyphs.dash : formatDuration(connection.for_ms),
      whyOf(store),
      upstream.queued === null ? '?' : `${formatCount(upstream.queued)}${mark}`,
      upstream.oldest_at === null
        ? glyphs.dash
        : `${formatDuration(Math.max(0, nowMs - Date.parse(upstream.oldest_at)))}${mark}`,
      formatAgo(store.last_sale_at, nowMs),
      formatCount(store.downstream.pending),
      tokenText(store, nowMs),
      store.software?.replace(/^possync /, '') ?? '?',
      todayText(store.today),
    ];
  });
  return renderTable(
    paint,
    [
      'STORE',
      'NAME',
      'LINK',
      'FOR',
      'WHY',
      'QUEUED',
      'OLDEST',
      'LAST SALE',
      'DOWN-LAG',
      'TOKEN',
      'VERSION',
      'TODAY',
    ],
    rows,
  )
    .split('\n')
    .map((line) => (line === '' ? '' : `  ${line}`))
    .join('\n');
}

/** How long its credential is good; `!` = a warning belongs to it, `~` = ordered to rotate and not done yet. */
function tokenText({ token, rotation }: HqStoreView, nowMs: number): string {
  if (token === null) return '-';
  const left =
    token.expires_at === null ? 'ok' : formatDuration(Math.max(0, Date.parse(token.expires_at) - nowMs));
  return `${left}${token.warning === null ? '' : '!'}${rotation === null ? '' : '~'}`;
}

/** In the store's own time zone, where it may be another day already. */
function todayText({ business_date, sales, revenue, tax }: TodayView): string {
  return `${business_date.slice(5)}: ${plural(sales, 'sale')}, ${formatCents(revenue)} with ${formatCents(tax)} tax`;
}
