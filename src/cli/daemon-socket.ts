/** Talks to the running daemon over store.sock. */
import http, { type IncomingHttpHeaders } from 'node:http';
import { join } from 'node:path';
import * as z from 'zod';
import type { Env } from '../config/options.ts';
import { codeOf } from '../core/classify.ts';
import { isErrorCode, PossyncError } from '../core/errors.ts';
import { DATABASE_HEADER } from '../db/address.ts';

export const SOCKET_NAME = 'store.sock';
/** Where the packaged unit has it; an operator's shell has no RUNTIME_DIRECTORY. */
const PACKAGED = { stateDir: '/var/lib/possync', runtimeDir: '/run/possync' };
/** The daemon answers from memory and its database; a hung one must not hang this command. */
const ANSWER_MS = 2_000;
const ANSWER_LIMIT_BYTES = 1024 * 1024;
/** Node looks for one, for TLS, with an expression that takes 3 ms to compile: a twentieth of a short command. */
const NO_NAME = { servername: '' };

export function socketPath(stateDir: string, env: Env): string {
  const runtimeDir =
    env.RUNTIME_DIRECTORY ?? (stateDir === PACKAGED.stateDir ? PACKAGED.runtimeDir : undefined);
  return join(runtimeDir ?? stateDir, SOCKET_NAME);
}

/** undefined when it does not answer with success, for whatever reason. */
export async function askDaemon(
  socket: string,
  method: 'GET' | 'POST',
  path: string,
  timeoutMs = ANSWER_MS,
): Promise<unknown> {
  const answer = await exchange(socket, method, path, timeoutMs);
  return answer !== 'dead' && answer?.status === 200 ? answer.body : undefined;
}

export interface DaemonStatus {
  readonly document: unknown;
  /** Fingerprint of the database that it is read from. */
  readonly database: string | undefined;
}

/** What the daemon says of its store; undefined when it does not answer with success. */
export async function askStatus(socket: string): Promise<DaemonStatus | undefined> {
  const answer = await exchange(socket, 'GET', '/api/v1/status', ANSWER_MS);
  if (answer === 'dead' || answer?.status !== 200) return undefined;
  const database = answer.headers[DATABASE_HEADER];
  return { document: answer.body, database: typeof database === 'string' ? database : undefined };
}

const lightSchema = z.object({ indicator: z.enum(['green', 'red']), code: z.string().nullable() });

/**
 * The light from the daemon's memory, which it knows while its database is away. Red as well where a socket is left and
 * nobody listens: its daemon died. undefined where there is no socket, which may mean a daemon with another folder.
 */
export async function lightOfDaemon(socket: string): Promise<z.infer<typeof lightSchema> | undefined> {
  const answer = await exchange(socket, 'GET', '/connz', ANSWER_MS);
  return answer === 'dead'
    ? { indicator: 'red', code: 'PS-DAEMON-DOWN' }
    : lightSchema.safeParse(answer?.body).data;
}

const errorSchema = z.object({
  error: z.object({ code: z.string(), message: z.string(), hint: z.string().optional() }),
});

/** Like askDaemon, but what the daemon refuses is thrown; undefined only where no daemon listens. */
export async function tellDaemon(socket: string, path: string, timeoutMs: number): Promise<unknown> {
  const answer = await exchange(socket, 'POST', path, timeoutMs);
  if (answer === undefined || answer === 'dead') return undefined;
  if (answer.status === 200) return answer.body;
  const refused = errorSchema.safeParse(answer.body);
  if (!refused.success) throw new PossyncError('PS-INTERNAL', `the daemon answered ${answer.status}`);
  const { code, message, hint } = refused.data.error;
  throw new PossyncError(
    isErrorCode(code) ? code : 'PS-INTERNAL',
    message,
    hint === undefined ? {} : { hint },
  );
}

/** `dead`: the socket is there, and nobody listens on it. */
async function exchange(
  socketPath: string,
  method: 'GET' | 'POST',
  path: string,
  timeoutMs: number,
): Promise<{ status: number; headers: IncomingHttpHeaders; body: unknown } | 'dead' | undefined> {
  return await new Promise((resolve) => {
    const nothing = (): void => {
      resolve(undefined);
    };
    const options = { socketPath, method, path, timeout: timeoutMs, ...NO_NAME };
    const request = http.request(options, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
        if (text.length > ANSWER_LIMIT_BYTES) response.destroy();
      });
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: parsed(text) });
      });
      response.on('error', nothing);
      response.on('close', nothing);
    });
    request.on('timeout', () => request.destroy());
    request.on('error', (error) => {
      resolve(codeOf(error) === 'ECONNREFUSED' ? 'dead' : undefined);
    });
    request.end();
  });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // something else listens there
  }
}
