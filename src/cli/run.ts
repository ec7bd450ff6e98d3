/** One run of the program without a process around it: parse, load settings, run the command, print, exit code. */
import { CommanderError } from 'commander';
import { loadConfig } from '../config/load.ts';
import type { Env } from '../config/options.ts';
import { codeOf, databaseError, SOCKET_CODES, toPossyncError } from '../core/classify.ts';
import { systemClock } from '../core/clock.ts';
import { EXIT, PossyncError, type ExitCode } from '../core/errors.ts';
import { redact } from '../core/secret.ts';
import { Args } from './args.ts';
import { Context, type Answer } from './context.ts';
import { parse, settingFlags, type Invocation } from './program.ts';
import { cleanStream } from './render/clean.ts';
import { renderError } from './render/error.ts';
import { jsonDocument, jsonError } from './render/json.ts';
import { createTerm, type OutputStream, type Term } from './render/term.ts';

export interface Host {
  readonly argv: readonly string[];
  readonly env: Env;
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  readonly signal: AbortSignal;
  readonly root: boolean;
  readStdin(): Promise<string>;
  /** The command handles signals itself from here on. */
  serviceStarts(): void;
}

export async function runCli(outer: Host): Promise<ExitCode> {
  const { argv } = outer;
  const json = argv.includes('--json') || argv.includes('--jsonl');
  const verbose = argv.includes('--verbose');
  const term = createTerm(
    outer.stdout,
    outer.stderr,
    { color: colourFlag(argv), ascii: argv.includes('--ascii'), json },
    outer.env,
  );
  const host: Host = {
    ...outer,
    stdout: cleanStream(outer.stdout, term.out),
    stderr: cleanStream(outer.stderr, term.err),
  };
  try {
    const invocation = parse(host.argv, { out: (text) => host.stdout.write(text) });
    if (invocation === undefined) return EXIT.ok; // help on a topic has printed itself
    return await runCommand(host, invocation, term, verbose);
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return EXIT.ok; // --help, --version
    const known = error instanceof CommanderError ? usageError(error, host.argv) : named(error);
    if (host.signal.aborted) {
      host.stderr.write('interrupted\n');
      return EXIT.interrupted;
    }
    if (json) host.stdout.write(jsonError(known, systemClock.now()));
    else host.stderr.write(renderError(term.err, known, verbose));
    return known.exit;
  }
}

async function runCommand(
  host: Host,
  { spec, positional, options }: Invocation,
  term: Term,
  verbose: boolean,
): Promise<ExitCode> {
  const { run } = await spec.load();
  const side = spec.path.startsWith('hq') ? 'hq' : spec.path.startsWith('store ') ? 'store' : undefined;
  const role = options.role === 'hq' || options.role === 'store' ? options.role : undefined;
  const loaded = loadConfig({
    flags: settingFlags(spec, options),
    env: host.env,
    configFile: typeof options.config === 'string' ? options.config : undefined,
    side: side ?? role ?? (spec.side === 'hq' ? 'hq' : undefined),
    root: host.root,
    lenient: spec.explainsSettings === true,
  });
  if (spec.explainsSettings !== true)
    for (const warning of loaded.warnings) host.stderr.write(`warning: ${warning}\n`);
  const context = new Context({
    loaded,
    term,
    stdout: host.stdout,
    stderr: host.stderr,
    env: host.env,
    clock: systemClock,
    signal: host.signal,
    verbose,
    role,
    side: spec.side,
    command: spec.path,
    readStdin: () => host.readStdin(),
  });
  if (spec.service === true && options.check !== true) host.serviceStarts();
  try {
    const answer = await run(context, new Args(positional, options));
    return typeof answer === 'number' ? answer : printAnswer(host, term, answer);
  } finally {
    await context.close();
  }
}

function printAnswer(host: Host, term: Term, answer: Answer): ExitCode {
  const text = term.json
    ? jsonDocument(answer.schema, answer.exit, answer.body, systemClock.now())
    : answer.text(term.out);
  host.stdout.write(text);
  return answer.exit;
}

function colourFlag(argv: readonly string[]): 'always' | 'never' | 'auto' {
  let found: 'always' | 'never' | 'auto' = 'auto';
  argv.forEach((word, index) => {
    if (word === '--no-color' || word === '--color=never') found = 'never';
    else if (word === '--color=always') found = 'always';
    else if (word === '--color=auto') found = 'auto';
    else if (word === '--color') {
      const next = argv[index + 1];
      found = next === 'never' || next === 'auto' ? next : 'always';
    }
  });
  return found;
}

/** commander's own wording, in the form of every other error, and why there is no --token. */
function usageError(error: CommanderError, argv: readonly string[]): PossyncError {
  if (argv.some((word) => word === '--token' || word.startsWith('--token='))) {
    return new PossyncError('PS-USAGE', 'there is no --token', {
      why: 'a secret on the command line is seen by every user of the machine',
      hint: 'put it into a file of mode 0600: --token-file FILE, or - for standard input',
    });
  }
  if (error.code === 'commander.help') {
    return new PossyncError('PS-USAGE', 'a command is missing', { hint: 'see: possync --help' });
  }
  const [message = '', ...more] = error.message.replace(/^error: /, '').split('\n');
  const why = more.join(' ').trim();
  return new PossyncError('PS-USAGE', redact(message), why === '' ? {} : { why });
}

/** Sockets that fail outside of HqClient are PostgreSQL's: pg hands their errors on as they are. */
function named(error: unknown): PossyncError {
  if (error instanceof PossyncError) return error;
  const code = codeOf(error);
  return code !== undefined && SOCKET_CODES.has(code) ? databaseError(error) : toPossyncError(error);
}
