/** The frame of every JSON document that a command prints. */
import { documentHead } from '../../core/document.ts';
import type { ExitCode, PossyncError } from '../../core/errors.ts';
import { redact } from '../../core/secret.ts';
import type { DocumentName } from '../schemas/documents.ts';

/** One line: consumers may read it as JSON Lines, people have jq. */
export function jsonDocument(
  schema: DocumentName,
  exitCode: ExitCode,
  body: Readonly<Record<string, unknown>>,
  nowMs: number,
): string {
  return `${JSON.stringify({ ...documentHead(schema, exitCode, nowMs), ...body })}\n`;
}

export function jsonError(error: PossyncError, nowMs: number): string {
  const { code, message, why, hint, exit } = error;
  return jsonDocument(
    'possync.error/1',
    exit,
    {
      error: {
        code,
        message: redact(message),
        ...(why === undefined ? {} : { why: redact(why) }),
        hint: redact(hint),
      },
    },
    nowMs,
  );
}
