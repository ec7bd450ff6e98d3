/** The head of every JSON document: commands print it, and HTTP answers with the same. */
import type { ExitCode } from './errors.ts';
import { VERSION } from './version.ts';

export interface DocumentHead {
  readonly schema: string;
  readonly generated_at: string;
  readonly possync: string;
  readonly exit_code: ExitCode;
}

export function documentHead(schema: string, exitCode: ExitCode, nowMs: number): DocumentHead {
  return {
    schema,
    generated_at: new Date(nowMs).toISOString(),
    possync: VERSION,
    exit_code: exitCode,
  };
}
