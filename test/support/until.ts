/** Waits for a condition in another process, where no event can be had. */
import { setTimeout as sleep } from 'node:timers/promises';

export interface UntilOptions {
  /** Completes the sentence "… did not happen": `the sale reached HQ`. */
  readonly what: string;
  readonly timeoutMs?: number;
  readonly everyMs?: number;
}

/**
 * Asks again and again until the answer is neither false, null nor undefined, and returns it. What `ask` throws counts
 * as "not yet" and is part of the message if time runs out.
 */
export async function until<T>(
  ask: () => Promise<T> | T,
  { what, timeoutMs = 15_000, everyMs = 20 }: UntilOptions,
): Promise<Exclude<T, false | null | undefined>> {
  const giveUpAt = performance.now() + timeoutMs;
  let last: unknown;
  for (;;) {
    try {
      const answer = await ask();
      if (answer !== false && answer !== null && answer !== undefined) {
        return answer as Exclude<T, false | null | undefined>;
      }
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (performance.now() > giveUpAt) {
      const because = last instanceof Error ? `: ${last.message}` : '';
      throw new Error(`within ${timeoutMs} ms this did not happen: ${what}${because}`, { cause: last });
    }
    await sleep(everyMs);
  }
}
