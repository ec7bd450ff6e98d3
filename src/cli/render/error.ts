/** A failure as people read it: what, why, what to do, and the code to look up. */
import type { PossyncError } from '../../core/errors.ts';
import { redact } from '../../core/secret.ts';
import type { Paint } from './term.ts';

export function renderError(paint: Paint, error: PossyncError, verbose: boolean): string {
  const lines = [`${paint.bad('error:')} ${error.message}`];
  if (error.why !== undefined) lines.push(`why:   ${error.why.replaceAll('\n', '\n       ')}`);
  lines.push(`fix:   ${error.hint}`, `code:  ${error.code}`);
  if (verbose) lines.push(...stacks(error));
  return redact(`${lines.join('\n')}\n`);
}

function stacks(error: Error): string[] {
  const found: string[] = [];
  let current: unknown = error;
  // Bounded: a cause that refers back to itself would print for ever.
  for (let depth = 0; depth < 5 && current instanceof Error; depth++) {
    found.push(current.stack ?? String(current));
    current = current.cause;
  }
  return found;
}
