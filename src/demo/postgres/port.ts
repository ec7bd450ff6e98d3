/** A TCP port that nobody uses, below the range from which the kernel takes the ports of outgoing connections. */
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';

/**
 * Linux gives 32768 and above to outgoing connections. A port from there can be lost while a crashed server is down,
 * and one left in TIME-WAIT cannot be bound at all.
 */
const LOWEST = 20_000;
const HIGHEST = 32_767;

/** Free now; whoever binds it must still be ready to try another one. */
export async function choosePort(): Promise<number> {
  for (;;) {
    const port = randomInt(LOWEST, HIGHEST + 1);
    if (await isFree(port)) return port;
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  try {
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
  } catch {
    return false; // taken, or not ours to use: both mean another one
  }
  server.close();
  await once(server, 'close');
  return true;
}
