/** The dashboard of HQ: one page without scripts and without anything from elsewhere, made of the status document. */
import { createHash } from 'node:crypto';
import { formatAgo, formatCents, formatCount, formatDuration, plural } from '../../core/quantities.ts';
import type { AlertView, HqStatusView, HqStoreView } from '../../protocol/status.ts';
import { fixOf, isBehind, isRed, isRemembered, whyOf } from '../status-select.ts';
import { html, Html } from './html.ts';

/** The browser asks again by itself; a page that cannot be had is the browser's own error, never an old light. */
const REFRESH_SECONDS = 10;
/** A chain of thousands is looked at through the filters. */
const ROWS_MAX = 1_000;

const STYLE = `
:root { color-scheme: light dark; --good: #1a7f37; --bad: #cf222e; --warn: #9a6700; --line: #8884; }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --bad: #f85149; --warn: #d29922; } }
body { font: 15px/1.4 system-ui, sans-serif; margin: 1rem; }
h1 { font-size: 1.2rem; margin: 0 0 .5rem; }
p { margin: .3rem 0; }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin-top: .7rem; white-space: nowrap; }
th, td { text-align: left; padding: .25rem .7rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; }
td.why { white-space: normal; min-width: 14rem; }
small { opacity: .8; }
nav a { margin-right: 1rem; }
`;

/** As one piece: the hash in the policy is of exactly what stands between the tags. */
const STYLE_ELEMENT = new Html(`<style>${STYLE}</style>`);

/** Nothing but our own style may be used by the page, whatever gets into it. */
export const PAGE_HEADERS = {
  'content-security-policy':
    `default-src 'none'; style-src 'sha256-${createHash('sha256').update(STYLE).digest('base64')}'; ` +
    `base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
  'referrer-policy': 'no-referrer',
} as const;

export function dashboardPage(view: HqStatusView, nowMs: number): string {
  const { summary, stores, alerts, database, head } = view;
  const serving = summary.connected + summary.disconnected;
  const shown = stores.slice(0, ROWS_MAX);
  return page(
    `${summary.disconnected > 0 ? '○' : '●'} ${summary.connected} of ${serving} · possync HQ`,
    nowMs,
    html`<p>
        <span class="good">● ${plural(summary.connected, 'store')} of ${serving} connected</span>
        ${tally(summary.disconnected, 'bad', '○', 'disconnected')}
        ${tally(summary.stalled, 'warn', '!', 'stalled')} ${tally(summary.parked, 'warn', '!', 'parked')}
        ${tally(summary.findings, 'warn', '!', 'findings')}
        <small>head ${head}</small>
      </p>
      ${database.reason === null ? html`` : problem('bad', database.reason)}
      ${alerts.map((alert: AlertView) => problem('warn', alert))}
      <nav>
        <a href="/">all</a><a href="/?red=1">red</a><a href="/?behind=10m">behind 10 min</a
        ><a href="/?sort=oldest">oldest first</a><a href="/?sort=store">by code</a>
      </nav>
      <div class="wide">
        <table>
          <thead>
            <tr>
              <th>Store</th>
              <th>Link</th>
              <th>For</th>
              <th>Why, and what to do</th>
              <th class="n">Queued</th>
              <th>Oldest</th>
              <th>Last sale</th>
              <th class="n">Down lag</th>
              <th>Today</th>
              <th class="n">Sales</th>
              <th class="n">Revenue</th>
              <th class="n">Tax</th>
              <th>Token</th>
              <th>Version</th>
            </tr>
          </thead>
          <tbody>
            ${shown.map((store) => row(store, nowMs))}
          </tbody>
        </table>
      </div>
      ${shown.length === 0 ? html`<p>No store fits.</p>` : html``}
      ${
        shown.some(isRemembered)
          ? html`<p><small>* last report before it disconnected; it can only have grown.</small></p>`
          : html``
      }
      ${
        shown.length < stores.length
          ? html`<p>
              ${formatCount(stores.length - shown.length)} more are not shown; narrow it: ?store=00*
            </p>`
          : html``
      }`,
  );
}

/** HQ cannot say how it stands: the page says so, and asks again. */
export function failurePage(code: string, message: string, hint: string, nowMs: number): string {
  return page('? possync HQ', nowMs, problem('bad', { code, message, hint }));
}

function page(title: string, nowMs: number, body: Html): string {
  const at = new Date(nowMs).toISOString();
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta http-equiv="refresh" content="${REFRESH_SECONDS}" />
        <title>${title}</title>
        ${STYLE_ELEMENT}
      </head>
      <body>
        <h1>possync HQ</h1>
        ${body}
        <p>
          <small
            >As of <time datetime="${at}">${at.slice(0, 19).replace('T', ' ')} UTC</time>, read again every
            ${REFRESH_SECONDS} s. The same document: <a href="/api/v1/status">/api/v1/status</a></small
          >
        </p>
      </body>
    </html> `.text;
}

function tally(count: number, kind: 'bad' | 'warn', glyph: string, word: string): Html {
  return count === 0 ? html`` : html`<span class="${kind}">· ${glyph} ${formatCount(count)} ${word}</span>`;
}

function problem(
  kind: 'bad' | 'warn',
  { code, message, hint }: Pick<AlertView, 'code' | 'message' | 'hint'>,
): Html {
  return html`<p class="${kind}">! ${message} (${code})<br /><small>fix: ${hint}</small></p>`;
}

function row(store: HqStoreView, nowMs: number): Html {
  const { connection, upstream, downstream, today, token } = store;
  const green = connection.indicator === 'green';
  const mark = isRemembered(store) ? '*' : '';
  const why = whyOf(store);
  const fix = fixOf(store);
  const kind = isRed(store) ? 'bad' : isBehind(store) ? 'warn' : '';
  const code = connection.reason === null ? '' : ` (${connection.reason.code})`;
  return html`<tr>
    <td><b>${store.code}</b> ${store.name}</td>
    <td class="${green ? 'good' : 'bad'}">${green ? '● connected' : '○ disconnected'}</td>
    <td>${connection.for_ms === null ? '–' : formatDuration(connection.for_ms)}</td>
    <td class="why">
      <span class="${kind}">${why}${code}</span
      >${fix === '' ? html`` : html`<br /><small>fix: ${fix}</small>`}
    </td>
    <td class="n">${upstream.queued === null ? '?' : `${formatCount(upstream.queued)}${mark}`}</td>
    <td>${upstream.oldest_at === null ? '–' : `${formatAgo(upstream.oldest_at, nowMs)}${mark}`}</td>
    <td>${formatAgo(store.last_sale_at, nowMs)}</td>
    <td class="n">${formatCount(downstream.pending)}</td>
    <td>${today.business_date}</td>
    <td class="n">${formatCount(today.sales)}</td>
    <td class="n">${formatCents(today.revenue)}</td>
    <td class="n">${formatCents(today.tax)}</td>
    <td class="${token?.warning == null ? '' : 'warn'}">${tokenText(token?.expires_at, nowMs)}</td>
    <td>${store.software?.replace(/^possync /, '') ?? '?'}</td>
  </tr>`;
}

/** undefined: there is no credential; null: it does not end. */
function tokenText(expiresAt: string | null | undefined, nowMs: number): string {
  if (expiresAt === undefined) return '–';
  return expiresAt === null ? 'ok' : formatDuration(Math.max(0, Date.parse(expiresAt) - nowMs));
}
