/** One answer for everybody who asks within a moment: many askers must not cost the database many questions. */
import type { Clock } from './clock.ts';

/**
 * The answer of `work` for whoever asks within `ms` of the first. A question that hangs is asked again after that, so
 * that one broken connection does not silence all.
 */
export function oncePer<T>(ms: number, clock: Clock, work: () => Promise<T>): () => Promise<T> {
  let last: { readonly answer: Promise<T>; readonly untilMs: number } | undefined;
  return () => {
    if (last === undefined || clock.now() >= last.untilMs)
      last = { answer: work(), untilMs: clock.now() + ms };
    return last.answer;
  };
}
