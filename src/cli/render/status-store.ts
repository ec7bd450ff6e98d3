/** `possync status` in a store, as text: the light first, then both directions, always a word for the cashier. */
import type { ReasonView, StoreStatusView } from '../../protocol/status.ts';
import {
  formatAgo,
  formatBytes,
  formatCents,
  formatCount,
  formatDuration,
  plural,
} from '../../core/quantities.ts';
import type { Paint } from './term.ts';

const LABEL_WIDTH = 13;
/** Less than people can tell. */
const SAME_CLOCK_MS = 100;

export function renderStoreStatus(paint: Paint, status: StoreStatusView, nowMs: number): string {
  const lines = [
    lightLine(paint, status, nowMs),
    ...reasonLines(status, nowMs),
    ...upstreamLines(paint, status, nowMs),
  ];
  lines.push(labelled('Downstream', downstreamText(paint, status, nowMs)));
  if (status.database.reason !== null) lines.push(...problemLines('Database', status.database.reason));
  if (status.token !== null) lines.push(...tokenLines(paint, status.token, status.connection.reason, nowMs));
  if (status.tls !== null) lines.push(...tlsLines(paint, status.tls, status.connection.reason, nowMs));
  if (status.clock.skew_ms !== null) lines.push(...clockLines(paint, status.clock));
  lines.push(labelled('Today', todayText(status)));
  if (status.daemon.running) lines.push(labelled('Daemon', daemonText(paint, status, nowMs)));
  lines.push(labelled('Store', cashierText(status)));
  if (!status.daemon.running && status.daemon.written_at !== null)
    lines.push(
      `  The lines above come from the database; the daemon last wrote its state ${formatAgo(status.daemon.written_at, nowMs)}.`,
    );
  return `${lines.join('\n')}\n`;
}

/** `● connected, 0 queued` */
export function renderStoreShort(paint: Paint, status: StoreStatusView): string {
  const green = status.connection.indicator === 'green';
  const light = green ? paint.good(paint.glyphs.on) : paint.bad(paint.glyphs.off);
  return `${light} ${green ? 'connected' : 'disconnected'}, ${formatCount(status.upstream.queued)} queued\n`;
}

function labelled(label: string, text: string): string {
  return `  ${label.padEnd(LABEL_WIDTH)}${text}`;
}

function lightLine(paint: Paint, status: StoreStatusView, nowMs: number): string {
  const { connection, store, hq, daemon } = status;
  const { glyphs } = paint;
  const who = store === null ? 'store not enrolled' : `store ${store.code} "${store.name}"`;
  if (connection.indicator === 'green') {
    const facts = [
      connection.for_ms === null ? undefined : formatDuration(connection.for_ms),
      connection.last_frame_at === null
        ? undefined
        : `last frame ${formatAgo(connection.last_frame_at, nowMs)}`,
      connection.rtt_ms === null ? undefined : `rtt ${connection.rtt_ms}ms`,
    ].filter((fact) => fact !== undefined);
    return `${paint.good(`${glyphs.on} CONNECTED`)}   ${who} ${glyphs.to} ${hqText(hq)}      ${facts.join(` ${glyphs.dot} `)}`;
  }
  const light = paint.bad(`${glyphs.off} DISCONNECTED`);
  if (!daemon.running) {
    const why = connection.reason;
    return `${light}  ${who}   ${why === null ? '' : `${why.message} (${why.code})`}`;
  }
  const since = connection.for_ms === null ? '' : formatDuration(connection.for_ms);
  const last =
    connection.last_frame_at === null
      ? ''
      : ` ${glyphs.dot} last good frame ${clock(connection.last_frame_at)}`;
  return `${light}  ${who} ${glyphs.fail} ${hqText(hq)}    ${since}${last}`;
}

