/** How HQ answers: errors as {error:{code,message,hint}}, health, bodies packed where it pays. */
import type { IncomingMessage } from 'node:http';
import type { HttpBindings } from '@hono/node-server';
import type { Context, Hono } from 'hono';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import { PossyncError } from '../core/errors.ts';
import { VERSION } from '../core/version.ts';
import { packed, type PackedBody } from './http-body.ts';

export type App = Hono<{ Bindings: HttpBindings }>;
export type Ctx = Context<{ Bindings: HttpBindings }>;

/** The credential of a request; undefined where there is none that could be one. */
export function bearerOf(request: IncomingMessage): string | undefined {
  return /^Bearer +(\S{1,200})$/i.exec(request.headers.authorization ?? '')?.[1];
}

export async function packedAnswer(c: Ctx, text: string): Promise<Response> {
  return bodyAnswer(c, await packed(text, c.req.header('accept-encoding')), 'application/json');
}

export function bodyAnswer(c: Ctx, { bytes, encoding }: PackedBody, type: string): Response {
  c.header('content-type', type);
  if (encoding !== undefined) c.header('content-encoding', encoding);
  return c.body(bytes);
}

/** The status of an error over HTTP; what a store does about it is decided by the code, not by the number. */
export function statusOf({ code }: PossyncError): ContentfulStatusCode {
  if (code === 'PS-TOKEN-STORE' || code === 'PS-STORE-DISABLED') return 403;
  if (code === 'PS-TOKEN-ROTATION' || code === 'PS-TOKEN-RETIRING') return 409;
  if (code.startsWith('PS-TOKEN-')) return 401;
  if (code === 'PS-HQ-BUSY' || code === 'PS-LOGIN-LIMIT') return 429;
  if (code === 'PS-TOO-LARGE') return 413;
  if (code === 'PS-PROTOCOL') return 400;
  if (code === 'PS-HQ-NOTREADY' || code.startsWith('PS-DB-')) return 503;
  if (code === 'PS-INTERNAL') return 500;
  return 409;
}

export function errorAnswer(c: Ctx, error: PossyncError, status = statusOf(error)): Response {
  // What is wrong with HQ's database is HQ's business: stores hear "not ready", the log has the rest.
  const shown = error.code.startsWith('PS-DB-')
    ? new PossyncError('PS-HQ-NOTREADY', 'HQ cannot use its database now')
    : error.code === 'PS-INTERNAL'
      ? new PossyncError('PS-HQ-ERROR', 'HQ failed on this request')
      : error;
  const { retryMs } = error.details;
  const message = shown.why === undefined ? shown.message : `${shown.message}: ${shown.why}`;
  if (typeof retryMs === 'number') c.header('retry-after', String(Math.ceil(retryMs / 1000)));
  return c.json(
    {
      error: { code: shown.code, message: message.slice(0, 2_000), hint: shown.hint },
      ...(typeof retryMs === 'number' ? { retry_ms: retryMs } : {}),
    },
    status,
  );
}

export function health(
  c: Ctx,
  status: 200 | 503,
  checks: Readonly<Record<string, 'pass' | 'fail'>>,
  error?: PossyncError,
): Response {
  if (c.req.query('verbose') !== undefined)
    return c.text(
      Object.entries(checks)
        .map(
          ([name, result]) =>
            `[${result === 'pass' ? '+' : '-'}]${name} ${result === 'pass' ? 'ok' : 'failed'}\n`,
        )
        .join(''),
      status,
    );
  const body = { status: status === 200 ? 'pass' : 'fail', version: VERSION, checks, code: error?.code };
  return c.body(JSON.stringify(body), status, { 'content-type': 'application/health+json' });
}
