/** `possync token status`: is the credential of this store good, and for how long? At HQ, with CODE or --all: those of stores. */
import { EXIT } from '../../core/errors.ts';
import { tidyPrevious } from '../../store/credential.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { connectToHq } from '../hq-connection.ts';
import { formatDuration } from '../../core/quantities.ts';

const WARN_MS = 14 * 86_400_000;
const TIMEOUT_MS = 10_000;

export async function run(context: Context, args: Args): Promise<Answer> {
  const { config, clock } = context;
  const warnMs = args.durationMs('warn') ?? WARN_MS;
  const codes = args.listAt(0);
  if (codes.length > 0 || args.flag('all')) {
    const { statusOfStores } = await import('../token/status-hq.ts');
    return await statusOfStores(context, codes, warnMs);
  }
  const { credential, client } = await connectToHq(context);
  const timeout = AbortSignal.timeout(args.durationMs('timeout') ?? TIMEOUT_MS);
  const me = await client.whoami(AbortSignal.any([context.signal, timeout])).finally(() => {
    client.close();
  });
  await tidyPrevious(config.stateDir, credential, clock.now()).catch(() => undefined); // it only tidies up
  const expiresAt = me.expires_at ?? null;
  const leftMs = expiresAt === null ? null : Date.parse(expiresAt) - clock.now();
  const soon = leftMs !== null && leftMs <= warnMs;
  const unfinished = credential.rotation !== undefined;
  return {
    schema: 'possync.token-status/1',
    exit: soon ? EXIT.no : EXIT.ok,
    body: {
      kid: credential.kid,
      store_id: me.store.id,
      code: me.store.code,
      state: me.state ?? null,
      created_at: me.created_at ?? null,
      expires_at: expiresAt,
      expires_in_ms: leftMs,
      expires_soon: soon,
      rotation_unfinished: unfinished,
      previous: credential.previous ?? null,
    },
    text: ({ glyphs, good, caution }) => {
      const mark = soon ? caution(glyphs.warn) : good(glyphs.pass);
      const life =
        leftMs === null ? 'does not expire' : `${formatDuration(leftMs)} left (${expiresAt ?? ''})`;
      const hints = [
        ...(soon ? ['  Next: possync token rotate'] : []),
        ...(unfinished ? ['  A rotation is not finished: possync token rotate'] : []),
      ];
      return [
        `${mark} kid ${credential.kid} of store ${me.store.code}: ${me.state ?? 'accepted'} at HQ, ${life}`,
        ...hints,
        '',
      ].join('\n');
    },
  };
}
