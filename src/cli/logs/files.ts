/**
 * Reads a log that rotates while it is read: first what is there, oldest file first, then each new line.
 *
 *   store-server.10.log … store-server.1.log, store-server.log      .1 is the newest of the rotated ones
 */
import { open, readdir, stat, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { codeOf } from '../../core/classify.ts';
import type { Clock } from '../../core/clock.ts';

const CHUNK_BYTES = 64 * 1024;
/** A person who watches a log does not see a quarter of a second. */
const LOOK_MS = 250;

export interface LogFiles {
  readonly dir: string;
  /** `store-server` or `hq-server`. */
  readonly name: string;
}

/** Paths of a log, oldest first; empty = there is none. */
export async function pathsOf({ dir, name }: LogFiles): Promise<string[]> {
  const names = await readdir(dir).catch((error: unknown) => {
    if (codeOf(error) === 'ENOENT') return [];
    throw error;
  });
  const place = (file: string): number => {
    if (file === `${name}.log`) return 0;
    const index = file.startsWith(`${name}.`)
      ? /^\.(\d+)\.log$/.exec(file.slice(name.length))?.[1]
      : undefined;
    return index === undefined ? -1 : Number(index);
  };
  return names
    .map((file) => ({ file, at: place(file) }))
    .filter(({ at }) => at >= 0)
    .sort((a, b) => b.at - a.at)
    .map(({ file }) => join(dir, file));
}

/** Every line there is, oldest first. */
export async function* linesOf(files: LogFiles): AsyncGenerator<string> {
  yield* linesIn(await openFiles(files, (known) => known));
}

interface Known {
  readonly path: string;
  readonly inode: number;
}

/** Oldest first; a file that is rotated away while it is looked at is left out. */
async function look(files: LogFiles): Promise<Known[]> {
  const found = await Promise.all(
    (await pathsOf(files)).map(async (path) => ({
      path,
      inode: (await stat(path).catch(() => undefined))?.ino,
    })),
  );
  return found.flatMap(({ path, inode }) => (inode === undefined ? [] : [{ path, inode }]));
}

const TRIES = 20;

/**
 * Opens those of the files that `choose` picks. A rotation renames one file after the other, so what is opened counts
 * only if the same names led to the same files before and after.
 */
async function openFiles(
  files: LogFiles,
  choose: (known: readonly Known[]) => readonly Known[],
): Promise<FileHandle[]> {
  for (let attempt = 1; ; attempt++) {
    const before = await look(files);
    const chosen = choose(before);
    const opened = await Promise.all(chosen.map(({ path }) => open(path).catch(() => undefined)));
    const handles = opened.filter((file) => file !== undefined);
    const inodes = await Promise.all(handles.map(async (file) => (await file.stat()).ino));
    const same =
      JSON.stringify(inodes) === JSON.stringify(chosen.map(({ inode }) => inode)) &&
      JSON.stringify(await look(files)) === JSON.stringify(before);
    if (same || attempt === TRIES) return handles;
    await Promise.all(handles.map((file) => file.close()));
  }
}

async function* linesIn(handles: readonly FileHandle[]): AsyncGenerator<string> {
  try {
    for (const file of handles) {
      const input = file.createReadStream({ encoding: 'utf8', autoClose: false });
      yield* createInterface({ input, crlfDelay: Infinity });
    }
  } finally {
    await Promise.all(handles.map((file) => file.close()));
  }
}

/**
 * Every line there is, then `undefined` once, then each new line until the signal. When the file was rotated, the rest
 * of the old one comes first, then those that were rotated in between, then the new one: no line is left out, none
 * comes twice.
 */
export async function* follow(
  files: LogFiles,
  clock: Clock,
  signal: AbortSignal,
): AsyncGenerator<string | undefined> {
  const path = join(files.dir, `${files.name}.log`);
  // Opened before the older ones are listed: if it is rotated meanwhile, it is known by its inode.
  let tail = await Tail.open(path);
  try {
    const inode = tail?.inode;
    yield* linesIn(await openFiles(files, (known) => before(known, inode)));
    if (tail !== undefined) yield* tail.lines();
    yield undefined;
    while (!signal.aborted) {
      tail ??= await Tail.open(path);
      if (tail !== undefined) {
        yield* tail.lines();
        const next = await tail.successor(path);
        if (next !== undefined) {
          yield* tail.lines(); // what came between the last look and the rotation
          const [old, fresh] = [tail.inode, next.inode];
          await tail.close();
          tail = next;
          yield* linesIn(await openFiles(files, (known) => before(between(known, old), fresh)));
          continue;
        }
      }
      await clock.sleep(LOOK_MS, signal);
    }
  } finally {
    await tail?.close();
  }
}

/** Rotated files older than the one with this inode, which is read as the tail. */
function before(known: readonly Known[], inode: number | undefined): readonly Known[] {
  const at = known.findIndex((file) => file.inode === inode);
  return rotated(at < 0 ? known : known.slice(0, at));
}

/** Rotated files newer than the one with this inode. */
function between(known: readonly Known[], inode: number): readonly Known[] {
  return rotated(known.slice(known.findIndex((file) => file.inode === inode) + 1));
}

function rotated(known: readonly Known[]): readonly Known[] {
  return known.filter(({ path }) => /\.\d+\.log$/.test(path));
}

class Tail {
  readonly #file: FileHandle;
  readonly inode: number;
  #position = 0;
  #rest = '';

  private constructor(file: FileHandle, inode: number) {
    this.#file = file;
    this.inode = inode;
  }

  static async open(path: string): Promise<Tail | undefined> {
    const file = await open(path).catch(() => undefined); // not there yet
    if (file === undefined) return undefined;
    return new Tail(file, (await file.stat()).ino);
  }

  /** Whole lines since the last call; half a line waits for its other half. */
  async *lines(): AsyncGenerator<string> {
    const buffer = Buffer.alloc(CHUNK_BYTES);
    for (;;) {
      const { bytesRead } = await this.#file.read(buffer, 0, CHUNK_BYTES, this.#position);
      if (bytesRead === 0) return;
      this.#position += bytesRead;
      // latin1 keeps every byte as it is: a character may be cut in two by the end of the chunk.
      const parts = (this.#rest + buffer.toString('latin1', 0, bytesRead)).split('\n');
      this.#rest = parts.pop() ?? '';
      for (const part of parts) yield Buffer.from(part, 'latin1').toString('utf8');
    }
  }

  /** The file that has this name now, if it is another one. */
  async successor(path: string): Promise<Tail | undefined> {
    const next = await Tail.open(path);
    if (next?.inode !== this.inode) return next;
    await next.close();
    return undefined;
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}
