/** The log of a server started by a command: JSON lines in LOG_DIR, and for people on a terminal. */
import { join } from 'node:path';
import { openLog, type OpenLog } from '../core/log-output.ts';
import { VERSION } from '../core/version.ts';
import type { Context } from './context.ts';

export function openServerLog(context: Context, name: 'hq-server' | 'store-server'): OpenLog {
  const { logDir, logLevel } = context.config;
  return openLog({
    file: { path: join(logDir, `${name}.log`) },
    level: logLevel,
    fields: { role: name === 'hq-server' ? 'hq' : 'store', ver: VERSION },
    // Without a terminal stderr belongs to the supervisor, whose journal must not get every line twice.
    ...(context.term.err.isTTY ? { terminal: process.stderr } : {}),
  });
}
