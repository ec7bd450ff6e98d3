/** `possync service uninstall`: see service.ts. */
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { serviceAnswer } from './service.ts';

export async function run(context: Context, args: Args): Promise<Answer> {
  return await serviceAnswer(context, args, 'uninstall');
}
