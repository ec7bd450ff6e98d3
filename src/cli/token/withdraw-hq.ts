/** `possync token rotate --withdraw` at HQ: takes back orders that stores have not carried out. */
import { EXIT, PossyncError } from '../../core/errors.ts';
import { plural } from '../../core/quantities.ts';
import { withdrawOrders } from '../../hq/stores/orders.ts';
import { showStore } from '../../hq/stores/stores.ts';
import { commandActor } from '../actor.ts';
import type { Answer, Context } from '../context.ts';

/** `codes` empty = of every store. A store without an open order is nothing wrong: the same command may be run again. */
export async function withdrawAtHq(
  context: Context,
  codes: readonly string[],
  { dryRun }: { readonly dryRun: boolean },
): Promise<Answer> {
  const { pool, role } = await context.database();
  if (role !== 'hq')
    throw new PossyncError('PS-WRONG-SIDE', '--withdraw is for HQ', {
      why: 'this database belongs to a store',
      hint: 'run this at HQ',
    });
  const ids: number[] = [];
  for (const code of new Set(codes)) ids.push((await showStore(pool, code)).id);
  const orders = await withdrawOrders(pool, codes.length === 0 ? null : ids, {
    actor: commandActor(),
    dryRun,
  });
  const names = orders.map(({ code }) => code).join(', ');
  return {
    schema: 'possync.token-withdraw/1',
    exit: EXIT.ok,
    body: {
      dry_run: dryRun,
      withdrawn: orders.map(({ code, id, kid, orderedBy }) => ({
        code,
        order_id: id,
        kid,
        ordered_by: orderedBy,
      })),
    },
    text: () =>
      orders.length === 0
        ? 'No order to rotate is open. Nothing changed.\n'
        : dryRun
          ? `Would withdraw the order to rotate of ${names}. Nothing changed.\n`
          : `Withdrew ${plural(orders.length, 'order')} to rotate: ${names}. Their credentials stay in force.\n`,
  };
}
