/** What `stores activate` and `stores deactivate` have in common: all but one word. */
import { EXIT } from '../core/errors.ts';
import { setStoreActive } from '../hq/stores/stores.ts';
import { commandActor } from './actor.ts';
import type { Answer, Context } from './context.ts';
import { storeBody } from './store-view.ts';

export async function setActive(context: Context, code: string, active: boolean): Promise<Answer> {
  const { pool } = await context.database();
  const { store, changed } = await setStoreActive(pool, code, active, commandActor());
  const done = active
    ? 'may sync again; its queue flows on'
    : 'is cut off within seconds; it keeps selling, and its queue waits for `possync stores activate`';
  return {
    schema: 'possync.stores/1',
    exit: EXIT.ok,
    body: { stores: [storeBody(store)], changed },
    text: ({ glyphs, good }) =>
      changed
        ? `${good(glyphs.pass)} Store ${store.code} ${done}.\n`
        : `Store ${store.code} was ${active ? 'not deactivated' : 'deactivated already'}; nothing changed.\n`,
  };
}
