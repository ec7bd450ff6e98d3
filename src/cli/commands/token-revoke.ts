/** `possync token revoke`: a store's credentials end now, on every server; or again, from a log of HQ after a restore. */
import { readFile } from 'node:fs/promises';
import type pg from 'pg';
import { EXIT, PossyncError } from '../../core/errors.ts';
import { revocationsIn, revokeTokens, untilCut } from '../../hq/stores/revoke.ts';
import { commandActor } from '../actor.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { plural } from '../render/format.ts';

const TIMEOUT_MS = 20_000;

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
  if (reason !== undefined && reason.length > 500) throw new PossyncError('PS-USAGE', '--reason is too long');
  const { pool } = await context.database();
  if (replay !== undefined) return await replayed(pool, replay);
  const kid = args.text('kid');
  const { store, kids } = await revokeTokens(pool, { code: code ?? '', kid, reason, actor: commandActor() });
  if (kids.length === 0 && kid !== undefined && !(await knows(pool, store.id, kid)))
    throw new PossyncError('PS-TOKEN-UNKNOWN', `store ${store.code} has no token ${kid}`, {
      hint: `look at its tokens: possync token ls ${store.code}`,
    });
  const cut = await untilCut(pool, store.id, {
    clock: context.clock,
    timeoutMs: args.durationMs('timeout') ?? TIMEOUT_MS,
    signal: context.signal,
  });
  if (!cut)
    throw new PossyncError(
      'PS-TOKEN-LIVE',
      `revoked, but an HQ process still holds a connection of ${store.code}`,
      {
        details: { kids },
      },
    );
  return answer([{ code: store.code, kids }], (found) =>
    found === 0
      ? `Store ${store.code} has no token in force. Nothing changed.\n`
      : `Revoked ${kids.join(', ')} of store ${store.code}; no HQ process serves ${kids.length === 1 ? 'it' : 'them'} any more.\n` +
        `  The store keeps selling and keeps its queue. To let it in again: possync token issue ${store.code} --hq-url URL\n`,
  );
}

/** Revocations that a restored database has forgotten. */
async function replayed(pool: pg.Pool, path: string): Promise<Answer> {
  let log: string;
  try {
    log = await readFile(path, 'utf8');
  } catch (error) {
    throw new PossyncError('PS-FILE-READ', `cannot read ${path}`, {
      why: error instanceof Error ? error.message : String(error),
      cause: error,
    });
  }
  const cuts: Cut[] = [];
  const unknown: string[] = [];
  const found = revocationsIn(log);
  for (const { code, kids } of found) {
    for (const kid of kids) {
      try {
        const revoked = await revokeTokens(pool, {
          code,
          kid,
          reason: 'revoked before the restore',
          actor: commandActor(),
        });
        if (revoked.kids.length > 0) cuts.push({ code, kids: revoked.kids });
      } catch (error) {
        if (!(error instanceof PossyncError && error.code === 'PS-STORE-UNKNOWN')) throw error;
        unknown.push(code);
      }
    }
  }
  return answer(
    cuts,
    (count) =>
      `${plural(found.length, 'revocation')} in ${path}: ${plural(count, 'token')} revoked again, the rest had ended already.\n` +
      (unknown.length === 0
        ? ''
        : `  Stores that this HQ does not know: ${[...new Set(unknown)].join(', ')}\n`),
  );
}

async function knows(pool: pg.Pool, storeId: number, kid: string): Promise<boolean> {
  const { rowCount } = await pool.query(
    'select from possync.tokens t where t.store_id = $1::integer and t.kid = $2::text',
    [storeId, kid],
  );
  return rowCount === 1;
}

function answer(cuts: readonly Cut[], text: (count: number) => string): Answer {
  const kids = cuts.flatMap((cut) => cut.kids);
  return {
    schema: 'possync.token-revoke/1',
    exit: EXIT.ok,
    body: { revoked: cuts.map(({ code, kids: ended }) => ({ code, kids: ended })) },
    text: () => text(kids.length),
  };
}
