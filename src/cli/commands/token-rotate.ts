/** `possync token rotate`: in a store its own credential; at HQ, with CODE or --all, those of stores over their live links. */
import { PossyncError } from '../../core/errors.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { rotateFlags } from '../token/rotate-flags.ts';

export async function run(context: Context, args: Args): Promise<Answer> {
  const codes = args.listAt(0);
  const all = args.flag('all');
  const flags = rotateFlags(args);
  if (codes.length === 0 && !all) {
    for (const name of ['batch', 'wait', 'withdraw'])
      if (args.text(name) !== undefined || args.flag(name))
        throw new PossyncError('PS-USAGE', `--${name} is for HQ: name the stores, or give --all`);
    const { rotateHere } = await import('../token/rotate-store.ts');
    return await rotateHere(context, args, flags);
  }
  if (codes.length > 0 && all) throw new PossyncError('PS-USAGE', 'give either store codes or --all');
  if (args.flag('withdraw')) {
    const { withdrawAtHq } = await import('../token/withdraw-hq.ts');
    return await withdrawAtHq(context, codes, flags);
  }
  const { rotateStores } = await import('../token/rotate-hq.ts');
  return await rotateStores(context, args, codes, flags);
}
