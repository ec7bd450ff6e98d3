/** `possync token ls`: at HQ every token and credential, in a store its own; never a secret. */
import { EXIT } from '../../core/errors.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { renderTable } from '../render/table.ts';
import { tokenBody, tokenTable } from '../token-view.ts';

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

/** What HQ knows of it (states, uses) only HQ can say. */
async function listOwn(context: Context): Promise<Answer> {
  const { readCredential } = await import('../../store/credential.ts');
  const credential = await readCredential(context.config.stateDir);
  const tokens =
    credential === undefined
      ? []
      : [
          {
            kid: credential.kid,
            code: credential.code,
            kind: 'credential',
            state: null,
            created_at: null,
            last_used_at: null,
            expires_at: null,
            hq_url: credential.hqUrl,
          },
        ];
  return {
    schema: 'possync.tokens/1',
    exit: EXIT.ok,
    body: { tokens },
    text: (paint) =>
      tokens.length === 0
        ? 'Not enrolled: no credential here.\n'
        : renderTable(
            paint,
            ['KID', 'STORE', 'KIND', 'HQ'],
            tokens.map((token) => [token.kid, token.code, token.kind, token.hq_url]),
          ),
  };
}