function reasonLines(status: StoreStatusView, nowMs: number): string[] {
  const { connection, daemon } = status;
  const { reason } = connection;
  if (reason === null) return [];
  if (!daemon.running) return [labelled('Fix', reason.hint)];
  const next =
    connection.next_attempt_at === null
      ? undefined
      : labelled(
          'Next',
          `attempt ${formatCount((connection.attempt ?? 0) + 1)} in ${formatDuration(Math.max(0, Date.parse(connection.next_attempt_at) - nowMs))}`,
        );
  const found =
    connection.diagnosed_at === null ? '' : `, found ${formatAgo(connection.diagnosed_at, nowMs)}`;
  return [
    labelled('Why', `${reason.message} (${reason.code})${found}`),
    ...(next === undefined ? [] : [next]),
    labelled('Fix', `${reason.hint}        (or: possync explain ${reason.code})`),
  ];
}

function upstreamLines(paint: Paint, { upstream }: StoreStatusView, nowMs: number): string[] {
  const { glyphs } = paint;
  const facts = [
    upstream.oldest_at === null
      ? undefined
      : `oldest ${formatDuration(Math.max(0, nowMs - Date.parse(upstream.oldest_at)))}`,
    upstream.queued_high > 0 ? `${formatCount(upstream.queued_high)} high priority` : undefined,
    upstream.queued > 0 ? formatBytes(upstream.bytes) : undefined,
    upstream.queued === 0 || upstream.last_sent_at !== null
      ? `last sent ${formatAgo(upstream.last_sent_at, nowMs)}`
      : undefined,
    upstream.parked > 0 ? `${formatCount(upstream.parked)} parked at HQ` : undefined,
  ].filter((fact) => fact !== undefined);
  const lines = [
    labelled(
      'Upstream',
      `${`${formatCount(upstream.queued)} queued`.padEnd(13)}${facts.join(` ${glyphs.dot} `)}`,
    ),
  ];
  const types = Object.entries(upstream.by_type);
  if (types.length > 0)
    lines.push(
      labelled(
        '',
        `  ${types.map(([type, count]) => `${type} ${formatCount(count)}`).join(` ${glyphs.dot} `)}`,
      ),
    );
  if (upstream.halted !== null) lines.push(...problemLines('Halted', upstream.halted));
  else if (upstream.state === 'stalled')
    lines.push(
      labelled('', `${paint.caution(glyphs.warn)} connected, but the queue does not move: possync queue ls`),
    );
  return lines;
}

function problemLines(label: string, reason: ReasonView): string[] {
  return [labelled(label, `${reason.message} (${reason.code})`), labelled('Fix', reason.hint)];
}

function downstreamText(paint: Paint, { downstream }: StoreStatusView, nowMs: number): string {
  const applied = `last change applied ${formatAgo(downstream.last_applied_at, nowMs)}`;
  switch (downstream.state) {
    case 'up_to_date':
      return `up to date   cursor ${downstream.cursor} = HQ ${downstream.hq_cursor ?? '?'} ${paint.glyphs.dot} ${applied}`;
    case 'behind':
      return `${plural((downstream.hq_cursor ?? 0) - downstream.cursor, 'change')} behind   cursor ${downstream.cursor}, HQ ${downstream.hq_cursor ?? '?'} ${paint.glyphs.dot} ${applied}`;
    case 'waiting':
      return `waiting, first ${formatAgo(downstream.error_since, nowMs)}: ${downstream.error?.message ?? '?'} (${downstream.error?.code ?? '?'}); tried again by itself`;
    case 'failing':
      return `FAILING: ${downstream.error?.message ?? '?'} (${downstream.error?.code ?? '?'}); the store stays on the last whole state of HQ`;
    case 'unknown':
      return `unknown while disconnected   (cursor ${downstream.cursor}, ${applied})`;
  }
}

function todayText({ today }: StoreStatusView): string {
  const refunds = today.refunds === 0 ? '' : `, refunds ${formatCents(today.refunds)}`;
  return `${plural(today.sales, 'sale')}, ${formatCents(today.revenue)} with ${formatCents(today.tax)} tax${refunds}   (${today.business_date})`;
}

