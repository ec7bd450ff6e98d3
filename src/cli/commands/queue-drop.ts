/** `possync queue drop CODE SEQ --reason TEXT`: gives a refused entry up; who and why is kept for ever. */
import { EXIT } from '../../core/errors.ts';
import { dropDead } from '../../hq/inbox/dead.ts';
import { showStore } from '../../hq/stores/stores.ts';
import { commandActor } from '../actor.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { formatCount } from '../../core/quantities.ts';
import { parseSeq } from './queue-show.ts';

export async function run(context: Context, args: Args): Promise<Answer> {
  const reason = args.required('reason');
  const seq = parseSeq(args.at(1));
  const { pool } = await context.database();
  const store = await showStore(pool, args.at(0));
  const { applied, left } = await dropDead(pool, store.id, seq, reason, commandActor());
  return {
    schema: 'possync.queue-drop/1',
    exit: EXIT.ok,
    body: { store: store.code, dropped: seq, applied, refused: left },
    text: ({ glyphs, good }) =>
      `${good(glyphs.pass)} Entry ${seq} of store ${store.code} is given up. ` +
      `${formatCount(applied.length)} that waited behind it applied, ${formatCount(left.length)} still parked.\n`,
  };
}
