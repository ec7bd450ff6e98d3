/** What this machine's network looks like now: when it changes, waiting out a backoff makes no sense. */
import { readFile } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import type { Clock } from '../../core/clock.ts';

/** A text that changes when an address, an interface or a route comes or goes. */
async function networkFingerprint(): Promise<string> {
  const addresses = Object.entries(networkInterfaces())
    .flatMap(([name, entries]) => (entries ?? []).map(({ address }) => `${name} ${address}`))
    .sort();
  return [...addresses, await routes()].join('\n');
}

/** Interface, destination and gateway of each route: the other columns count packets. */
async function routes(): Promise<string> {
  try {
    const text = await readFile('/proc/net/route', 'utf8');
    return text
      .split('\n')
      .slice(1)
      .map((line) => line.split('\t').slice(0, 3).join(' '))
      .sort()
      .join('\n');
  } catch {
    return ''; // not Linux: addresses alone
  }
}

const LOOK_MS = 2_000;

/** Calls `changed` when the network is another one than it was; while `content`, nobody cares and nothing is compared. */
export async function watchNetwork(
  clock: Clock,
  signal: AbortSignal,
  { content, changed }: { readonly content: () => boolean; readonly changed: () => void },
): Promise<void> {
  let before = await networkFingerprint();
  while (!signal.aborted) {
    await clock.sleep(LOOK_MS, signal);
    if (content()) continue;
    const now = await networkFingerprint();
    if (now === before) continue;
    before = now;
    changed();
  }
}