function daemonText(paint: Paint, { daemon, hq }: StoreStatusView, nowMs: number): string {
  const up =
    daemon.started_at === null
      ? ''
      : `, up ${formatDuration(Math.max(0, nowMs - Date.parse(daemon.started_at)))}`;
  return `${daemon.version ?? '?'}  pid ${daemon.pid ?? '?'}${up}${hq.version === null ? '' : ` ${paint.glyphs.dot} HQ ${hq.version.replace(/^possync /, '')}`}`;
}

function cashierText({ connection, upstream, store, database }: StoreStatusView): string {
  if (store === null) return 'not enrolled yet: possync store init --token-file FILE';
  if (store.status === 'deactivated')
    return 'deactivated at HQ. It keeps selling; everything is saved here and waits.';
  if (database.reason?.code === 'PS-DB-DISK')
    return 'cannot save new sales: the disk is full. What was saved is safe.';
  if (upstream.halted !== null)
    return 'keeps selling. Everything is saved here; sending waits for the fix above.';
  return connection.indicator === 'green' && upstream.state === 'idle'
    ? 'everything is at HQ.'
    : 'keeps selling. Everything is saved here; nothing is lost.';
}

function hqText({ url, unencrypted }: StoreStatusView['hq']): string {
  if (url === null) return '?';
  return `${url.replace(/^http/, 'ws')}${unencrypted === true ? ' (unencrypted)' : ''}`;
}

function clock(at: string): string {
  return at.slice(11, 19);
}

const REFUSED_TOKEN = /^PS-TOKEN-(REVOKED|EXPIRED|UNKNOWN|STORE)$/;

/** What this disk knows of it says nothing once HQ has refused it. */
function tokenLines(
  paint: Paint,
  token: NonNullable<StoreStatusView['token']>,
  reason: ReasonView | null,
  nowMs: number,
): string[] {
  const { kid, expires_at: at, rotation, warning } = token;
  const refused = reason !== null && REFUSED_TOKEN.test(reason.code);
  const life = refused ? 'refused by HQ' : at === null ? 'does not expire' : lifeText(at, nowMs);
  return [
    labelled('Token', `kid ${kid}   ${life}`),
    ...(rotation === null ? [] : [labelled('', 'a rotation is not finished: possync token rotate')]),
    ...warningLines(paint, warning),
  ];
}

/** The certificate of the last connection that succeeded; what HQ shows now is another one if that is the trouble. */
function tlsLines(
  paint: Paint,
  tls: NonNullable<StoreStatusView['tls']>,
  reason: ReasonView | null,
  nowMs: number,
): string[] {
  if (tls.not_after === null) return [];
  if (reason?.code.startsWith('PS-TLS-') === true)
    return [labelled('TLS', `refused; the last good certificate ends ${tls.not_after.slice(0, 10)}`)];
  return [labelled('TLS', lifeText(tls.not_after, nowMs)), ...warningLines(paint, tls.warning)];
}

function clockLines(
  paint: Paint,
  { skew_ms: skew, error_ms: error, warning }: StoreStatusView['clock'],
): string[] {
  const size = Math.abs(skew ?? 0);
  const off = `${(size / 1_000).toFixed(1)}s ${(skew ?? 0) > 0 ? 'behind' : 'ahead of'}`;
  const within = `${((error ?? 0) / 1_000).toFixed(2)}s`;
  return [
    labelled('Clock', `${size < SAME_CLOCK_MS ? 'agrees with' : off} HQ (within ${within})`),
    ...warningLines(paint, warning),
  ];
}

function lifeText(at: string, nowMs: number): string {
  const left = Date.parse(at) - nowMs;
  return `${left > 0 ? `${formatDuration(left)} left` : 'expired'} (${at.slice(0, 10)})`;
}

function warningLines(paint: Paint, warning: ReasonView | null): string[] {
  return warning === null
    ? []
    : [
        labelled('', `${paint.caution(paint.glyphs.warn)} ${warning.message} (${warning.code})`),
        labelled('', `fix: ${warning.hint}`),
      ];
}
