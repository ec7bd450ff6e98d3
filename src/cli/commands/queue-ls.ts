/** `possync queue ls`: what waits to be sent, in send order; at HQ what was refused and what stores reported. */
import type { ExitCode } from '../../core/errors.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';

export async function run(context: Context, args: Args): Promise<Answer | ExitCode> {
  const { pool, role } = await context.database();
  if (role === 'hq') {
    const { listHqQueue } = await import('../queue/hq.ts');
    return await listHqQueue(context, pool, args);
  }
  const { listStoreQueue } = await import('../queue/store.ts');
  return await listStoreQueue(context, pool, args);
}
