/** `possync stores activate CODE`. */
import { setActive } from '../store-switch.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';

export function run(context: Context, args: Args): Promise<Answer> {
  return setActive(context, args.at(0), true);
}
