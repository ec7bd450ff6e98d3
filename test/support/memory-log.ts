/** A log that a test can read. */
import type { Log, LogFields } from '../../src/core/log.ts';

export interface LogLine extends LogFields {
  readonly level: string;
  readonly message: string;
}

export function memoryLog(fields: LogFields = {}, lines: LogLine[] = []): Log & { lines: LogLine[] } {
  const at =
    (level: string) =>
    (message: string, more: LogFields = {}): void => {
      lines.push({ level, message, ...fields, ...more });
    };
  return {
    lines,
    error: at('error'),
    warn: at('warn'),
    info: at('info'),
    debug: at('debug'),
    child: (more) => memoryLog({ ...fields, ...more }, lines),
  };
}
