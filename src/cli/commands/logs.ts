/** `possync logs`: the log of this side as people read it, or as it is; --follow goes on until Ctrl-C. */
import * as z from 'zod';
import { EXIT, PossyncError, type ExitCode } from '../../core/errors.ts';
import { redact } from '../../core/secret.ts';
import { LOG_LEVELS } from '../../core/log-levels.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { follow, linesOf, pathsOf, type LogFiles } from '../logs/files.ts';
import { renderLogLine, type LogLine } from '../render/log-line.ts';

const LINES_DEFAULT = 50;
const LINES_MAX = 100_000;

const lineSchema = z.looseObject({
  ts: z.string().max(40),
  level: z.enum(LOG_LEVELS),
  msg: z.string(),
});

type Wanted = (line: LogLine) => boolean;

export async function run(context: Context, args: Args): Promise<Answer | ExitCode> {
  const sinceMs = args.durationMs('since');
  const count = args.integer('lines') ?? (sinceMs === undefined ? LINES_DEFAULT : LINES_MAX);
  const wanted = filterOf(args, sinceMs === undefined ? undefined : context.clock.now() - sinceMs);
  const files = await filesOf(context);
  if (args.flag('follow')) return await followLog(context, files, wanted, count);
  const found: LogLine[] = [];
  for await (const text of linesOf(files)) keep(found, text, wanted, count);
  return {
    schema: 'possync.logs/1',
    exit: EXIT.ok,
    body: { log: `${files.name}.log`, lines: found },
    text: (paint) =>
      found.length === 0
        ? 'No such lines.\n'
        : found.map((line) => renderLogLine(paint, line, context.verbose)).join(''),
  };
}

/** The newest `count` lines that are there, then each new one. */
async function followLog(
  context: Context,
  files: LogFiles,
  wanted: Wanted,
  count: number,
): Promise<ExitCode> {
  const { json, term, stdout, clock, signal, verbose } = context;
  const found: LogLine[] = [];
  let caughtUp = false;
  const show = (): void => {
    for (const line of found.splice(0))
      stdout.write(json ? `${JSON.stringify(line)}\n` : renderLogLine(term.out, line, verbose));
  };
  for await (const text of follow(files, clock, signal)) {
    if (text === undefined) caughtUp = true;
    else keep(found, text, wanted, count);
    if (caughtUp) show();
  }
  return EXIT.interrupted;
}

function keep(found: LogLine[], text: string, wanted: Wanted, count: number): void {
  const line = parsed(text);
  if (line === undefined || !wanted(line)) return;
  found.push(line);
  if (found.length > count) found.shift();
}

/** The log of this side: what --role says, else the one that is there. */
async function filesOf({ config, roleOverride }: Context): Promise<LogFiles> {
  const dir = config.logDir;
  if (roleOverride !== undefined) return { dir, name: `${roleOverride}-server` };
  const there: LogFiles[] = [];
  for (const name of ['store-server', 'hq-server']) {
    if ((await pathsOf({ dir, name })).length > 0) there.push({ dir, name });
  }
  const [first, second] = there;
  if (first === undefined)
    throw new PossyncError('PS-FILE-READ', `there is no log in ${dir}`, {
      hint: 'name the directory with --log-dir (LOG_DIR), as the service has it',
    });
  if (second !== undefined)
    throw new PossyncError('PS-USAGE', `there are logs of both sides in ${dir}`, {
      hint: 'choose one with --role hq or --role store',
    });
  return first;
}

function filterOf(args: Args, sinceMs: number | undefined): Wanted {
  const level = LOG_LEVELS.indexOf(args.choice('level', LOG_LEVELS) ?? 'debug');
  const text = args.text('grep')?.toLowerCase();
  return (line) =>
    LOG_LEVELS.indexOf(line.level) <= level &&
    (sinceMs === undefined || Date.parse(line.ts) >= sinceMs) &&
    (text === undefined || JSON.stringify(line).toLowerCase().includes(text));
}

/** undefined: half a line after a power cut, or no line of ours. */
function parsed(text: string): LogLine | undefined {
  try {
    const line = lineSchema.safeParse(JSON.parse(redact(text)));
    return line.success ? line.data : undefined;
  } catch {
    return undefined;
  }
}
