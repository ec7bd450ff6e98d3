/** The frame of every JSON document that a command prints. */
import type { ExitCode, PossyncError } from '../../core/errors.ts';
import { redact } from '../../core/secret.ts';
import { VERSION } from '../../core/version.ts';
import type { DocumentName } from '../schemas/documents.ts';

/** One line: consumers may read it as JSON Lines, people have jq. */
export function jsonDocument(
  schema: DocumentName,
  exitCode: ExitCode,
  body: Readonly<Record<string, unknown>>,
  nowMs: number,
): string {
  const head = {
    schema,
    generated_at: new Date(nowMs).toISOString(),
    possync: VERSION,
    exit_code: exitCode,
  };
  return `${JSON.stringify({ ...head, ...body })}\n`;
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
