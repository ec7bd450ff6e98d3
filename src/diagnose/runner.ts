/**
 * Runs checks in the order of their dependencies, as many at once as may be, inside one budget.
 *
 *   config.hq_url ─▶ dns.resolve ─▶ tcp.connect ─▶ tls.handshake ─▶ http.health ─▶ token.valid
 *                                        ✗                │ skipped: needs tcp.connect
 *
 * A check that hangs on a failed one is skipped and names the first that failed, not its neighbour: one cause, not
 * ten symptoms. A check that throws is `error`, never `fail`: it says nothing about the store. When the budget ends
 * the run ends, with what is known.
 */
import { setMaxListeners } from 'node:events';
import { codeOf } from '../core/classify.ts';
import type { Check, CheckResult, Finding, Probe } from './check.ts';

const LIMIT_MS_DEFAULT = 5_000;

export interface RunOptions {
  readonly budgetMs: number;
  /** Called once per check, as soon as it has ended, in any order. */
  readonly observer?: (result: CheckResult) => void;
  /** Called when a check starts. */
  readonly started?: (check: Check) => void;
  /** Ctrl-C. */
  readonly signal?: AbortSignal;
}

/** Results in the order of `checks`, which is the contract. */
export async function runChecks(
  checks: readonly Check[],
  probe: Omit<Probe, 'signal'>,
  options: RunOptions,
): Promise<CheckResult[]> {
  const { clock } = probe.machine;
  const over = new AbortController();
  setMaxListeners(0, over.signal); // one for each step of each check is no leak
  const end = (): void => {
    over.abort();
  };
  const cancel = clock.after(options.budgetMs, end);
  options.signal?.addEventListener('abort', end, { once: true });
  const byId = new Map(checks.map((check) => [check.id, check]));
  const running = new Map<string, Promise<CheckResult>>();

  /** The result of a check, started once; a check that is not part of this run holds nobody up. */
  const resultOf = (id: string): Promise<CheckResult>[] => {
    const known = running.get(id);
    if (known !== undefined) return [known];
    const check = byId.get(id);
    if (check === undefined) return [];
    const result = Promise.resolve().then(() => job(check));
    running.set(id, result);
    return [result];
  };
  const job = async (check: Check): Promise<CheckResult> => {
    const [needed] = await Promise.all([
      Promise.all((check.dependsOn ?? []).flatMap(resultOf)),
      Promise.all((check.after ?? []).flatMap(resultOf)),
    ]);
    const broken = needed.find(({ status }) => status !== 'pass' && status !== 'warn');
    const result = await (broken !== undefined
      ? skipped(check, broken.skippedBecause ?? broken.id)
      : over.signal.aborted
        ? skipped(check, 'the time of the run')
        : runOne(check, probe, over.signal, options));
    options.observer?.(result);
    return result;
  };
  try {
    return await Promise.all(checks.flatMap(({ id }) => resultOf(id)));
  } finally {
    cancel();
    options.signal?.removeEventListener('abort', end);
  }
}

async function runOne(
  check: Check,
  probe: Omit<Probe, 'signal'>,
  over: AbortSignal,
  { started }: RunOptions,
): Promise<CheckResult> {
  started?.(check);
  const { clock } = probe.machine;
  const startedAt = performance.now();
  const limit = new AbortController();
  const cancel = clock.after(check.limitMs ?? LIMIT_MS_DEFAULT, () => {
    limit.abort();
  });
  const signal = AbortSignal.any([over, limit.signal]);
  setMaxListeners(0, signal);
  const ended = new Promise<'ended'>((resolve) => {
    signal.addEventListener(
      'abort',
      () => {
        resolve('ended');
      },
      { once: true },
    );
  });
  const settle = async (): Promise<Finding | 'ended'> => check.run({ ...probe, signal });
  try {
    const finding = await Promise.race([settle(), ended]);
    const durationMs = Math.round(performance.now() - startedAt);
    if (finding !== 'ended')
      return { ...identity(check), ...finding, dependsOn: check.dependsOn ?? [], durationMs };
    if (over.aborted) return { ...skipped(check, 'the time of the run'), durationMs };
    return crashed(check, `it did not end within ${check.limitMs ?? LIMIT_MS_DEFAULT} ms`, durationMs);
  } catch (error) {
    const text = error instanceof Error ? error.message || (codeOf(error) ?? error.name) : String(error);
    return crashed(check, text, Math.round(performance.now() - startedAt));
  } finally {
    cancel();
    limit.abort(); // whatever it left open hangs on this signal
  }
}

function identity({ id, layer, title }: Check): Pick<CheckResult, 'id' | 'layer' | 'title'> {
  return { id, layer, title };
}

function skipped(check: Check, because: string): CheckResult {
  return {
    ...identity(check),
    status: 'skip',
    message: `not run: needs ${because}`,
    skippedBecause: because,
    dependsOn: check.dependsOn ?? [],
    durationMs: 0,
  };
}

function crashed(check: Check, why: string, durationMs: number): CheckResult {
  return {
    ...identity(check),
    status: 'error',
    message: `the check itself failed: ${why}`,
    dependsOn: check.dependsOn ?? [],
    durationMs,
  };
}
