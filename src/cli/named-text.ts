/** Reads what a flag names: a file, or standard input. */
import { readFile } from 'node:fs/promises';
import { PossyncError } from '../core/errors.ts';
import type { Context } from './context.ts';

/** Its text, `-` = standard input; undefined where none was named. `what` says in an error what it should have been. */
export async function readNamedText(
  context: Context,
  file: string | undefined,
  what: string,
): Promise<string | undefined> {
  if (file === undefined) return undefined;
  if (file === '-') return await context.readStdin();
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new PossyncError('PS-FILE-READ', `cannot read the ${what} ${file}`, {
      why: error instanceof Error ? error.message : String(error),
      cause: error,
    });
  }
}
