/** `possync token ls`: at HQ every token and credential, in a store its own; never a secret. */
import { EXIT } from '../../core/errors.ts';
import type { StoreCredential } from '../../store/credential.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { renderTable } from '../render/table.ts';
import { minuteOf, tokenBody, tokenTable } from '../token-view.ts';

export async function run(context: Context, args: Args): Promise<Answer> {
  const { pool, role } = await context.database();
  if (role === 'store') return await listOwn(context);
  const { showStore } = await import('../../hq/stores/stores.ts');
  const { listTokens } = await import('../../hq/stores/tokens.ts');
  const code = args.maybeAt(0);
  const tokens = await listTokens(pool, code === undefined ? undefined : (await showStore(pool, code)).id);
  return {
    schema: 'possync.tokens/1',
    exit: EXIT.ok,
    body: { tokens: tokens.map(tokenBody) },
    text: (paint) => tokenTable(paint, tokens),
  };
}

/** Without a question to HQ: what is on this disk. When each was last used, only HQ can say (`token ls CODE` there). */
async function listOwn(context: Context): Promise<Answer> {
  const { readCredential, readNext } = await import('../../store/credential.ts');
  const credential = await readCredential(context.config.stateDir);
  const tokens =
    credential === undefined
      ? []
      : ownTokens(credential, await readNext(context.config.stateDir, credential));
  return {
    schema: 'possync.tokens/1',
    exit: EXIT.ok,
    body: { tokens },
    text: (paint) =>
      tokens.length === 0
        ? 'Not enrolled: no credential here.\n'
        : renderTable(
            paint,
            ['KID', 'STORE', 'KIND', 'STATE', 'CREATED', 'EXPIRES', 'HQ'],
            tokens.map((token) => [
              token.kid,
              token.code,
              token.kind,
              token.state,
              minuteOf(token.created_at),
              minuteOf(token.expires_at),
              token.hq_url,
            ]),
          ),
  };
}

interface OwnToken {
  readonly kid: string;
  readonly code: string;
  readonly kind: 'credential';
  readonly state: 'pending' | 'active' | 'retiring';
  readonly created_at: string | null;
  readonly last_used_at: null;
  readonly expires_at: string | null;
  readonly hq_url: string;
}

/** The one in force, the one that a rotation has made and not yet put in its place, and the one before in its grace. */
function ownTokens(credential: StoreCredential, next: StoreCredential | undefined): OwnToken[] {
  const { code, hqUrl: hq_url, previous } = credential;
  const own = (kid: string, state: OwnToken['state'], made?: string, ends?: string | null): OwnToken => ({
    kid,
    code,
    kind: 'credential',
    state,
    created_at: made ?? null,
    last_used_at: null,
    expires_at: ends ?? null,
    hq_url,
  });
  return [
    ...(next === undefined ? [] : [own(next.kid, 'pending', next.issuedAt)]),
    own(credential.kid, 'active', credential.issuedAt, credential.expiresAt),
    ...(previous === undefined ? [] : [own(previous.kid, 'retiring', undefined, previous.until)]),
  ];
}
