/** `possync store re-enrol`: a new epoch, for a database that was restored or cloned; with a token a new credential too. */
import { initStore } from '../../store/init.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { newEpoch } from '../new-epoch.ts';
import { readNamedText } from '../named-text.ts';

export async function run(context: Context, args: Args): Promise<Answer> {
  const { databaseUrl, stateDir, tokenFile, tlsCaFile, allowPlaintext, hqUrl } = context.config;
  const dryRun = args.flag('dryRun');
  await context.database(); // the wrong side is told before a token is spent
  const tokenText = dryRun ? undefined : await readNamedText(context, tokenFile, 'token file');
  if (tokenText !== undefined)
    // The old credential ends with this: a clone that holds it is shut out for good.
    await initStore({
      databaseUrl,
      stateDir,
      tokenText,
      hqUrl,
      caFile: tlsCaFile,
      allowPlaintext,
      signal: context.signal,
    });
  return await newEpoch(context, { dryRun, patient: tokenText !== undefined });
}
