/**
 * One command at a time changes the credential of a store: `credential.lock` in the state directory, linked into place, so that only one can.
 *
 * It names its process and the boot of the machine: a lock whose process is gone, or that is of another boot, was left by
 * a crash and is broken. If two ever broke it in the same instant, HQ still takes one rotation only.
 */
import { randomUUID } from 'node:crypto';
import { access, link, readFile, readdir, rename, unlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import * as z from 'zod';
import { codeOf } from '../core/classify.ts';
import { PossyncError } from '../core/errors.ts';

const lockSchema = z.object({
  pid: z.int().positive(),
  boot: z.string(),
  /** When the process started, in clock ticks of this boot: a number that came round again is not the same process. */
  started: z.string(),
  command: z.string(),
});

type LockNote = z.infer<typeof lockSchema>;

/** Runs `work` alone. Throws PS-TOKEN-BUSY, or PS-TOKEN-SAVE where nothing can be written. */
export async function withTokenLock<T>(
  stateDir: string,
  command: string,
  work: () => Promise<T>,
): Promise<T> {
  const path = join(stateDir, 'credential.lock');
  await take(path, command);
  try {
    await sweep(stateDir);
    return await work();
  } finally {
    await unlink(path).catch(() => undefined); // a lock that is gone is what we want
  }
}

async function take(path: string, command: string): Promise<void> {
  const note: LockNote = {
    pid: process.pid,
    boot: await bootId(),
    started: (await startedAt(process.pid)) ?? '',
    command,
  };
  for (let attempt = 0; attempt < 3; attempt += 1) {
    if (await create(path, JSON.stringify(note))) return;
    const text = await readFile(path, 'utf8').catch(() => undefined);
    if (text === undefined) continue; // its owner has just finished
    const holder = parse(text);
    if (holder !== undefined && (await isAlive(holder))) throw busy(path, holder);
    await breakLock(path, text);
  }
  throw busy(path, undefined);
}

/** Written beside and linked into place: a lock without its owner's name would look like one left by a crash. */
async function create(path: string, text: string): Promise<boolean> {
  const beside = `${path}.${randomUUID()}`;
  try {
    await writeFile(beside, text, { mode: 0o600, flag: 'wx' });
    await link(beside, path);
    return true;
  } catch (error) {
    // Taken, or swept away by its owner a moment ago: look again.
    if (codeOf(error) === 'EEXIST' || (codeOf(error) === 'ENOENT' && (await isThere(dirname(path)))))
      return false;
    throw saveError(path, error);
  } finally {
    await unlink(beside).catch(() => undefined); // it may never have been made
  }
}

/** Only the lock that was read is taken away: one that another process has made meanwhile is put back. */
async function breakLock(path: string, seen: string): Promise<void> {
  const aside = `${path}.${randomUUID()}`;
  try {
    await rename(path, aside);
    if ((await readFile(aside, 'utf8')) === seen) await unlink(aside);
    else await rename(aside, path);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw saveError(path, error); // else somebody was faster
  }
}

/** What killed commands left half done: nobody else writes these while the lock is held, and some hold a secret. */
async function sweep(stateDir: string): Promise<void> {
  const litter = /^(credential\.lock\.[0-9a-f-]{36}|credential(\.[a-z]+)?\.tmp-[0-9a-f]+|credential\.probe)$/;
  for (const name of await readdir(stateDir)) {
    if (litter.test(name)) await unlink(join(stateDir, name)).catch(() => undefined); // gone already
  }
}

async function isThere(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}

function parse(text: string): LockNote | undefined {
  try {
    return lockSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined; // half written: its owner died in between
  }
}

async function isAlive({ pid, boot, started }: LockNote): Promise<boolean> {
  if (boot !== (await bootId())) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (codeOf(error) === 'ESRCH') return false;
  }
  const now = await startedAt(pid);
  return now === undefined || started === '' || now === started;
}

async function bootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '')).trim();
}

/** Field 22 of /proc/PID/stat; the name before it may hold blanks and brackets. */
async function startedAt(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
}

function busy(path: string, holder: LockNote | undefined): PossyncError {
  return new PossyncError('PS-TOKEN-BUSY', 'another command is changing the credential of this store', {
    ...(holder === undefined ? {} : { why: `\`${holder.command}\` runs as process ${holder.pid} (${path})` }),
  });
}

function saveError(path: string, error: unknown): PossyncError {
  return new PossyncError('PS-TOKEN-SAVE', `cannot save a new token: ${path} cannot be written`, {
    why: `${error instanceof Error ? error.message : String(error)}; checked before anything was asked of HQ: nothing changed`,
    cause: error,
  });
}
