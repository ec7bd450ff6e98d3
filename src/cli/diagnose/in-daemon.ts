/** Diagnoses in the process whose connection is in question: for `possync diagnose`, and for the daemon itself. */
import { userInfo } from 'node:os';
import * as z from 'zod';
import { PossyncError } from '../../core/errors.ts';
import { SOFTWARE } from '../../core/version.ts';
import { diagnose } from '../../diagnose/diagnose.ts';
import type { Precheck } from '../../store/link/precheck.ts';
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

/** The way to HQ, without what the daemon knows of itself; a full disk or an old queue keeps no store from HQ. */
const WAY = [
  ...['cfg.hq_url', 'host.link', 'host.gateway', 'host.proxyenv'],
  ...['dns', 'tcp', 'proxy', 'tls', 'http', 'token', 'ws'],
];

/** Three seconds at most, as with --quick. What only warns is no reason for a red light, unless it explains one. */
export function precheckOf(context: Context): Precheck {
  return async (signal) => {
    const { summary, verdict } = await diagnose({
      subject: await makeSubject(context, undefined),
      only: WAY,
      quick: true,
      signal,
    });
    const { code, cause, action } = verdict;
    return summary.fail === 0 || code === null ? undefined : { code, cause, action };
  };
}
