/** `possync stores add CODE`: a new store under an id that no store ever had. */
import { EXIT } from '../../core/errors.ts';
import { addStore } from '../../hq/stores/stores.ts';
import { commandActor } from '../actor.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { storeBody } from '../store-view.ts';

export async function run(context: Context, args: Args): Promise<Answer> {
  const fields = {
    code: args.at(0),
    name: args.required('name'),
    timeZone: args.required('timeZone'),
    address: args.text('address'),
    phone: args.text('phone'),
  };
  const { pool } = await context.database();
  const store = await addStore(pool, fields, commandActor());
  return {
    schema: 'possync.stores/1',
    exit: EXIT.ok,
    body: { stores: [storeBody(store)] },
    text: ({ glyphs, good }) =>
      `${good(glyphs.pass)} Store ${store.code} "${store.name}" has the id ${store.id}; Pending Provisioning.\n` +
      `  Next: possync token issue ${store.code} --hq-url URL --out ${store.code}.token\n`,
  };
}
