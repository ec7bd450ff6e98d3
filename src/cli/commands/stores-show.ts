/** `possync stores show CODE`: one store, how it stands and its tokens. */
import { EXIT } from '../../core/errors.ts';
import { readHqStatus } from '../../hq/status.ts';
import { showStore } from '../../hq/stores/stores.ts';
import { listTokens } from '../../hq/stores/tokens.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { STATUS_WORDS, storeBody } from '../store-view.ts';
import { tokenBody, tokenTable } from '../token-view.ts';

export async function run(context: Context, args: Args): Promise<Answer> {
  const { pool } = await context.database();
  const store = await showStore(pool, args.at(0));
  const [status, tokens] = await Promise.all([
    readHqStatus(pool, { storeId: store.id }),
    listTokens(pool, store.id),
  ]);
  const live = status.stores[0];
  const body = storeBody(store, live?.status);
  return {
    schema: 'possync.stores/1',
    exit: EXIT.ok,
    body: { stores: [{ ...body, link: live?.connection ?? null, tokens: tokens.map(tokenBody) }] },
    text: (paint) => {
      const lines: [string, string | null][] = [
        ['Code', body.code],
        ['Id', String(body.id)],
        ['Name', body.name],
        ['Address', body.address],
        ['Phone', body.phone],
        ['Time zone', body.time_zone],
        ['Status', STATUS_WORDS[body.status]],
      ];
      const facts = lines
        .filter(([, value]) => value !== null)
        .map(([label, value]) => `  ${label.padEnd(10)} ${value ?? ''}\n`)
        .join('');
      return `Store ${paint.bold(store.code)}\n${facts}\n${tokenTable(paint, tokens)}`;
    },
  };
}
