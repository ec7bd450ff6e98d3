/** Shell completion, written from the command table: static text, no program runs while somebody types. */
import type { CommandSpec } from './command-spec.ts';
import { COMMANDS, GROUPS } from './commands.ts';
import { OPTIONS } from '../config/options.ts';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

const GLOBAL_FLAGS = [
  '--json',
  '--config',
  '--color',
  '--no-color',
  '--ascii',
  '--verbose',
  '--role',
  '--help',
];

export function completionScript(shell: Shell): string {
  switch (shell) {
    case 'bash':
      return bash();
    case 'zsh':
      return `autoload -U +X bashcompinit && bashcompinit\n${bash()}`;
    case 'fish':
      return fish();
  }
}

/** `--log-dir` out of `--log-dir <dir>`, and `--follow` out of `-f, --follow`. */
function flagsOf(spec: CommandSpec): string[] {
  const declared = [
    ...(spec.options ?? []).map(([flags]) => flags),
    ...(spec.settings ?? []).flatMap((name) => {
      const { flag } = OPTIONS[name];
      return flag === undefined ? [] : [flag];
    }),
  ];
  return declared.flatMap((flags) => /--[a-z-]+/.exec(flags)?.[0] ?? []);
}

/** The words that may follow; '' = at the beginning. */
function wordsAfter(): Map<string, string[]> {
  const after = new Map<string, string[]>([['', [...firstWords(), 'help']]]);
  for (const group of Object.keys(GROUPS))
    after.set(
      group,
      COMMANDS.flatMap(({ path }) => (path.startsWith(`${group} `) ? [path.slice(group.length + 1)] : [])),
    );
  for (const spec of COMMANDS) after.set(spec.path, [...flagsOf(spec), ...GLOBAL_FLAGS]);
  return after;
}

function firstWords(): string[] {
  return [...new Set(COMMANDS.map(({ path }) => path.split(' ')[0] ?? ''))];
}

function bash(): string {
  const cases = [...wordsAfter()].map(([path, words]) => `    '${path}') words='${words.join(' ')}' ;;`);
  return `# possync completion: source this file, or put it into /etc/bash_completion.d
_possync() {
  local path='' word words='' index cur="\${COMP_WORDS[COMP_CWORD]}"
  for ((index = 1; index < COMP_CWORD; index++)); do
    word="\${COMP_WORDS[index]}"
    case "$word" in -*) continue ;; esac
    case "$path" in
      '') path="$word" ;;
      ${Object.keys(GROUPS).join('|')}) path="$path $word" ;;
    esac
  done
  case "$path" in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _possync possync
`;
}

function fish(): string {
  const quoted = (text: string): string => `'${text.replace(/['\\]/g, String.raw`\$&`)}'`;
  const lines = ['# possync completion: put this file into ~/.config/fish/completions'];
  for (const word of firstWords()) {
    const help = GROUPS[word] ?? COMMANDS.find(({ path }) => path === word)?.summary ?? word;
    lines.push(`complete -c possync -f -n __fish_use_subcommand -a ${word} -d ${quoted(help)}`);
  }
  for (const spec of COMMANDS) {
    const [first = '', second] = spec.path.split(' ');
    const seen = `__fish_seen_subcommand_from ${first}`;
    if (second !== undefined)
      lines.push(`complete -c possync -f -n ${quoted(seen)} -a ${second} -d ${quoted(spec.summary)}`);
    const inside = second === undefined ? seen : `${seen}; and __fish_seen_subcommand_from ${second}`;
    for (const flag of [...flagsOf(spec), ...GLOBAL_FLAGS])
      lines.push(`complete -c possync -n ${quoted(inside)} -l ${flag.slice(2)}`);
  }
  return `${lines.join('\n')}\n`;
}
