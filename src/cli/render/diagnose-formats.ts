/** A diagnosis for programs: JSON, Nagios, JUnit XML and Prometheus text. */
import type { CheckResult } from '../../diagnose/check.ts';
import type { Report } from '../../diagnose/diagnose.ts';
import { EXIT, type ExitCode } from '../../core/errors.ts';

export function resultDocument(result: CheckResult): Record<string, unknown> {
  const { id, layer, status, code, target, message, hint, evidence, dependsOn, durationMs } = result;
  return {
    id,
    layer,
    status,
    code: code ?? null,
    target: target ?? null,
    message,
    hint: hint ?? null,
    evidence: evidence ?? {},
    depends_on: dependsOn,
    ...(result.skippedBecause === undefined ? {} : { skipped_because: result.skippedBecause }),
    duration_ms: durationMs,
  };
}

export function reportDocument(
  { runId, target, store, summary, verdict, checks }: Report,
  { user, place }: { readonly user: string; readonly place: 'daemon' | 'local' },
): Record<string, unknown> {
  const { durationMs, ...counts } = summary;
  return {
    run_id: runId,
    ran: place,
    ran_as: user,
    target,
    store: store ?? null,
    summary: { ...counts, duration_ms: durationMs },
    verdict: {
      code: verdict.code,
      check: verdict.check,
      cause: verdict.cause,
      action: verdict.action,
      network_request: verdict.networkRequest,
    },
    checks: checks.map(resultDocument),
  };
}

/** Numbers worth a curve: label, check, field of its evidence, warning and critical limits. */
const PERFORMANCE = [
  ['queue', 'queue.depth', 'queued', '1000;10000'],
  ['oldest_s', 'queue.oldest', 'oldest_s', '3600;86400'],
  ['cert_d', 'tls.expiry', 'days_left', '30;3'],
  ['token_d', 'token.expiry', 'days_left', '14;3'],
] as const;

export function renderNagios({ summary, verdict, checks }: Report): { text: string; exit: ExitCode } {
  const [word, exit] =
    summary.fail > 0
      ? (['CRITICAL', EXIT.warn] as const)
      : summary.error > 0
        ? (['UNKNOWN', EXIT.unknown] as const)
        : summary.warn > 0
          ? (['WARNING', EXIT.no] as const)
          : (['OK', EXIT.ok] as const);
  const numbers = PERFORMANCE.flatMap(([label, id, field, limits]) => {
    const value = checks.find((check) => check.id === id)?.evidence?.[field];
    return typeof value === 'number' ? [`${label}=${value};${limits}`] : [];
  });
  const text = `POSSYNC ${word} - ${verdict.code ?? ''} ${verdict.cause}`.replaceAll(/[|\s]+/g, ' ');
  return { text: `${text}${numbers.length > 0 ? ` | ${numbers.join(' ')}` : ''}\n`, exit };
}

export function renderJunit({ summary, checks, startedAt }: Report): string {
  const cases = checks.map((check) => {
    const head = `  <testcase classname="possync.${check.layer}" name="${xml(check.id)}" time="${check.durationMs / 1_000}"`;
    const type = `type="${xml(check.code ?? check.status)}" message="${xml(check.message)}"`;
    switch (check.status) {
      case 'fail':
        return `${head}><failure ${type}>${xml(check.hint ?? '')}</failure></testcase>`;
      case 'error':
        return `${head}><error ${type}/></testcase>`;
      case 'skip':
        return `${head}><skipped message="${xml(check.message)}"/></testcase>`;
      case 'warn':
        return `${head}><system-out>${xml(`warning ${check.code ?? ''}: ${check.message}`)}</system-out></testcase>`;
      case 'pass':
        return `${head}/>`;
    }
  });
  const counts = `tests="${checks.length}" failures="${summary.fail}" errors="${summary.error}" skipped="${summary.skip}"`;
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuite name="possync diagnose" ${counts} timestamp="${startedAt}" time="${summary.durationMs / 1_000}">`,
    ...cases,
    '</testsuite>\n',
  ].join('\n');
}

function xml(text: string): string {
  const entities: Readonly<Record<string, string>> = {
    '&': '&amp;',
    '<': '&lt;',
    '>': '&gt;',
    '"': '&quot;',
  };
  return text.replace(/[&<>"]/g, (sign) => entities[sign] ?? sign).replace(/[^\P{Cc}\n\t]/gu, '?');
}

const STATUS_NUMBER = { pass: 0, warn: 1, fail: 2, skip: 3, error: 4 } as const;

export function renderProm({ checks }: Report): string {
  const series = (name: string, help: string, value: (check: CheckResult) => number): string[] => [
    `# HELP ${name} ${help}`,
    `# TYPE ${name} gauge`,
    ...checks.map((check) => `${name}{check="${check.id}"} ${value(check)}`),
  ];
  return `${[
    ...series(
      'possync_check_status',
      '0 pass, 1 warn, 2 fail, 3 skip, 4 error',
      ({ status }) => STATUS_NUMBER[status],
    ),
    ...series(
      'possync_check_duration_seconds',
      'How long the check took',
      ({ durationMs }) => durationMs / 1_000,
    ),
  ].join('\n')}\n`;
}
