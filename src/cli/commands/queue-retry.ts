/** `possync queue retry CODE [SEQ…]`: applies refused entries again, in their order. */
import { EXIT } from '../../core/errors.ts';
import { retryDead } from '../../hq/inbox/dead.ts';
import { showStore } from '../../hq/stores/stores.ts';
import { commandActor } from '../actor.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { formatCount } from '../../core/quantities.ts';
import { parseSeq } from './queue-show.ts';

export async function run(context: Context, args: Args): Promise<Answer> {
  const { pool } = await context.database();
  const store = await showStore(pool, args.at(0));
  const seqs = args.listAt(1).map(parseSeq);
  const all = seqs.length === 0 || args.flag('all');
  const { applied, left } = await retryDead(pool, store.id, all ? 'all' : seqs, commandActor());
  return {
    schema: 'possync.queue-retry/1',
    exit: left.length === 0 ? EXIT.ok : EXIT.no,
    body: { store: store.code, applied, refused: left },
    text: ({ glyphs, good, caution }) =>
      left.length === 0
        ? `${good(glyphs.pass)} ${formatCount(applied.length)} applied, none refused.\n`
        : `${caution(glyphs.warn)} ${formatCount(applied.length)} applied, ${formatCount(left.length)} refused again: possync queue ls ${store.code} --dead\n`,
  };
}
