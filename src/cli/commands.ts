/**
 * Every command, as data: its words, help and flags, and where its code is.
 *
 * The code is imported only when the command runs: `possync --help` must not load pg, knex, ws or winston
 * (a third of a second on a small machine).
 */
import type { OptionName } from '../config/options.ts';
import type { CommandModule } from './context.ts';

export interface CommandSpec {
  /** Words after `possync`. */
  readonly path: string;
  /** commander's form: `<CODE>` required, `[SEQ...]` any number; each with its help. */
  readonly args?: readonly (readonly [string, string])[];
  readonly summary: string;
  readonly side: 'hq' | 'store' | 'either' | 'none';
  readonly examples: readonly string[];
  /** Flags of the command itself. */
  readonly options?: readonly (readonly [string, string])[];
  /** Settings that it also takes as flags. */
  readonly settings?: readonly OptionName[];
  /** Runs until it is stopped, and handles signals itself. */
  readonly service?: true;
  /** Runs with wrong settings as well, and says what is wrong with them. */
  readonly explainsSettings?: true;
  readonly load: () => Promise<CommandModule>;
}

const SERVER: readonly OptionName[] = ['logDir', 'logLevel', 'metricsListen'];

export const COMMANDS: readonly CommandSpec[] = [
  {
    path: 'status',
    args: [['[CODE]', 'at HQ: one store']],
    summary: 'is it green? Link, queue, downloads; exit 0 green, 1 red, 69 cannot tell',
    side: 'either',
    examples: [
      'possync status',
      'possync status --wait drained --timeout 60',
      'possync status --json | jq .connection',
    ],
    options: [
      ['--short', 'one line'],
      ['--wait <state>', 'wait until green, drained or caught-up; exit 1 when the time runs out'],
      ['--timeout <duration>', 'longest wait (default 60s)'],
      ['--watch [interval]', 'show it again and again (default every 2s); in a pipe one line per change'],
      ['--all', 'at HQ: connected stores as well, however many'],
      ['--red', 'at HQ: only stores that are not connected'],
    ],
    settings: ['stateDir'],
    load: () => import('./commands/status.ts'),
  },
  {
    path: 'hq init',
    summary: 'create or upgrade the schema of HQ; may be repeated',
    side: 'none',
    examples: ['DATABASE_URL=postgres://…/pos_hq possync hq init', 'possync hq init --types own-types.json'],
    options: [
      ['--types <file>', "data types of the chain's own: JSON as the README shows; - reads standard input"],
    ],
    load: () => import('./commands/hq-init.ts'),
  },
  {
    path: 'hq serve',
    summary: 'run HQ: HTTP and WebSocket on one port',
    side: 'none',
    examples: ['possync hq serve', 'possync hq serve --migrate --port 3001', 'possync hq serve --check'],
    options: [
      ['--migrate', 'upgrade the schema first, if it is old'],
      ['--check', 'check settings, certificate, database and schema, then exit 0 or 78'],
    ],
    settings: [
      'listenPort',
      'listenHost',
      'tlsCertFile',
      'tlsKeyFile',
      'allowPlaintext',
      'credentialLifeMs',
      ...SERVER,
    ],
    service: true,
    load: () => import('./commands/hq-serve.ts'),
  },
  {
    path: 'hq reproject',
    args: [['<TYPE>', 'data type, e.g. product']],
    summary: 'compare every record of a type with what stores were given, and send what differs',
    side: 'hq',
    examples: ['possync hq reproject product'],
    load: () => import('./commands/hq-reproject.ts'),
  },
  {
    path: 'stores add',
    args: [['<CODE>', 'short, unique, never changed: NYC-001']],
    summary: 'create a store; it waits for its enrolment',
    side: 'hq',
    examples: ['possync stores add NYC-001 --name "Elm Street" --time-zone America/New_York'],
    options: [
      ['--name <name>', 'what people call it (required)'],
      ['--time-zone <zone>', 'IANA name; decides what "today" is there (required)'],
      ['--address <text>', 'where it is'],
      ['--phone <text>', 'its telephone'],
    ],
    load: () => import('./commands/stores-add.ts'),
  },
  {
    path: 'stores ls',
    summary: 'list the stores',
    side: 'hq',
    examples: ['possync stores ls', 'possync stores ls --json'],
    load: () => import('./commands/stores-ls.ts'),
  },
  {
    path: 'stores show',
    args: [['<CODE>', 'store code']],
    summary: 'one store and its tokens',
    side: 'hq',
    examples: ['possync stores show NYC-001'],
    load: () => import('./commands/stores-show.ts'),
  },
  {
    path: 'stores activate',
    args: [['<CODE>', 'store code']],
    summary: 'let a deactivated store sync again; its queue flows on',
    side: 'hq',
    examples: ['possync stores activate NYC-001'],
    load: () => import('./commands/stores-activate.ts'),
  },
  {
    path: 'stores deactivate',
    args: [['<CODE>', 'store code']],
    summary: 'cut a store off; it keeps selling and its queue waits',
    side: 'hq',
    examples: ['possync stores deactivate NYC-001'],
    load: () => import('./commands/stores-deactivate.ts'),
  },
  {
    path: 'token issue',
    args: [['<CODE>', 'store code']],
    summary: 'make a one-time enrolment token for a store',
    side: 'hq',
    examples: [
      'possync token issue NYC-001 --hq-url https://hq.example.com:3001 > nyc-001.token',
      'possync token issue NYC-001 --hq-url https://hq.example.com:3001 --out nyc-001.token',
    ],
    options: [
      ['--hq-url <url>', 'address under which the store reaches HQ: http, https, ws or wss (required)'],
      ['--out <file>', 'write it there (mode 0600) and nowhere else'],
      ['--expires-in <duration>', 'how long it may be used (default 72h)'],
    ],
    load: () => import('./commands/token-issue.ts'),
  },
  {
    path: 'token revoke',
    args: [['[CODE]', 'store code']],
    summary: 'end the credentials of a store now, on every HQ process; exit 75 if one still serves it',
    side: 'hq',
    examples: [
      'possync token revoke NYC-001 --reason "server stolen"',
      'possync token revoke NYC-001 --kid 7F3KQ2AB',
      'possync token revoke --replay logs   # after HQ was restored from a backup',
    ],
    options: [
      ['--kid <kid>', 'only this one'],
      ['--reason <text>', 'why, for the audit'],
      ['--replay <path>', 'end again what a log of HQ, or a folder of them, says has ended'],
      ['--dry-run', 'say what would end and change nothing'],
      ['--timeout <duration>', 'longest wait until no server serves it (default 20s)'],
    ],
    settings: ['logDir'],
    load: () => import('./commands/token-revoke.ts'),
  },
  {
    path: 'token rotate',
    args: [['[CODE...]', 'at HQ: these stores, over their live connections']],
    summary:
      'replace the credential of this store, or at HQ those of stores; nothing is cut, the old one works on for a day',
    side: 'none',
    examples: [
      'possync token rotate',
      'possync token rotate --if-expires-within 30d --expires-in 90d   # for cron: exit 0 when not needed',
      'possync token rotate --revoke-old-now',
      'possync token rotate --all --wait 10m --batch 10   # at HQ: exit 0 all, 1 some failed, 75 some pending',
      'possync token rotate NYC-001 NYC-002 --if-expires-within 30d',
    ],
    options: [
      ['--all', 'at HQ: every store'],
      ['--batch <n>', 'at HQ: so many stores at once (default 10); no more after 3 failures'],
      ['--wait [duration]', 'at HQ: longest wait for the connected ones (default 10m; without it --timeout)'],
      ['--if-expires-within <duration>', 'only if the one in force ends within this time'],
      ['--expires-in <duration>', 'how long the new one lives (default: as HQ is set, SYNC_CREDENTIAL_LIFE)'],
      ['--grace <duration>', 'how long the old one is still taken (default 24h)'],
      ['--revoke-old-now', 'end the old one as soon as the new one is in use'],
      ['--dry-run', 'check that it would work and change nothing'],
      ['--force', 'give up an unfinished rotation that was begun elsewhere'],
      ['--timeout <duration>', 'longest time for all of it (default 30s)'],
    ],
    settings: ['stateDir', 'hqUrl', 'tlsCaFile'],
    load: () => import('./commands/token-rotate.ts'),
  },
  {
    path: 'token status',
    summary:
      'is the credential of this store good? exit 0 yes, 1 ends soon, 66 none, 69 cannot tell, 77 refused',
    side: 'none',
    examples: ['possync token status', 'possync token status --warn 30d --json'],
    options: [
      ['--warn <duration>', 'what counts as soon (default 14d)'],
      ['--timeout <duration>', 'longest wait for HQ (default 10s)'],
    ],
    settings: ['stateDir', 'hqUrl', 'tlsCaFile'],
    load: () => import('./commands/token-status.ts'),
  },
  {
    path: 'token ls',
    args: [['[CODE]', 'at HQ: only this store']],
    summary: 'list tokens and credentials; never a secret',
    side: 'either',
    examples: ['possync token ls', 'possync token ls NYC-001 --json'],
    settings: ['stateDir'],
    load: () => import('./commands/token-ls.ts'),
  },
  {
    path: 'store init',
    summary: 'create or upgrade the schema of a store; with a token, enrol at HQ',
    side: 'none',
    examples: ['possync store init --token-file nyc-001.token', 'possync store init   # upgrade only'],
    options: [
      ['--replace', 'this empty server takes over from a lost one'],
      ['--types <file>', "data types of the chain's own, from the same file as at HQ"],
    ],
    settings: ['tokenFile', 'hqUrl', 'stateDir', 'tlsCaFile', 'allowPlaintext'],
    load: () => import('./commands/store-init.ts'),
  },
  {
    path: 'store daemon',
    summary: 'run the sync of a store',
    side: 'none',
    examples: ['possync store daemon', 'possync store daemon --migrate'],
    options: [['--migrate', 'upgrade the schema first, if it is old']],
    settings: ['stateDir', 'hqUrl', 'pushIntervalMs', 'tlsCaFile', 'statusListen', ...SERVER],
    service: true,
    load: () => import('./commands/store-daemon.ts'),
  },
  {
    path: 'store re-enrol',
    summary: 'start a new epoch after this database was restored from a backup',
    side: 'store',
    examples: ['possync store re-enrol --dry-run', 'possync store re-enrol --token-file fresh.token'],
    options: [['--dry-run', 'say what would happen and change nothing']],
    settings: ['tokenFile', 'stateDir', 'tlsCaFile', 'allowPlaintext'],
    load: () => import('./commands/store-re-enrol.ts'),
  },
  {
    path: 'store reexport',
    summary: 'send what the store has since a date again, for an HQ restored from an old backup',
    side: 'store',
    examples: ['possync store reexport --from 2026-10-01 --dry-run'],
    options: [
      ['--from <date>', 'first business date, YYYY-MM-DD (required)'],
      ['--dry-run', 'say what would happen and change nothing'],
    ],
    settings: ['stateDir'],
    load: () => import('./commands/store-reexport.ts'),
  },
  {
    path: 'ledger',
    args: [['[CODE]', 'store code']],
    summary: 'what is missing or does not add up in what stores have sent; exit 0 nothing, 1 something',
    side: 'hq',
    examples: ['possync ledger', 'possync ledger NYC-001 --all', 'possync ledger --open --json'],
    options: [
      ['--open', 'only findings that are open, without the reports'],
      ['--all', 'reports that are complete and findings that are mended as well'],
    ],
    load: () => import('./commands/ledger.ts'),
  },
  {
    path: 'queue ls',
    args: [['[CODE]', 'at HQ: only this store']],
    summary: 'what waits to be sent; at HQ what was refused',
    side: 'either',
    examples: [
      'possync queue ls',
      'possync queue ls --dead',
      'possync queue ls --type sale --older-than 10m --json',
    ],
    options: [
      ['--dead', 'what HQ refused and keeps'],
      ['--type <type>', 'only entries that begin with this type'],
      ['--state <state>', 'waiting, sending or parked'],
      ['--priority <priority>', 'high or normal'],
      ['--older-than <duration>', 'only entries older than that'],
      ['--limit <number>', 'at most this many (default 20)'],
      ['--sort <order>', 'send (default), age, tries or bytes'],
      ['--all', 'all of them'],
      ['--counts', 'only the counts'],
      ['--jsonl', 'one JSON document a line and entry'],
      ['--fail-if-older <duration>', 'exit 1 if the oldest entry is older'],
    ],
    load: () => import('./commands/queue-ls.ts'),
  },
  {
    path: 'queue show',
    args: [
      ['<CODE|SEQ>', 'in a store the sequence; at HQ the store code'],
      ['[SEQ]', 'at HQ: the sequence'],
    ],
    summary: 'one entry',
    side: 'either',
    examples: ['possync queue show 103804', 'possync queue show NYC-001 103804 --payload'],
    options: [['--payload', 'its rows as well']],
    load: () => import('./commands/queue-show.ts'),
  },
  {
    path: 'queue retry',
    args: [
      ['<CODE>', 'store code'],
      ['[SEQ...]', 'sequences; none means all'],
    ],
    summary: 'apply refused entries again, in order; exit 0 all applied, 1 some refused again',
    side: 'hq',
    examples: ['possync queue retry NYC-001', 'possync queue retry NYC-001 103804'],
    options: [['--all', 'all of the store']],
    load: () => import('./commands/queue-retry.ts'),
  },
  {
    path: 'queue drop',
    args: [
      ['<CODE>', 'store code'],
      ['<SEQ>', 'sequence'],
    ],
    summary: 'give up a refused entry; who and why is kept',
    side: 'hq',
    examples: ['possync queue drop NYC-001 103804 --reason "test sale of the installer"'],
    options: [['--reason <text>', 'why it is given up (required)']],
    load: () => import('./commands/queue-drop.ts'),
  },
  {
    path: 'demo',
    summary: 'a chain in a box: HQ, stores and tills on a private PostgreSQL',
    side: 'none',
    examples: ['possync demo', 'possync demo --for 20s --json'],
    options: [
      ['--for <duration>', 'end by itself after this time'],
      ['--stores <n>', 'how many stores (default 3)'],
      ['--seed <n>', 'what the tills sell and which store is cut off'],
    ],
    load: () => import('./commands/demo.ts'),
  },
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
    path: 'config show',
    summary: 'the settings in force and where each comes from',
    side: 'none',
    examples: ['possync config show', 'possync config show --json'],
    load: () => import('./commands/config-show.ts'),
  },
];

/** The first words of commands with several, and what they are about. */
export const GROUPS: Readonly<Record<string, string>> = {
  hq: 'head office',
  stores: 'the stores, at HQ',
  token: 'enrolment tokens and credentials',
  store: 'this store',
  queue: 'what waits to be sent, and what HQ refused',
  config: 'settings',
};
