/** The filters of `queue ls`, from its flags. */
import { PossyncError } from '../../core/errors.ts';
import type { QueueFilters } from '../../store/outbox/queue.ts';
import type { Args } from '../args.ts';

const LIMIT_DEFAULT = 20;

export function queueFilters(args: Args): QueueFilters {
  const type = args.text('type');
  const state = args.flag('dead') ? 'parked' : args.choice('state', ['waiting', 'sending', 'parked']);
  const priority = args.choice('priority', ['high', 'normal']);
  const olderThanMs = args.durationMs('olderThan');
  const sort = args.choice('sort', ['send', 'age', 'tries', 'bytes']);
  const limit = args.flag('all') ? undefined : (args.integer('limit') ?? LIMIT_DEFAULT);
  if (limit === 0) throw new PossyncError('PS-USAGE', '--limit must be at least 1', { hint: 'use --counts' });
  return {
    ...(type === undefined ? {} : { type }),
    ...(state === undefined ? {} : { state }),
    ...(priority === undefined ? {} : { priority }),
    ...(olderThanMs === undefined ? {} : { olderThanMs }),
    ...(sort === undefined ? {} : { sort }),
    ...(limit === undefined ? {} : { limit }),
  };
}
