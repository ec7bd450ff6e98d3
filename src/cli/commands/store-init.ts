/** `possync store init`: schema, triggers and guards of a store; with a token, its enrolment. */
import { EXIT, PossyncError } from '../../core/errors.ts';
import { isUnencrypted } from '../../core/loopback.ts';
import { parseEnrolmentToken } from '../../core/secret.ts';
import { initStore, type InitResult } from '../../store/init.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { proxySettings } from '../hq-connection.ts';
import type { Paint } from '../render/term.ts';
import { startProgress } from '../render/spinner.ts';
import { readNamedText } from '../named-text.ts';

export async function run(context: Context, args: Args): Promise<Answer> {
  const { config } = context;
  const tokenText = await readNamedText(context, config.tokenFile, 'token file');
  if (config.tokenFile === '-' && args.text('types') === '-')
    throw new PossyncError('PS-USAGE', 'standard input can be the token or the data types, not both');
  const typesText = await readNamedText(context, args.text('types'), 'file of data types');
  if (args.flag('replace') && tokenText === undefined)
    throw new PossyncError('PS-USAGE', '--replace needs a token', { hint: 'add --token-file FILE' });
  const progress = await startProgress(context.term, context.stderr, context.clock, 'setting up the store');
  let result: InitResult;
  try {
    result = await initStore({
      databaseUrl: config.databaseUrl,
      stateDir: config.stateDir,
      tokenText,
      typesText,
      replace: args.flag('replace'),
      hqUrl: config.hqUrl,
      proxies: proxySettings(context),
      caFile: config.tlsCaFile,
      allowPlaintext: config.allowPlaintext,
      signal: context.signal,
      progress: (step) => {
        progress.update(step);
      },
    });
  } catch (error) {
    throw withWayToLook(error, config.hqUrl ?? hqUrlOf(tokenText), config.tlsCaFile);
  } finally {
    progress.stop();
  }
  return {
    schema: 'possync.init/1',
    exit: EXIT.ok,
    body: {
      role: 'store',
      migrations: result.migrations,
      enrolment: result.enrolment,
      store: result.store ?? null,
      kid: result.kid ?? null,
      hq_url: result.hqUrl ?? null,
      continued: result.continued,
    },
    text: (paint) => describe(paint, result),
  };
}

/** Before it is enrolled `possync diagnose` alone does not know where HQ is: the hint says it. */
function withWayToLook(error: unknown, hqUrl: string | undefined, caFile: string | undefined): unknown {
  if (!(error instanceof PossyncError) || hqUrl === undefined || !error.hint.includes('possync diagnose'))
    return error;
  const { code, message, why, hint, details, cause } = error;
  const command = `possync diagnose --hq ${hqUrl}${caFile === undefined ? '' : ` --tls-ca-file ${caFile}`}`;
  return new PossyncError(code, message, {
    ...(why === undefined ? {} : { why }),
    hint: hint.replaceAll('possync diagnose', command),
    details,
    cause,
  });
}

function hqUrlOf(tokenText: string | undefined): string | undefined {
  return tokenText === undefined ? undefined : parseEnrolmentToken(tokenText).hqUrl;
}

function describe(
  { glyphs, good }: Paint,
  { migrations, enrolment, store, hqUrl, kid, continued }: InitResult,
): string {
  const schema =
    migrations.length === 0
      ? `${good(glyphs.pass)} Database up to date; triggers and guards are in place.\n`
      : `${good(glyphs.pass)} Database set up: ${migrations.join(', ')}.\n`;
  if (store === undefined)
    return `${schema}  Not enrolled yet. With a token from HQ: possync store init --token-file FILE\n`;
  const who = `store ${store.code} "${store.name}" (id ${store.id}), credential ${kid ?? '?'}`;
  if (enrolment === 'unchanged')
    return `${schema}${good(glyphs.pass)} Enrolled already: ${who}. Nothing changed.\n`;
  const at = hqUrl === undefined ? '?' : `${hqUrl}${isUnencrypted(hqUrl) ? ' (unencrypted)' : ''}`;
  const rows = continued === 0 ? '' : ` ${continued} rows to continue from were taken over.`;
  return `${schema}${good(glyphs.pass)} Enrolled at ${at} as ${who}.${rows}\n  Next: possync store daemon (one that runs takes it up by itself)\n`;
}
