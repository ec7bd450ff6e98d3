/**
 * hq-revocations.log in LOG_DIR: every `token revoke` appends a line before it changes the database, so that a revocation is
 * known even where no `hq serve` runs to log it, and after the database was restored. It is small and never rotated.
 */
import { mkdir, open, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { PossyncError } from '../../core/errors.ts';
import { endsIn, REVOCATIONS_FILE, REVOKED_EVENT, type LoggedEnd } from '../../hq/stores/revocation-log.ts';
import type { Context } from '../context.ts';

export interface RevocationNote {
  readonly store: string;
  readonly kids: readonly string[];
  readonly actor: string;
  readonly reason: string | null;
}

/** On disk when this returns. Where it cannot be written the revocation goes on: the line is shown, to be kept by hand. */
export async function noteRevocation(context: Context, note: RevocationNote): Promise<void> {
  const { logDir } = context.config;
  const line = JSON.stringify({
    ts: new Date(context.clock.now()).toISOString(),
    level: 'warn',
    event: REVOKED_EVENT,
    ...note,
  });
  try {
    await mkdir(logDir, { recursive: true });
    const file = await open(join(logDir, REVOCATIONS_FILE), 'a', 0o640);
    try {
      await file.write(`${line}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
  } catch (error) {
    context.note(
      `${join(logDir, REVOCATIONS_FILE)} cannot be written (${error instanceof Error ? error.message : String(error)}).\n` +
        `Keep this line for a restore of HQ's database:\n${line}`,
    );
  }
}

/** From a log of HQ, or from all logs of HQ in a folder, the rotated ones as well. Throws PS-FILE-READ. */
export async function readEnds(path: string): Promise<LoggedEnd[]> {
  try {
    const names = (await stat(path)).isDirectory()
      ? (await readdir(path)).filter((name) => /^hq-(server|revocations)\b.*\.log$/.test(name)).sort()
      : undefined;
    if (names?.length === 0) throw new Error('there is no log of HQ in it');
    const ends: LoggedEnd[] = [];
    for (const name of names ?? ['']) ends.push(...endsIn(await readFile(join(path, name), 'utf8')));
    return distinct(ends);
  } catch (error) {
    throw new PossyncError('PS-FILE-READ', `cannot read ${path}`, {
      why: error instanceof Error ? error.message : String(error),
      cause: error,
    });
  }
}

/** Several servers have written the same end; the one that ends it at once counts. */
function distinct(ends: readonly LoggedEnd[]): LoggedEnd[] {
  const byKid = new Map<string, LoggedEnd>();
  for (const { code, kids, until } of ends)
    for (const kid of kids) {
      const known = byKid.get(kid);
      const sooner = known === undefined || until === null || (known.until !== null && until < known.until);
      if (sooner) byKid.set(kid, { code, kids: [kid], until });
    }
  return [...byKid.values()];
}
