/** Capped exponential backoff with full jitter: stores that lost HQ together must not return together. */

export interface BackoffOptions {
  readonly baseMs: number;
  readonly capMs: number;
  /** In [0, 1); injected so that tests can assert the list of delays. */
  readonly random?: () => number;
}

/**
 * Delay before attempt number `attempt` (1 = the first retry): random in [0, min(cap, base · 2^(attempt-1))],
 * but never under `floorMs` (a server's Retry-After).
 */
export function backoffDelay(
  attempt: number,
  { baseMs, capMs, random = Math.random }: BackoffOptions,
  floorMs = 0,
): number {
  // 2^30 is far beyond any cap; without the limit the power overflows to Infinity after weeks offline.
  const ceiling = Math.min(capMs, baseMs * 2 ** Math.min(attempt - 1, 30));
  return Math.max(floorMs, Math.floor(random() * ceiling));
}
