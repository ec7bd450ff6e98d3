/** One line of the log for people: when, how bad, what, its code, then whatever else it carries. */
import type { LogLevel } from '../../core/log-levels.ts';
import type { Paint } from './term.ts';

export interface LogLine {
  readonly ts: string;
  readonly level: LogLevel;
  readonly msg: string;
  readonly [field: string]: unknown;
}

/** The same on every line of a log; shown with --verbose. */
const USUAL = new Set([
  'ts',
  'level',
  'msg',
  'code',
  'pid',
  'run',
  'ver',
  'role',
  'store',
  'event',
  'component',
]);

export function renderLogLine(paint: Paint, line: LogLine, verbose: boolean): string {
  const { ts, level, msg, code } = line;
  const colour = level === 'error' ? paint.bad : level === 'warn' ? paint.caution : paint.dim;
  const more = Object.entries(line)
    .filter(([key]) => (verbose ? !['ts', 'level', 'msg', 'code'].includes(key) : !USUAL.has(key)))
    .map(([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`);
  const parts = [
    `${ts.slice(0, 10)} ${ts.slice(11, 19)}`,
    colour(level.toUpperCase().padEnd(5)),
    typeof code === 'string' ? `${msg} (${code})` : msg,
    ...(more.length === 0 ? [] : [paint.dim(printable(more.join(' ')))]),
  ];
  return `${parts.map((part, index) => (index === 2 ? printable(part) : part)).join('  ')}\n`;
}

/** What HQ or a box on the way said must not move the cursor of a terminal. */
function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, ' ');
}
