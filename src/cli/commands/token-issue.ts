/** `possync token issue CODE`: a one-time enrolment token, alone on stdout or in a file and then nowhere else. */
import type pg from 'pg';
import { writeSecretFile } from '../../core/secret-file.ts';
import { EXIT, PossyncError } from '../../core/errors.ts';
import { issueEnrolmentToken, wouldIssue } from '../../hq/stores/tokens.ts';
import { commandActor } from '../actor.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';

const LONGEST_MS = 90 * 86_400_000;

export async function run(context: Context, args: Args): Promise<Answer> {
  const code = args.at(0);
  const hqUrl = args.text('hqUrl');
  if (hqUrl === undefined) throw new PossyncError('PS-USAGE', '--hq-url is missing');
  const expiresInMs = args.durationMs('expiresIn');
  if (expiresInMs !== undefined && (expiresInMs < 1_000 || expiresInMs > LONGEST_MS))
    throw new PossyncError('PS-USAGE', '--expires-in must be from 1s to 90d');
  const out = args.text('out');
  const { pool } = await context.database();
  if (args.flag('dryRun')) return await dryRun(pool, code, hqUrl);
  const issued = await issueEnrolmentToken(pool, { code, hqUrl, expiresInMs, actor: commandActor() });
  if (out !== undefined) await writeSecretFile(out, `${issued.token.reveal()}\n`);
  const { kid, store, expiresAt, replaced } = issued;
  return {
    schema: 'possync.token/1',
    exit: EXIT.ok,
    body: {
      ...(out === undefined ? { token: issued.token.reveal() } : { file: out }),
      kid,
      code: store.code,
      store_id: store.id,
      hq_url: issued.hqUrl,
      expires_at: expiresAt,
      replaced,
    },
    text: () => {
      const told = `Token ${kid} for store ${store.code}; one use, until ${expiresAt}.`;
      context.note(replaced === null ? told : `${told} The unused token ${replaced} is void.`);
      if (out !== undefined) {
        context.note(
          `It is in ${out} (mode 0600) and nowhere else. In the store: possync store init --token-file FILE`,
        );
        return '';
      }
      return `${issued.token.reveal()}\n`;
    },
  };
}

async function dryRun(pool: pg.Pool, code: string, hqUrl: string): Promise<Answer> {
  const { store, hqUrl: address, replaces } = await wouldIssue(pool, code, hqUrl);
  return {
    schema: 'possync.token/1',
    exit: EXIT.ok,
    body: { dry_run: true, code: store.code, store_id: store.id, hq_url: address, replaced: replaces },
    text: () =>
      `Would issue a token for store ${store.code} at ${address}${replaces === null ? '' : `; the unused token ${replaces} would be void`}. Nothing changed.\n`,
  };
}
