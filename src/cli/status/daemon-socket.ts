/** Asks the running daemon over store.sock; undefined when it does not answer, for whatever reason. */
import http from 'node:http';
import { join } from 'node:path';
import type { Env } from '../../config/options.ts';

export const SOCKET_NAME = 'store.sock';
/** Where the packaged unit has it; an operator's shell has no RUNTIME_DIRECTORY. */
const PACKAGED = { stateDir: '/var/lib/possync', runtimeDir: '/run/possync' };
/** The daemon answers from memory and its database; a hung one must not hang this command. */
const ANSWER_MS = 2_000;
const ANSWER_LIMIT_BYTES = 1024 * 1024;

export function socketPath(stateDir: string, env: Env): string {
  const runtimeDir =
    env.RUNTIME_DIRECTORY ?? (stateDir === PACKAGED.stateDir ? PACKAGED.runtimeDir : undefined);
  return join(runtimeDir ?? stateDir, SOCKET_NAME);
}

export async function askDaemon(
  socket: string,
  method: 'GET' | 'POST',
  path: string,
  timeoutMs = ANSWER_MS,
): Promise<unknown> {
  const text = await new Promise<string | undefined>((resolve) => {
    const request = http.request({ socketPath: socket, method, path, timeout: timeoutMs }, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        body += chunk;
        if (body.length > ANSWER_LIMIT_BYTES) response.destroy();
      });
      response.on('end', () => {
        resolve(response.statusCode === 200 ? body : undefined);
      });
      response.on('error', () => {
        resolve(undefined);
      });
    });
    request.on('timeout', () => request.destroy());
    request.on('error', () => {
      resolve(undefined);
    });
    request.end();
  });
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // something else listens there
  }
}
