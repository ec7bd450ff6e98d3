/** The daemon's end of `possync diagnose`: the same checks, run in the process whose connection is in question. */
import { userInfo } from 'node:os';
import * as z from 'zod';
import { PossyncError } from '../../core/errors.ts';
import { SOFTWARE } from '../../core/version.ts';
import { diagnose } from '../../diagnose/diagnose.ts';
import type { DiagnoseService } from '../../store/options.ts';
import type { Context } from '../context.ts';
import { makeSubject } from './subject.ts';

const words = z.array(z.string().max(100)).max(100);
export const requestSchema = z.object({
  only: words,
  skip: words,
  quick: z.boolean(),
  deep: z.boolean(),
  budget_ms: z.int().positive().max(600_000).nullable(),
});
export type DiagnoseRequest = z.infer<typeof requestSchema>;

/** What the daemon says before the first check: an older one than the command is not asked further. */
export interface Greeting {
  readonly hello: { readonly software: string; readonly user: string; readonly pid: number };
}

/** Each run holds sockets and database connections; a loop of impatient scripts must not take those of the daemon. */
const AT_ONCE = 2;

export function diagnoseService(context: Context): DiagnoseService {
  let running = 0;
  return async (raw, emit, signal) => {
    const parsed = requestSchema.safeParse(raw);
    if (!parsed.success) throw new PossyncError('PS-USAGE', 'the request of diagnose cannot be read');
    if (running >= AT_ONCE) {
      emit({ busy: true }); // the command runs its checks itself
      return;
    }
    const { only, skip, quick, deep, budget_ms: budgetMs } = parsed.data;
    const greeting: Greeting = {
      hello: { software: SOFTWARE, user: userInfo().username, pid: process.pid },
    };
    emit(greeting);
    running += 1;
    try {
      const report = await diagnose({
        subject: await makeSubject(context, undefined),
        only,
        skip,
        quick,
        deep,
        signal,
        ...(budgetMs === null ? {} : { budgetMs }),
        started: ({ id }) => {
          emit({ started: id });
        },
        observer: (result) => {
          emit({ result });
        },
      });
      emit({ report });
    } finally {
      running -= 1;
    }
  };
}
