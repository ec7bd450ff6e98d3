/** Who runs a command, for HQ's audit. */
import { hostname, userInfo } from 'node:os';

export function commandActor(): string {
  try {
    return `${userInfo().username}@${hostname()}`;
  } catch {
    // A container may run under a uid that has no name.
    return `uid ${process.getuid?.() ?? '?'}@${hostname()}`;
  }
}
