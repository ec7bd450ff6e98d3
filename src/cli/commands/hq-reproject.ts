/** `possync hq reproject TYPE`: every record of a type is compared again; only real differences travel. */
import { EXIT } from '../../core/errors.ts';
import { readEntities } from '../../db/own-types.ts';
import { reproject } from '../../hq/feed/reproject.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { plural } from '../../core/quantities.ts';

export async function run(context: Context, args: Args): Promise<Answer> {
  const type = args.at(0);
  const { pool } = await context.database();
  const moved = await reproject(pool, type, await readEntities(pool));
  return {
    schema: 'possync.reproject/1',
    exit: EXIT.ok,
    body: { type, moved },
    text: ({ glyphs, good }) =>
      moved === 0
        ? `${good(glyphs.pass)} Every ${type} was as the stores have it; nothing moved.\n`
        : `${good(glyphs.pass)} ${plural(moved, `${type} record`)} differed and ${moved === 1 ? 'goes' : 'go'} to the stores.\n`,
  };
}
