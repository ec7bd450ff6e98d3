/** The command's end: asks the daemon for a diagnosis, line by line; undefined when it cannot give one. */
import http from 'node:http';
import { createInterface } from 'node:readline';
import * as z from 'zod';
import { isErrorCode, PossyncError } from '../../core/errors.ts';
import { SOFTWARE } from '../../core/version.ts';
import type { CheckResult } from '../../diagnose/check.ts';
import type { Report } from '../../diagnose/diagnose.ts';
import { checkResultSchema, reportSchema } from '../../diagnose/report-schema.ts';
import type { DiagnoseRequest, Greeting } from './in-daemon.ts';

const ROUTE = '/api/v1/diagnose';
/** A daemon that is not frozen greets at once; a frozen one is a finding of the local run. */
const GREETING_MS = 1_500;
/** Longest time without a line: one check of --deep is silent for 75 s. */
const SILENCE_MS = 100_000;

const lineSchema = z.union([
  z.object({ hello: z.object({ software: z.string(), user: z.string(), pid: z.int() }) }),
  z.object({ started: z.string() }),
  z.object({ result: checkResultSchema }),
  z.object({ report: reportSchema }),
  z.object({ error: z.object({ code: z.string(), message: z.string(), hint: z.string() }) }),
]);

export interface DaemonRun {
  readonly report: Report;
  readonly by: Greeting['hello'];
}

export interface Listener {
  started(id: string): void;
  result(result: CheckResult): void;
}

/** Throws what the daemon refuses; undefined = no daemon of this version answers there. */
export async function askDaemon(
  socketPath: string,
  ask: DiagnoseRequest,
  listener: Listener,
  signal: AbortSignal,
): Promise<DaemonRun | undefined> {
  const response = await open(socketPath, ask, signal);
  if (response === undefined) return undefined;
  let by: Greeting['hello'] | undefined;
  try {
    for await (const text of createInterface({ input: response, crlfDelay: Infinity })) {
      const line = lineSchema.safeParse(json(text));
      if (!line.success) return undefined; // it is busy, or something else listens there
      const said = line.data;
      if ('hello' in said) {
        by = said.hello;
        if (by.software !== SOFTWARE) return undefined; // daemon.version will say so
      } else if ('error' in said) {
        const { code, message, hint } = said.error;
        throw new PossyncError(isErrorCode(code) ? code : 'PS-INTERNAL', message, { hint });
      } else if (by === undefined) return undefined;
      else if ('started' in said) listener.started(said.started);
      else if ('result' in said) listener.result(said.result);
      else return { report: said.report, by };
    }
  } catch (error) {
    if (error instanceof PossyncError) throw error;
    return undefined; // it ended in the middle: the local run says why
  } finally {
    response.destroy();
  }
  return undefined;
}

async function open(
  socketPath: string,
  ask: DiagnoseRequest,
  signal: AbortSignal,
): Promise<http.IncomingMessage | undefined> {
  return await new Promise((resolve) => {
    const nothing = (): void => {
      resolve(undefined);
    };
    const request = http.request(
      { socketPath, method: 'POST', path: ROUTE, headers: { host: 'daemon' }, timeout: GREETING_MS, signal },
      (response) => {
        response.on('error', nothing);
        request.setTimeout(SILENCE_MS);
        if (response.statusCode === 200) {
          resolve(response);
          return;
        }
        response.destroy();
        nothing();
      },
    );
    request.on('timeout', () => request.destroy());
    request.on('error', nothing);
    request.end(JSON.stringify(ask));
  });
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
