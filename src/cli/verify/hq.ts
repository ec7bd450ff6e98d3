/** `possync verify` at HQ: each store compares itself, asked over its live link; two at a time, as HQ lets them. */
import type pg from 'pg';
import { readEntities } from '../../db/own-types.ts';
import { askStore, openFindings, readRun } from '../../hq/verify/runs.ts';
import { listStores, showStore, type Store } from '../../hq/stores/stores.ts';
import type { Entity } from '../../protocol/entities.ts';
import type { StoreReport } from '../../protocol/verify.ts';
import { commandActor } from '../actor.ts';
import type { Context } from '../context.ts';
import { unknownStore } from './document.ts';
import { VerifyProgress } from './progress.ts';

export interface VerifyAtHq {
  readonly code: string | undefined;
  readonly repair: boolean;
  /** How long a store may say nothing at all; its questions count. */
  readonly timeoutMs: number;
}

/** HQ serves two comparisons at once (hq/verify/routes.ts). */
const AT_ONCE = 2;
const POLL_MS = 200;

export async function verifyAtHq(context: Context, pool: pg.Pool, asked: VerifyAtHq): Promise<StoreReport[]> {
  const stores =
    asked.code === undefined
      ? (await listStores(pool)).filter(({ status }) => status === 'active')
      : [await showStore(pool, asked.code)];
  const reports: StoreReport[] = [];
  let next = 0;
  const turns = Array.from({ length: Math.min(AT_ONCE, stores.length) }, async () => {
    for (let store = stores[next++]; store !== undefined; store = stores[next++])
      reports.push(await verifyStore(context, pool, store, asked));
  });
  await Promise.all(turns);
  return reports.sort((a, b) => a.id - b.id);
}

async function verifyStore(
  context: Context,
  pool: pg.Pool,
  store: Store,
  { repair, timeoutMs }: VerifyAtHq,
): Promise<StoreReport> {
  const unreachable = async (message: string): Promise<StoreReport> =>
    unknownStore(store, 'PS-STORE-UNREACHABLE', message, await readEntities(pool), {
      findings: await openFindings(pool, store.id),
    });
  const id = await askStore(pool, store.id, { repair, actor: commandActor() });
  if (id === undefined) return unreachable('the store has no live link to HQ now');
  const progress = new VerifyProgress(context, store.code);
  try {
    for (;;) {
      const run = await readRun(pool, id);
      if (run === undefined) return await unreachable('HQ has forgotten the comparison');
      if (run.report !== null) return named(store, run.report, await readEntities(pool));
      if (run.silentMs > timeoutMs) return await unreachable('the store does not answer');
      await progress.show(run.done, run.total, 'compared');
      await context.clock.sleep(POLL_MS, context.signal);
      context.signal.throwIfAborted();
    }
  } finally {
    await progress.stop();
  }
}

/** A store that could not compare itself says why; its tables are unknown one by one. */
function named(store: Store, report: StoreReport, entities: readonly Entity[]): StoreReport {
  if (report.tables.length > 0 || report.reason === null) return { ...report, code: store.code };
  return {
    ...unknownStore(store, 'PS-STORE-UNREACHABLE', report.reason.message, entities),
    reason: report.reason,
  };
}
