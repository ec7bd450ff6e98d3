/** What `store re-enrol` and `store reexport` share: a new epoch, begun by the daemon if it runs, else here. */
import * as z from 'zod';
import { EXIT, PossyncError } from '../core/errors.ts';
import { readInstance } from '../store/instance.ts';
import { planReEnrol, reEnrolStore, type ReEnrolReport } from '../store/outbox/re-enrol.ts';
import type { Answer, Context } from './context.ts';
import { socketPath, tellDaemon } from './daemon-socket.ts';
import { connectToHq } from './hq-connection.ts';
import { plural } from '../core/quantities.ts';

const reportSchema = z.object({
  epoch: z.int(),
  renumbered: z.int(),
  reexported: z.int(),
  known: z.boolean(),
});

/** HQ closes an epoch at once; renumbering a million entries takes a minute. */
const TIMEOUT_MS = 300_000;
/** HQ notices within seconds that a clone's credential was revoked. */
const CLONE_GONE_MS = 15_000;
const CLONE_POLL_MS = 1_000;

/** Entries of a server that was replaced are kept nowhere; some of their rows may be. */
const HQ_FORGOT =
  '  HQ does not know what it had acknowledged: it was restored, and gets everything that is kept here. What this\n' +
  '  database holds beyond that and HQ lacks is found and sent by: possync verify --repair\n';

export interface NewEpochOptions {
  readonly dryRun: boolean;
  readonly reexportFrom?: string;
  /** The credential was replaced just now: a clone that is still connected is about to be cut. */
  readonly patient?: boolean;
}

export async function newEpoch(context: Context, options: NewEpochOptions): Promise<Answer> {
  const { pool } = await context.database();
  const plan = await planReEnrol(pool);
  if (options.dryRun) {
    const { epoch, unacknowledged, kept, oldestKeptAt } = plan;
    const oldest = oldestKeptAt === null ? null : new Date(oldestKeptAt).toISOString();
    const again =
      options.reexportFrom === undefined
        ? ''
        : `  Records since ${options.reexportFrom} would be captured again; HQ takes what it has as the same.\n`;
    return {
      schema: 'possync.re-enrol/1',
      exit: EXIT.ok,
      body: { dry_run: true, epoch, unacknowledged, kept, oldest_kept_at: oldest },
      text: () =>
        `Would end epoch ${epoch} and begin a new one: ${plural(unacknowledged, 'entry', 'entries')} that HQ has not ` +
        `acknowledged will be numbered from 1 and sent; nothing is lost, nothing is doubled.\n${again}` +
        `Nothing was changed.\n`,
    };
  }
  const report = await begin(context, options);
  const { epoch, renumbered, reexported, known } = report;
  return {
    schema: 'possync.re-enrol/1',
    exit: EXIT.ok,
    body: { dry_run: false, epoch, renumbered, reexported, hq_known: known },
    text: ({ glyphs, good }) =>
      `${good(glyphs.pass)} Epoch ${epoch} has begun; ${plural(renumbered, 'entry waits', 'entries wait')} in it` +
      `${reexported === 0 ? '' : `, ${plural(reexported, 'record was', 'records were')} captured again`}.\n` +
      `  Follow it with: possync status --wait drained\n${known ? '' : HQ_FORGOT}`,
  };
}

async function begin(context: Context, options: NewEpochOptions): Promise<ReEnrolReport> {
  const { clock, signal } = context;
  const until = clock.now() + (options.patient === true ? CLONE_GONE_MS : 0);
  for (;;) {
    try {
      return (await throughDaemon(context, options)) ?? (await alone(context, options));
    } catch (error) {
      const waits =
        error instanceof PossyncError && error.code === 'PS-OTHER-INSTANCE' && clock.now() < until;
      if (!waits) throw error;
      await clock.sleep(CLONE_POLL_MS, signal);
      signal.throwIfAborted();
    }
  }
}

/** undefined: no daemon listens. */
async function throughDaemon(
  context: Context,
  { reexportFrom }: NewEpochOptions,
): Promise<ReEnrolReport | undefined> {
  const query = reexportFrom === undefined ? '' : `?from=${encodeURIComponent(reexportFrom)}`;
  const socket = socketPath(context.config.stateDir, context.env);
  const report = await tellDaemon(socket, `/api/v1/re-enrol${query}`, TIMEOUT_MS);
  return report === undefined ? undefined : reportSchema.parse(report);
}

async function alone(context: Context, { reexportFrom }: NewEpochOptions): Promise<ReEnrolReport> {
  const { pool } = await context.database();
  const { client } = await connectToHq(context);
  try {
    return await reEnrolStore(pool, {
      instance: await readInstance(pool),
      ask: (request) => client.reEnrol(request, context.signal),
      ...(reexportFrom === undefined ? {} : { reexportFrom }),
    });
  } finally {
    client.close();
  }
}
