/** `possync diagnose`: runs the checks, shows them as they are wanted, and answers with its exit code. */
import { userInfo } from 'node:os';
import { EXIT, PossyncError, type ExitCode } from '../../core/errors.ts';
import { SOFTWARE } from '../../core/version.ts';
import { CHECKS } from '../../diagnose/checks.ts';
import { diagnose, type Report } from '../../diagnose/diagnose.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { makeSubject } from '../diagnose-subject.ts';
import {
  resultDocument,
  reportDocument,
  renderJunit,
  renderNagios,
  renderProm,
} from '../render/diagnose-formats.ts';
import { renderReport } from '../render/diagnose.ts';
import { jsonDocument } from '../render/json.ts';
import { startProgress } from '../render/spinner.ts';
import { renderTable } from '../render/table.ts';

const FORMATS = ['text', 'json', 'jsonl', 'nagios', 'junit', 'prom'] as const;

export async function run(context: Context, args: Args): Promise<Answer | ExitCode> {
  if (args.flag('list')) return listChecks();
  const format = args.choice('format', FORMATS) ?? (context.json ? 'json' : 'text');
  if (args.flag('quick') && args.flag('deep'))
    throw new PossyncError('PS-USAGE', '--quick and --deep contradict each other');
  const subject = await makeSubject(context, args.text('hq'));
  const progress = await startProgress(
    // Only a person who reads text waits for words.
    format === 'text' ? context.term : { ...context.term, animated: false, json: true },
    context.stderr,
    context.clock,
    'checking',
  );
  const budgetMs = args.durationMs('timeout');
  let report: Report;
  try {
    report = await diagnose({
      subject,
      only: [...args.listAt(0), ...listOf(args.text('only'))],
      skip: listOf(args.text('skip')),
      quick: args.flag('quick'),
      deep: args.flag('deep'),
      ...(budgetMs === undefined ? {} : { budgetMs }),
      signal: context.signal,
      started: ({ id }) => {
        progress.update(id);
      },
      observer: (result) => {
        if (format === 'jsonl') context.stdout.write(`${JSON.stringify(resultDocument(result))}\n`);
      },
    });
  } finally {
    progress.stop();
  }
  const exit = exitOf(report, args.flag('strict'));
  const user = { user: userInfo().username, software: SOFTWARE };
  switch (format) {
    case 'text':
      context.stdout.write(renderReport(context.term.out, report, { ...user, verbose: context.verbose }));
      return exit;
    case 'json':
      context.stdout.write(
        jsonDocument('possync.diagnose/1', exit, reportDocument(report), context.clock.now()),
      );
      return exit;
    case 'jsonl':
      context.stdout.write(
        jsonDocument(
          'possync.diagnose/1',
          exit,
          { ...reportDocument(report), checks: undefined },
          context.clock.now(),
        ),
      );
      return exit;
    case 'nagios': {
      const { text, exit: status } = renderNagios(report);
      context.stdout.write(text);
      return status;
    }
    case 'junit':
      context.stdout.write(renderJunit(report));
      return exit;
    case 'prom':
      context.stdout.write(renderProm(report));
      return exit;
  }
}

function listOf(text: string | undefined): string[] {
  return (text ?? '')
    .split(',')
    .map((word) => word.trim())
    .filter((word) => word !== '');
}

function exitOf({ summary }: Report, strict: boolean): ExitCode {
  if (summary.fail > 0) return EXIT.no;
  if (summary.error > 0) return EXIT.internal;
  return strict && summary.warn > 0 ? EXIT.warn : EXIT.ok;
}

function listChecks(): Answer {
  return {
    schema: 'possync.diagnose-list/1',
    exit: EXIT.ok,
    body: {
      checks: CHECKS.map(({ id, layer, title, dependsOn = [], slow, deep }) => ({
        id,
        layer,
        title,
        depends_on: dependsOn,
        when: deep === true ? 'deep' : slow === true ? 'full' : 'quick',
      })),
    },
    text: (paint) =>
      renderTable(
        paint,
        ['CHECK', 'IN', 'WHAT IT ASSERTS'],
        CHECKS.map(({ id, title, slow, deep }) => [
          id,
          deep === true ? '--deep' : slow === true ? 'normal' : '--quick',
          title,
        ]),
      ),
  };
}
