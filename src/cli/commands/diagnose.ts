/** `possync diagnose`: runs the checks, shows them as they are wanted, and answers with its exit code. */
import { userInfo } from 'node:os';
import { EXIT, PossyncError, type ExitCode } from '../../core/errors.ts';
import { SOFTWARE } from '../../core/version.ts';
import { CHECKS } from '../../diagnose/checks.ts';
import { diagnose, type Report } from '../../diagnose/diagnose.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { socketPath } from '../daemon-socket.ts';
import { askDaemon, type Listener } from '../diagnose/ask-daemon.ts';
import { readBundle, writeBundle, type Ran } from '../diagnose/bundle.ts';
import { makeSubject } from '../diagnose/subject.ts';
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
  const progress = await startProgress(
    // Only a person who reads text waits for words.
    format === 'text' ? context.term : { ...context.term, animated: false, json: true },
    context.stderr,
    context.clock,
    'checking',
  );
  let ran: Ran;
  const bundle = args.text('fromBundle');
  try {
    ran =
      bundle === undefined
        ? await runChecks(context, args, {
            started: (id) => {
              progress.update(id);
            },
            result: (result) => {
              if (format === 'jsonl') context.stdout.write(`${JSON.stringify(resultDocument(result))}\n`);
            },
          })
        : await readBundle(bundle);
  } finally {
    progress.stop();
  }
  const { report } = ran;
  const file = args.text('bundle');
  if (file !== undefined) {
    await writeBundle(context, file, ran);
    context.note(`written: ${file} (no secret is in it; look: gunzip -c ${file})`);
  }
  const exit = exitOf(report, args.flag('strict'));
  switch (format) {
    case 'text':
      context.stdout.write(
        renderReport(context.term.out, report, {
          user: ran.user,
          place: ran.place,
          software: SOFTWARE,
          verbose: context.verbose,
        }),
      );
      return exit;
    case 'json':
      context.stdout.write(
        jsonDocument('possync.diagnose/1', exit, reportDocument(report, ran), context.clock.now()),
      );
      return exit;
    case 'jsonl':
      context.stdout.write(
        jsonDocument(
          'possync.diagnose/1',
          exit,
          { ...reportDocument(report, ran), checks: undefined },
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

/**
 * In the daemon's process where it runs: as its user, with its environment and its proxy, what is found is what its own
 * connection meets. Here when it is down, when this command was given settings that the daemon does not have, or when
 * the settings are wrong.
 */
async function runChecks(context: Context, args: Args, listener: Listener): Promise<Ran> {
  const hq = args.text('hq');
  const ask = {
    only: [...args.listAt(0), ...listOf(args.text('only'))],
    skip: listOf(args.text('skip')),
    quick: args.flag('quick'),
    deep: args.flag('deep'),
  };
  const budgetMs = args.durationMs('timeout');
  const { loaded, config, env, signal } = context;
  const own = Object.values(loaded.sources).includes('flag') && loaded.sources.stateDir !== 'flag';
  if (!args.flag('local') && hq === undefined && !own && loaded.faults.length === 0) {
    const socket = socketPath(config.stateDir, env);
    const told = await askDaemon(socket, { ...ask, budget_ms: budgetMs ?? null }, listener, signal);
    if (told !== undefined) return { report: told.report, user: told.by.user, place: 'daemon' };
  }
  const report = await diagnose({
    subject: await makeSubject(context, hq),
    ...ask,
    ...(budgetMs === undefined ? {} : { budgetMs }),
    signal,
    started: ({ id }) => {
      listener.started(id);
    },
    observer: (result) => {
      listener.result(result);
    },
  });
  return { report, user: userInfo().username, place: 'local' };
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
