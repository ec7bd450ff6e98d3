/** `possync status` at HQ, as text: one line of sums, then the stores that need somebody. */
import type { HqStatusView, HqStoreView } from '../../protocol/status.ts';
import { formatAgo, formatCount, formatDuration, plural } from './format.ts';
import { renderTable } from './table.ts';
import type { Paint } from './term.ts';

export interface HqRenderOptions {
  readonly all: boolean;
  /** Only stores that are not connected. */
  readonly red: boolean;
}

/** Up to this many stores are shown in any case: a small chain wants to see its stores. */
const SHOW_ALL_UP_TO = 20;

export function renderHqStatus(
  paint: Paint,
  status: HqStatusView,
  nowMs: number,
  { all, red }: HqRenderOptions,
): string {
  const { summary, stores } = status;
  if (stores.length === 0)
    return 'HQ   no stores yet: possync stores add CODE --name NAME --time-zone ZONE\n';
  const trouble = stores.filter((store) => store.connection.indicator === 'red' || isBehind(store));
  const shown = red
    ? stores.filter((store) => store.connection.indicator === 'red')
    : all || stores.length <= SHOW_ALL_UP_TO
      ? stores
      : trouble;
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

function isBehind(store: HqStoreView): boolean {
  return (
    store.stalled ||
    store.upstream.parked > 0 ||
    store.findings > 0 ||
    store.upstream.halted !== null ||
    store.downstream.pending > 0
  );
}

function isRemembered(store: HqStoreView): boolean {
  return store.connection.indicator === 'red' && store.upstream.queued !== null;
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
    ];
  });
  return renderTable(
    paint,
    ['STORE', 'NAME', 'LINK', 'FOR', 'WHY', 'QUEUED', 'OLDEST', 'LAST SALE', 'DOWN-LAG', 'TOKEN', 'VERSION'],
    rows,
  )
    .split('\n')
    .map((line) => (line === '' ? '' : `  ${line}`))
    .join('\n');
}

function whyOf(store: HqStoreView): string {
  const { connection, upstream, stalled } = store;
  if (connection.reason !== null) return connection.reason.message;
  if (upstream.halted !== null) return `halted: ${upstream.halted}`;
  if (stalled) return 'queue does not move';
  if (upstream.parked > 0) return `${formatCount(upstream.parked)} parked`;
  if (store.findings > 0) return plural(store.findings, 'finding');
  return store.downstream.pending > 0 ? 'catching up' : '';
}

/** How long its credential is good; `!` = a warning belongs to it, `~` = ordered to rotate and not done yet. */
function tokenText({ token, rotation }: HqStoreView, nowMs: number): string {
  if (token === null) return '-';
  const left =
    token.expires_at === null ? 'ok' : formatDuration(Math.max(0, Date.parse(token.expires_at) - nowMs));
  return `${left}${token.warning === null ? '' : '!'}${rotation === null ? '' : '~'}`;
}
