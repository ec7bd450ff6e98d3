/** `possync stores ls`: the stores of the chain. */
import { EXIT } from '../../core/errors.ts';
import { readHqStatus } from '../../hq/status.ts';
import type { Answer, Context } from '../context.ts';
import { plural } from '../../core/quantities.ts';
import { renderTable } from '../render/table.ts';
import { STATUS_WORDS, storeBody } from '../store-view.ts';
import { listStores } from '../../hq/stores/stores.ts';

export async function run(context: Context): Promise<Answer> {
  const { pool } = await context.database();
  const [stores, status] = await Promise.all([listStores(pool), readHqStatus(pool)]);
  const words = new Map(status.stores.map((store) => [store.id, store.status]));
  const bodies = stores.map((store) => storeBody(store, words.get(store.id)));
  return {
    schema: 'possync.stores/1',
    exit: EXIT.ok,
    body: { stores: bodies },
    text: (paint) =>
      bodies.length === 0
        ? 'No stores yet. Create one: possync stores add CODE --name NAME --time-zone ZONE\n'
        : renderTable(
            paint,
            ['CODE', 'ID', 'NAME', 'STATUS', 'TIME ZONE'],
            bodies.map((store) => [
              store.code,
              String(store.id),
              store.name,
              STATUS_WORDS[store.status],
              store.time_zone,
            ]),
          ) + `${plural(bodies.length, 'store')}\n`,
  };
}
