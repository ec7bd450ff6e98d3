/** The commands of whoever looks after a machine: what is wrong, what a code means, the log, the settings. */
import type { CommandSpec } from './command-spec.ts';

export const FIELD_COMMANDS: readonly CommandSpec[] = [
  {
    path: 'diagnose',
    args: [['[CHECK...]', 'layers, ids or globs: dns tls.expiry "ws.*"; all without']],
    summary: 'what is wrong, and what to do; works before a store is installed',
    side: 'none',
    examples: [
      'possync diagnose',
      'possync diagnose --hq wss://hq.example.com:3001',
      'possync diagnose dns tls.expiry',
      'possync diagnose --quick --format nagios',
    ],
    options: [
      ['--local', 'in this process, even if the daemon could do it in its own'],
      ['--hq <url>', 'look only at the way to this HQ; needs no installation'],
      ['--only <list>', 'checks, as the arguments, separated by commas'],
      ['--skip <list>', 'checks to leave out, separated by commas'],
      ['--quick', 'at most 3 s'],
      ['--deep', 'idle time-outs, throughput and transparent proxies as well; up to 2 min'],
      ['--list', 'list the checks'],
      ['--format <format>', 'text, json, jsonl, nagios, junit or prom'],
      ['--strict', 'exit 2 when something only warns'],
      ['--timeout <duration>', 'total time (default 15s)'],
    ],
    settings: ['tlsCaFile', 'stateDir', 'logDir'],
    explainsSettings: true,
    load: () => import('./commands/diagnose.ts'),
  },
  {
    path: 'explain',
    args: [['<CODE>', 'e.g. PS-DB-DOWN']],
    summary: 'what a code means and what to do; works without a network',
    side: 'none',
    examples: ['possync explain PS-WS-SILENT'],
    load: () => import('./commands/explain.ts'),
  },
  {
    path: 'logs',
    summary: 'read the log of this side: the last lines, or each new one',
    side: 'none',
    examples: [
      'possync logs',
      'possync logs --follow --level warn',
      'possync logs --since 1h --grep PS-TCP --json | jq .lines',
    ],
    options: [
      ['-f, --follow', 'go on with each new line, until Ctrl-C; with --json one line of JSON each'],
      ['--level <level>', 'this bad or worse: error, warn, info or debug'],
      ['--since <duration>', 'not older than this'],
      ['--grep <text>', 'lines that hold this text, in any field'],
      ['--lines <number>', 'at most this many, the newest (default 50)'],
    ],
    settings: ['logDir'],
    load: () => import('./commands/logs.ts'),
  },
  {
    path: 'config show',
    summary: 'the settings in force and where each comes from',
    side: 'none',
    examples: ['possync config show', 'possync config show --json'],
    load: () => import('./commands/config-show.ts'),
  },
];
