/** Reads an enrolment token from the file that was named, or from standard input. */
import { readFile } from 'node:fs/promises';
import { PossyncError } from '../core/errors.ts';
import type { Context } from './context.ts';

/** The text of a token file, `-` = standard input; undefined where none was named. */
export async function readTokenText(context: Context, file: string | undefined): Promise<string | undefined> {
  if (file === undefined) return undefined;
  if (file === '-') return await context.readStdin();
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new PossyncError('PS-FILE-READ', `cannot read the token file ${file}`, {
      why: error instanceof Error ? error.message : String(error),
      cause: error,
    });
  }
}
