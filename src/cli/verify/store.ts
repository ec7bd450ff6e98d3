/** `possync verify` in a store: made by the daemon where it runs, because it can push and pull first; else here. */
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import * as z from 'zod';
import { isErrorCode, PossyncError } from '../../core/errors.ts';
import { readEntities } from '../../db/own-types.ts';
import { storeReportSchema, type StoreReport } from '../../protocol/verify.ts';
import { readStoreIdentity } from '../../store/outbox/identity.ts';
import { VerifyHq } from '../../store/verify/hq.ts';
import { Verifier } from '../../store/verify/verifier.ts';
import { commandActor } from '../actor.ts';
import type { Context } from '../context.ts';
import { askDaemon, socketPath, tellDaemon } from '../daemon-socket.ts';
import { connectToHq } from '../hq-connection.ts';
import { unknownStore } from './document.ts';
import { VerifyProgress } from './progress.ts';

const viewSchema = z.object({
  id: z.uuid(),
  done: z.int(),
  total: z.int(),
  what: z.string(),
  report: storeReportSchema.nullable(),
  error: z.object({ code: z.string(), message: z.string(), hint: z.string() }).nullable(),
});

const POLL_MS = 200;
const ANSWER_MS = 5_000;
/** The daemon was restarted, or hangs: polls that found nobody. */
const LOST_POLLS = 25;

export async function verifyInStore(context: Context, pool: pg.Pool, repair: boolean): Promise<StoreReport> {
  const store = await readStoreIdentity(pool);
  if (store === undefined) throw new PossyncError('PS-NOT-ENROLLED', 'this store is not enrolled');
  const progress = new VerifyProgress(context, store.code);
  try {
    return (
      (await throughDaemon(context, repair, progress)) ??
      (await alone(context, pool, store, repair, progress))
    );
  } catch (error) {
    // HQ that cannot be asked leaves its tables unknown, which is an answer; anything else is an error.
    if (!(error instanceof PossyncError) || error.exit !== 69 || error.code.startsWith('PS-DB-')) throw error;
    return unknownStore(store, error.code, error.message, await readEntities(pool));
  } finally {
    await progress.stop();
  }
}

/** undefined: no daemon listens. */
async function throughDaemon(
  context: Context,
  repair: boolean,
  progress: VerifyProgress,
): Promise<StoreReport | undefined> {
  const socket = socketPath(context.config.stateDir, context.env);
  const query = `?actor=${encodeURIComponent(commandActor())}${repair ? '&repair=1' : ''}`;
  const begun = await tellDaemon(socket, `/api/v1/verify${query}`, ANSWER_MS);
  if (begun === undefined) return undefined;
  const { id } = viewSchema.parse(begun);
  for (let lost = 0; lost < LOST_POLLS;) {
    const answer = await askDaemon(socket, 'GET', `/api/v1/verify?id=${id}`, ANSWER_MS);
    lost = answer === undefined ? lost + 1 : 0;
    if (answer !== undefined) {
      const { report, error, done, total, what } = viewSchema.parse(answer);
      if (report !== null) return report;
      if (error !== null)
        throw new PossyncError(isErrorCode(error.code) ? error.code : 'PS-INTERNAL', error.message, {
          hint: error.hint,
        });
      await progress.show(done, total, what);
    }
    await context.clock.sleep(POLL_MS, context.signal);
    context.signal.throwIfAborted();
  }
  throw new PossyncError('PS-DAEMON-DOWN', 'the daemon stopped in the middle of the comparison');
}

/** Without a daemon nothing is pushed or pulled first: what is on its way is left out, and there is more of it. */
async function alone(
  context: Context,
  pool: pg.Pool,
  store: NonNullable<Awaited<ReturnType<typeof readStoreIdentity>>>,
  repair: boolean,
  progress: VerifyProgress,
): Promise<StoreReport> {
  const { clock, signal } = context;
  const { client } = await connectToHq(context);
  try {
    const hq = new VerifyHq((step, body, aborted) => client.verify(step, body, aborted), clock, signal);
    return await new Verifier({ pool, store, entities: await readEntities(pool), hq, clock, signal }).run({
      id: randomUUID(),
      repair,
      actor: commandActor(),
      onProgress: ({ done, total, what }) => void progress.show(done, total, what),
    });
  } finally {
    client.close();
  }
}
