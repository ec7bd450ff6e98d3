/** `possync completion SHELL`: the script, on stdout. */
import { EXIT, PossyncError } from '../../core/errors.ts';
import type { Args } from '../args.ts';
import { completionScript, SHELLS } from '../completion.ts';
import type { Answer, Context } from '../context.ts';

export function run(_context: Context, args: Args): Promise<Answer> {
  const shell = SHELLS.find((name) => name === args.at(0));
  if (shell === undefined)
    throw new PossyncError('PS-USAGE', `there is no completion for ${args.at(0)}`, {
      hint: `choose one of ${SHELLS.join(', ')}`,
    });
  const script = completionScript(shell);
  return Promise.resolve({
    schema: 'possync.completion/1',
    exit: EXIT.ok,
    body: { shell, script },
    text: () => script,
  });
}
