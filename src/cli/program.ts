/** The commander tree, built from the command table; parsing decides only which command runs with which words. */
import { Command, Option } from 'commander';
import { OPTIONS, type OptionName } from '../config/options.ts';
import { VERSION } from '../core/version.ts';
import type { CommandSpec } from './command-spec.ts';
import { COMMANDS, GROUPS } from './commands.ts';
import { HELP_TOPICS } from './help-topics.ts';

export interface Invocation {
  readonly spec: CommandSpec;
  readonly positional: readonly (string | readonly string[] | undefined)[];
  readonly options: Readonly<Record<string, unknown>>;
}

export interface ProgramOutput {
  out(text: string): void;
}

/** Parses `argv`; commander throws CommanderError for help, version and every usage error. */
export function parse(argv: readonly string[], output: ProgramOutput): Invocation | undefined {
  let invocation: Invocation | undefined;
  const program = buildProgram(output, (found) => {
    invocation = found;
  });
  program.parse([...argv], { from: 'user' });
  return invocation;
}

function buildProgram(output: ProgramOutput, invoke: (invocation: Invocation) => void): Command {
  const program = new Command('possync')
    .description('Store-to-head-office sync for retail chains on PostgreSQL.')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => {
        output.out(text);
      },
      // Usage errors are told once, by run.ts, in the form of every other error.
      writeErr: () => undefined,
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    })
    .configureHelp({ showGlobalOptions: true, sortSubcommands: false })
    .version(`possync ${VERSION}`, '--version', 'print the version')
    .helpOption('-h, --help', 'show this help')
    .helpCommand(false)
    .option('--json', 'one JSON document on stdout, errors as well')
    .option('--config <file>', 'config file')
    .addOption(new Option('--color [when]', 'always, never or auto').choices(['always', 'never', 'auto']))
    .option('--no-color', 'no colour')
    .option('--ascii', 'plain symbols')
    .option('--verbose', 'stack traces with errors')
    .addOption(
      new Option('--role <role>', 'hq or store, in place of what the database says').choices(['hq', 'store']),
    );
  program.addHelpText('before', examples(['possync status', 'possync stores ls', 'possync help exit-codes']));

  const groups = new Map<string, Command>();
  for (const spec of COMMANDS) {
    const [first = '', second] = spec.path.split(' ');
    if (second === undefined) {
      addCommand(program, first, spec, invoke);
      continue;
    }
    let group = groups.get(first);
    if (group === undefined) {
      group = program
        .command(first)
        .description(sentence(GROUPS[first] ?? first))
        .helpCommand(false);
      groups.set(first, group);
    }
    addCommand(group, second, spec, invoke);
  }
  addHelpCommand(program, output);
  return program;
}

function addCommand(
  parent: Command,
  name: string,
  spec: CommandSpec,
  invoke: (invocation: Invocation) => void,
): void {
  const command = parent.command(name).description(sentence(spec.summary));
  command.addHelpText('before', examples(spec.examples));
  for (const [flags, help] of spec.args ?? []) command.argument(flags, help);
  for (const [flags, help] of spec.options ?? []) command.option(flags, help);
  for (const setting of spec.settings ?? []) {
    const { flag, env, shown, help } = OPTIONS[setting];
    if (flag !== undefined) command.option(flag, `${help} (${env}; default ${shown})`);
  }
  command.action((...received: unknown[]) => {
    // commander hands over the arguments, then the options, then the command.
    const positional = received.slice(0, -2) as (string | string[] | undefined)[];
    invoke({ spec, positional, options: command.optsWithGlobals() });
  });
}

function addHelpCommand(program: Command, output: ProgramOutput): void {
  program
    .command('help')
    .argument('[topic...]', `a command, or one of ${Object.keys(HELP_TOPICS).join(', ')}`)
    .description('Help on a command or a topic.')
    .action((words: string[]) => {
      const topic = HELP_TOPICS[words.join(' ')];
      if (topic !== undefined) {
        output.out(topic());
        return;
      }
      let command = program;
      for (const word of words) {
        const next = command.commands.find((candidate) => candidate.name() === word);
        if (next === undefined) {
          const known = [
            ...Object.keys(HELP_TOPICS),
            ...command.commands.map((candidate) => candidate.name()),
          ];
          program.error(`error: no help on '${words.join(' ')}'; there is ${known.join(', ')}`);
        }
        command = next;
      }
      output.out(helpOf(command));
    });
}

/** `helpInformation` leaves out what addHelpText put before it. */
function helpOf(command: Command): string {
  const spec = COMMANDS.find(({ path }) => `possync ${path}` === fullName(command));
  return (spec === undefined ? '' : examples(spec.examples)) + command.helpInformation();
}

function fullName(command: Command): string {
  return command.parent === null ? command.name() : `${fullName(command.parent)} ${command.name()}`;
}

function examples(lines: readonly string[]): string {
  return `Examples:\n${lines.map((line) => `  ${line}\n`).join('')}\n`;
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

/** Texts of the settings that were given as flags. */
export function settingFlags(
  spec: CommandSpec,
  options: Readonly<Record<string, unknown>>,
): Partial<Record<OptionName, string>> {
  const flags: Partial<Record<OptionName, string>> = {};
  for (const setting of spec.settings ?? []) {
    const { flag } = OPTIONS[setting];
    if (flag === undefined) continue;
    const value = options[new Option(flag).attributeName()];
    if (value === true) flags[setting] = '1';
    else if (typeof value === 'string') flags[setting] = value;
  }
  return flags;
}
