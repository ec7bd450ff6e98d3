/** A diagnosis as people read it: problems unfolded, everything that is well in one line a layer, one verdict. */
import { LAYER_TITLES, LAYERS, type CheckResult, type Layer } from '../../diagnose/check.ts';
import type { Report } from '../../diagnose/diagnose.ts';
import { redact } from '../../core/secret.ts';
import { formatCount } from '../../core/quantities.ts';
import type { Paint } from './term.ts';

export interface RenderOptions {
  readonly software: string;
  readonly user: string;
  readonly place: 'daemon' | 'local';
  /** Shows every check. */
  readonly verbose: boolean;
}

/** The check whose words sum up a layer that is well. */
const SPEAKS_FOR: Readonly<Record<Layer, string>> = {
  cfg: 'cfg.file',
  host: 'host.link',
  daemon: 'daemon.running',
  db: 'db.connect',
  queue: 'queue.depth',
  dns: 'dns.resolve',
  tcp: 'tcp.connect',
  proxy: 'proxy.connect',
  tls: 'tls.expiry',
  http: 'http.version',
  token: 'token.valid',
  ws: 'ws.echo',
  path: 'path.latency',
};

const TITLE_WIDTH = Math.max(...Object.values(LAYER_TITLES).map((title) => title.length)) + 1;

export function renderReport(paint: Paint, report: Report, options: RenderOptions): string {
  const lines = [header(paint, report, options)];
  const skipped = new Map<string, { layers: string[]; count: number }>();
  for (const layer of LAYERS) {
    const results = report.checks.filter((result) => result.layer === layer);
    if (results.length === 0) continue;
    const run = results.filter(({ status }) => status !== 'skip');
    for (const { skippedBecause = '' } of results.filter(({ status }) => status === 'skip')) {
      const group = skipped.get(skippedBecause) ?? { layers: [], count: 0 };
      if (!group.layers.includes(LAYER_TITLES[layer])) group.layers.push(LAYER_TITLES[layer]);
      skipped.set(skippedBecause, { ...group, count: group.count + 1 });
    }
    // A few early checks of a layer that was not reached say nothing by being well.
    const reached = run.length === results.length || run.some(({ status }) => status !== 'pass');
    if (run.length > 0 && (reached || verboseOrHalf(run, results, options)))
      lines.push(...renderLayer(paint, layer, run, options.verbose));
  }
  for (const [because, { layers, count }] of skipped) {
    lines.push(`${paint.dim(paint.glyphs.skip)} ${layers.join(', ')}   ${count} skipped: need ${because}`);
  }
  lines.push('', ...renderVerdict(paint, report), summary(paint, report));
  return redact(`${lines.join('\n')}\n`);
}

function verboseOrHalf(
  run: readonly CheckResult[],
  all: readonly CheckResult[],
  { verbose }: RenderOptions,
): boolean {
  return verbose || run.length * 2 > all.length;
}

function header(
  { glyphs }: Paint,
  { store, target, startedAt }: Report,
  { software, user, place }: RenderOptions,
): string {
  const who = store === undefined ? 'this machine ' : `store ${store.code} `;
  const at = `${startedAt.slice(0, 10)} ${startedAt.slice(11, 19)} UTC`;
  const parts = [
    software,
    `${who}${glyphs.to} ${target ?? 'no HQ'}`,
    `run as ${user} ${place === 'daemon' ? 'inside the daemon' : 'in this process'}`,
    at,
  ];
  return `${parts.join(` ${glyphs.dot} `)}\n`;
}

function renderLayer(
  paint: Paint,
  layer: Layer,
  results: readonly CheckResult[],
  verbose: boolean,
): string[] {
  const problems = results.filter(({ status }) => status !== 'pass');
  const title = LAYER_TITLES[layer].padEnd(TITLE_WIDTH);
  if (problems.length === 0) {
    const spoken = results.find(({ id }) => id === SPEAKS_FOR[layer])?.message ?? '';
    const head =
      `${paint.good(paint.glyphs.pass)} ${title} ${results.length} ok   ${paint.dim(spoken)}`.trimEnd();
    return verbose ? [head, ...results.map((result) => renderCheck(paint, result))] : [head];
  }
  const counts = (['fail', 'error', 'warn'] as const)
    .map((status) => ({ status, count: problems.filter((result) => result.status === status).length }))
    .filter(({ count }) => count > 0)
    .map(({ status, count }) => `${count} ${status}`)
    .join(', ');
  const shown = verbose ? results : problems;
  const bad = problems.some(({ status }) => status !== 'warn');
  const mark = bad ? paint.bad(paint.glyphs.fail) : paint.caution(paint.glyphs.warn);
  return [`${mark} ${title} ${counts}`, ...shown.map((result) => renderCheck(paint, result))];
}

function renderCheck(paint: Paint, { status, message, id, code }: CheckResult): string {
  const named = `${id}${code === undefined ? '' : `  ${code}`}`;
  // What HQ or a box on the way said must not move the cursor of a terminal.
  const words = message.replace(/\p{Cc}/gu, ' ');
  return `  ${markOf(paint, status)} ${words}   ${paint.dim(named)}`;
}

function markOf(paint: Paint, status: CheckResult['status']): string {
  const { glyphs } = paint;
  switch (status) {
    case 'pass':
      return paint.good(glyphs.pass);
    case 'warn':
      return paint.caution(glyphs.warn);
    case 'fail':
      return paint.bad(glyphs.fail);
    case 'error':
      return paint.bad('?');
    case 'skip':
      return paint.dim(glyphs.skip);
  }
}

function renderVerdict(paint: Paint, { verdict, checks }: Report): string[] {
  const lines = [`${paint.bold('VERDICT')}   ${verdict.cause}`];
  if (verdict.action !== '') lines.push(`${paint.bold('DO THIS')}   ${verdict.action}`);
  if (verdict.networkRequest !== null) {
    const bar = paint.glyphs.to === '->' ? '|' : '│';
    lines.push(`          ${paint.dim('copy for the network team')}`);
    for (const line of verdict.networkRequest.split('\n')) lines.push(`          ${bar} ${line}`);
  }
  const queued = checks.find(({ id }) => id === 'queue.depth')?.evidence?.queued;
  if (verdict.code !== null && typeof queued === 'number')
    lines.push(
      `          The store keeps selling meanwhile; ${formatCount(queued)} entries are safe in the local queue.`,
    );
  return lines;
}

function summary({ glyphs }: Paint, { summary: counts, verdict }: Report): string {
  const parts = [
    `${counts.pass} ok`,
    counts.warn > 0 ? `${counts.warn} warned` : '',
    counts.fail > 0 ? `${counts.fail} failed` : '',
    counts.error > 0 ? `${counts.error} could not be checked` : '',
    counts.skip > 0 ? `${counts.skip} skipped` : '',
    `${(counts.durationMs / 1_000).toFixed(1)} s`,
  ].filter((part) => part !== '');
  const more = verdict.code === null ? '' : `            more: possync explain ${verdict.code}`;
  return `${parts.join(` ${glyphs.dot} `)}${more}`;
}
