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
  readonly load: () => Promise<CommandModule>;
}

export const COMMANDS: readonly CommandSpec[] = [
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
