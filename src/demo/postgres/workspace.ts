/** The private folder of one PostgreSQL: made where the user it runs as can reach it, readable by nobody else. */
import { chmod, chown, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PossyncError } from '../../core/errors.ts';
import { canReach, type Identity } from './identity.ts';

export async function makeWorkspace({ spawnAs }: Identity): Promise<string> {
  // TMPDIR may lie in a home that only its owner can enter; the others are open everywhere.
  for (const parent of new Set([tmpdir(), '/tmp', '/var/tmp'])) {
    const folder = await mkdtemp(join(parent, 'possync-pg-')).catch(() => undefined);
    if (folder === undefined) continue;
    await chmod(folder, 0o700);
    if (spawnAs.uid !== undefined && spawnAs.gid !== undefined) await chown(folder, spawnAs.uid, spawnAs.gid);
    if (await canReach(folder, spawnAs)) return folder;
    await rm(folder, { recursive: true });
  }
  throw new PossyncError('PS-FILE-WRITE', 'there is no folder for temporary files', {
    why: `neither ${tmpdir()} nor /tmp nor /var/tmp can be written`,
  });
}
