/** What the command table says of each command. */
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
