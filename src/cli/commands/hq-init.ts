/** `possync hq init`: creates or upgrades HQ's schema, triggers, guards and roles; may be repeated. */
import { EXIT } from '../../core/errors.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { readNamedText } from '../named-text.ts';
import { startProgress } from '../render/spinner.ts';

export async function run(context: Context, args: Args): Promise<Answer> {
  const { installTriggers } = await import('../../db/capture.ts');
  const { migrate } = await import('../../db/migrations.ts');
  const { saveOwnTypes } = await import('../../db/own-types.ts');
  const types = await readNamedText(context, args.text('types'), 'file of data types');
  const progress = await startProgress(context.term, context.stderr, context.clock, 'setting up HQ');
  let ran: string[];
  try {
    ran = await migrate('hq', context.config.databaseUrl, async (db) => {
      if (types !== undefined) await saveOwnTypes(db, types);
      await installTriggers(db, 'hq');
    });
  } finally {
    progress.stop();
  }
  return {
    schema: 'possync.init/1',
    exit: EXIT.ok,
    body: { role: 'hq', migrations: ran },
    text: ({ glyphs, good }) =>
      ran.length === 0
        ? `${good(glyphs.pass)} HQ is up to date; triggers and guards are in place.\n`
        : `${good(glyphs.pass)} HQ is set up: ${ran.join(', ')}.\n` +
          `  Next: possync stores add CODE --name NAME --time-zone ZONE, then possync hq serve\n`,
  };
}
