/** `possync store reexport --from DATE`: for an HQ that was restored to before what this store's outbox still keeps. */
import { PossyncError } from '../../core/errors.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { newEpoch } from '../new-epoch.ts';

export async function run(context: Context, args: Args): Promise<Answer> {
  const from = args.required('from');
  if (!/^\d{4}-\d{2}-\d{2}$/.test(from) || Number.isNaN(Date.parse(from)))
    throw new PossyncError('PS-USAGE', `--from must be a date such as 2026-10-01, not '${from}'`);
  return await newEpoch(context, { dryRun: args.flag('dryRun'), reexportFrom: from });
}
