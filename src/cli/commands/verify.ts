/** `possync verify`: do store and HQ have the same? Exit 0 equal, 1 differences or findings, 69 a store not reachable. */
import { PossyncError } from '../../core/errors.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { repairsAnswer } from '../verify/repairs.ts';
import { verifyAnswer } from '../verify/document.ts';

const SILENCE_MS_DEFAULT = 60_000;

export async function run(context: Context, args: Args): Promise<Answer> {
  const code = args.maybeAt(0);
  const repair = args.flag('repair');
  const timeoutMs = args.durationMs('timeout') ?? SILENCE_MS_DEFAULT;
  const { pool, role } = await context.database();
  if (args.flag('repairs')) {
    if (repair) throw new PossyncError('PS-USAGE', '--repairs lists; --repair repairs: give one of them');
    return repairsAnswer(pool, { role, code, limit: args.integer('limit') });
  }
  if (role === 'hq') {
    const { verifyAtHq } = await import('../verify/hq.ts');
    return verifyAnswer(await verifyAtHq(context, pool, { code, repair, timeoutMs }), repair);
  }
  if (code !== undefined)
    throw new PossyncError('PS-USAGE', 'a store compares itself only', {
      hint: 'run it without a code, or at HQ',
    });
  const { verifyInStore } = await import('../verify/store.ts');
  return verifyAnswer([await verifyInStore(context, pool, repair)], repair);
}
