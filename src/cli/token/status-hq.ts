/** `possync token status` at HQ: the credential in force of each store, and how long it is good. */
import { EXIT, PossyncError } from '../../core/errors.ts';
import { readOrderStates, type OrderState } from '../../hq/stores/orders.ts';
import { showStore } from '../../hq/stores/stores.ts';
import type { Answer, Context } from '../context.ts';
import { formatDuration, plural } from '../../core/quantities.ts';
import { renderTable } from '../render/table.ts';

export async function statusOfStores(
  context: Context,
  codes: readonly string[],
  warnMs: number,
): Promise<Answer> {
  const { pool, role } = await context.database();
  if (role !== 'hq')
    throw new PossyncError('PS-WRONG-SIDE', 'store codes and --all are for HQ', {
      why: 'this database belongs to a store',
      hint: 'run `possync token status` without them here, or run this at HQ',
    });
  const ids: number[] = [];
  for (const code of codes) ids.push((await showStore(pool, code)).id);
  const states = await readOrderStates(pool, codes.length === 0 ? null : ids);
  const nowMs = context.clock.now();
  const rows = states.map((state) => ({ state, leftMs: leftOf(state, nowMs) }));
  const bad = rows.filter(({ state, leftMs }) => state.kid === null || (leftMs !== null && leftMs <= warnMs));
  return {
    schema: 'possync.token-status-stores/1',
    exit: bad.length === 0 ? EXIT.ok : EXIT.no,
    body: {
      summary: { stores: rows.length, attention: bad.length },
      stores: rows.map(({ state, leftMs }) => ({
        store_id: state.storeId,
        code: state.code,
        kid: state.kid,
        expires_at: state.kidExpiresAt,
        expires_in_ms: leftMs,
        expires_soon: leftMs !== null && leftMs <= warnMs,
        rotation_ordered: state.order !== null && !state.order.done,
      })),
    },
    text: (paint) =>
      renderTable(
        paint,
        ['STORE', 'KID', 'LEFT', 'NOTE'],
        rows.map(({ state, leftMs }) => [
          state.code,
          state.kid ?? paint.glyphs.dash,
          state.kid === null
            ? paint.glyphs.dash
            : leftMs === null
              ? 'no end'
              : formatDuration(Math.max(0, leftMs)),
          noteOf(state, leftMs, warnMs),
        ]),
      ) + `${plural(rows.length, 'store')}, ${bad.length} to look at.\n`,
  };
}

function leftOf({ kidExpiresAt }: OrderState, nowMs: number): number | null {
  return kidExpiresAt === null ? null : Date.parse(kidExpiresAt) - nowMs;
}

function noteOf({ kid, order }: OrderState, leftMs: number | null, warnMs: number): string {
  if (kid === null) return 'no credential in force: possync token issue CODE --hq-url URL';
  if (order !== null && !order.done) return 'ordered to rotate';
  return leftMs !== null && leftMs <= warnMs ? 'ends soon: possync token rotate CODE' : '';
}
