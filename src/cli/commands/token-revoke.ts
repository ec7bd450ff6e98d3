/** `possync token revoke`: a store's credentials end now, on every server; or again, from the logs of HQ after a restore. */
import type pg from 'pg';
import { EXIT, PossyncError } from '../../core/errors.ts';
import { revokeTokens, untilCut } from '../../hq/stores/revoke.ts';
import { commandActor } from '../actor.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { plural } from '../../core/quantities.ts';
import { noteRevocation, readEnds } from '../token/revocations-file.ts';

const TIMEOUT_MS = 20_000;
const REASON_MAX = 500;

interface Cut {
  readonly code: string;
  readonly kids: readonly string[];
}

export async function run(context: Context, args: Args): Promise<Answer> {
  const code = args.maybeAt(0);
  const replay = args.text('replay');
  const reason = args.text('reason');
  if ((code === undefined) === (replay === undefined))
    throw new PossyncError('PS-USAGE', 'give either a store code or --replay FILE');
  if (reason !== undefined && reason.length > REASON_MAX)
    throw new PossyncError('PS-USAGE', '--reason is too long');
  const { pool } = await context.database();
  return code === undefined
    ? await replayed(context, pool, replay ?? '', args)
    : await revoked(context, pool, code, args);
}

async function revoked(context: Context, pool: pg.Pool, code: string, args: Args): Promise<Answer> {
  const kid = args.text('kid');
  const reason = args.text('reason');
  const actor = commandActor();
  const { store, kids: found } = await revokeTokens(pool, { code, kid, actor, dryRun: true });
  if (found.length === 0 && kid !== undefined && !(await knows(pool, store.id, kid)))
    throw new PossyncError('PS-TOKEN-UNKNOWN', `store ${store.code} has no token ${kid}`, {
      hint: `look at its tokens: possync token ls ${store.code}`,
    });
  if (args.flag('dryRun'))
    return answer([{ code, kids: found }], true, () =>
      found.length === 0
        ? `Store ${code} has no token in force. Nothing changed.\n`
        : `Would revoke ${found.join(', ')} of store ${code}. Nothing changed.\n`,
    );
  // Before the database: what was meant to end must be known even if that is restored, or if this process dies now.
  if (found.length > 0)
    await noteRevocation(context, { store: code, kids: found, actor, reason: reason ?? null });
  const { kids } = await revokeTokens(pool, { code, kid, reason, actor });
  const unnoted = kids.filter((each) => !found.includes(each));
  if (unnoted.length > 0)
    await noteRevocation(context, { store: code, kids: unnoted, actor, reason: reason ?? null });
  await requireCut(context, pool, store.id, { code, kids }, args);
  return answer([{ code, kids }], false, () =>
    kids.length === 0
      ? `Store ${code} has no token in force. Nothing changed.\n`
      : `Revoked ${kids.join(', ')} of store ${code}; no HQ process serves ${kids.length === 1 ? 'it' : 'them'} any more.\n` +
        `  The store keeps selling and keeps its queue. To let it in again: possync token issue ${code} --hq-url URL\n`,
  );
}

async function requireCut(
  { clock, signal }: Context,
  pool: pg.Pool,
  storeId: number,
  { code, kids }: Cut,
  args: Args,
): Promise<void> {
  const timeoutMs = args.durationMs('timeout') ?? TIMEOUT_MS;
  if (await untilCut(pool, storeId, { clock, timeoutMs, signal })) return;
  throw new PossyncError('PS-TOKEN-LIVE', `revoked, but an HQ process still holds a connection of ${code}`, {
    details: { kids },
  });
}

/** What a restored database has forgotten: revocations, and credentials that a rotation or an enrolment had replaced. */
async function replayed(context: Context, pool: pg.Pool, path: string, args: Args): Promise<Answer> {
  const dryRun = args.flag('dryRun');
  const actor = commandActor();
  const ends = await readEnds(path);
  const due = ends.filter(({ until }) => until === null || Date.parse(until) <= context.clock.now());
  const cuts: Cut[] = [];
  const storeIds = new Map<string, number>();
  const unknown = new Set<string>();
  for (const { code, kids } of due) {
    for (const kid of kids) {
      try {
        const ended = await revokeTokens(pool, {
          code,
          kid,
          reason: 'ended before the restore',
          actor,
          dryRun,
        });
        if (ended.kids.length === 0) continue;
        cuts.push({ code, kids: ended.kids });
        storeIds.set(code, ended.store.id);
      } catch (error) {
        if (!(error instanceof PossyncError && error.code === 'PS-STORE-UNKNOWN')) throw error;
        unknown.add(code);
      }
    }
  }
  if (!dryRun)
    await Promise.all(
      [...storeIds].map(([code, id]) => requireCut(context, pool, id, { code, kids: [] }, args)),
    );
  const count = cuts.reduce((sum, { kids }) => sum + kids.length, 0);
  return answer(cuts, dryRun, () =>
    [
      `${plural(ends.length, 'ended credential')} in ${path}: ${plural(count, 'token')} ${dryRun ? 'would be revoked' : 'revoked'} again, the rest had ended already.`,
      ...(due.length === ends.length
        ? []
        : [`  ${ends.length - due.length} are in their grace yet: run this again when it is over.`]),
      ...(unknown.size === 0 ? [] : [`  Stores that this HQ does not know: ${[...unknown].join(', ')}`]),
      '',
    ].join('\n'),
  );
}

async function knows(pool: pg.Pool, storeId: number, kid: string): Promise<boolean> {
  const { rowCount } = await pool.query(
    'select from possync.tokens t where t.store_id = $1::integer and t.kid = $2::text',
    [storeId, kid],
  );
  return rowCount === 1;
}

function answer(cuts: readonly Cut[], dryRun: boolean, text: () => string): Answer {
  return {
    schema: 'possync.token-revoke/1',
    exit: EXIT.ok,
    body: { dry_run: dryRun, revoked: cuts.map(({ code, kids }) => ({ code, kids })) },
    text,
  };
}
