/**
 * The support archive of `possync diagnose --bundle`: one gzipped JSON file, made from lists of what may be in it.
 *
 *   manifest   what is in it and where it came from
 *   ran        the diagnosis; --from-bundle shows it again in any format
 *   status     the document of `possync status --json`, without the figures of the day
 *   settings   where each setting comes from; values only of those that hold no secret and no address
 *   log        the last lines, of each only known fields
 *
 * What nobody listed is not in it: a new field of a log line stays out until somebody adds it here. The texts that are
 * in it go through redact().
 */
import { readFile, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { gunzip, gzip } from 'node:zlib';
import * as z from 'zod';
import { OPTION_NAMES, OPTIONS, type OptionName } from '../../config/options.ts';
import { codeOf } from '../../core/classify.ts';
import { PossyncError } from '../../core/errors.ts';
import { redact } from '../../core/secret.ts';
import { SOFTWARE } from '../../core/version.ts';
import type { Report } from '../../diagnose/diagnose.ts';
import { reportSchema } from '../../diagnose/report-schema.ts';
import type { Context } from '../context.ts';
import { askDaemon, socketPath } from '../daemon-socket.ts';
import { linesOf } from '../logs/files.ts';

const SCHEMA = 'possync.bundle/1';
const LOG_LINES = 500;
const LIMIT_BYTES = 32 * 1024 * 1024;

const LOG_FIELDS =
  'ts level msg component event code store role ver attempt tries dur_ms down_ms queued records changes dropped'.split(
    ' ',
  );
const STATUS_PARTS = 'role source connection upstream downstream last_sync_at tls clock daemon hq'.split(' ');
const SETTINGS: readonly OptionName[] = [
  'listenPort',
  'allowPlaintext',
  'pushIntervalMs',
  'stateDir',
  'logDir',
  'logLevel',
  'statusListen',
  'metricsListen',
];

export interface Ran {
  readonly report: Report;
  readonly user: string;
  readonly place: 'daemon' | 'local';
}

export async function writeBundle(context: Context, file: string, ran: Ran): Promise<void> {
  const log = await logTail(context.config.logDir);
  const status = picked(
    await askDaemon(socketPath(context.config.stateDir, context.env), 'GET', '/api/v1/status'),
    STATUS_PARTS,
  );
  const parts = { ran, status, settings: settingsOf(context), log };
  const manifest = {
    schema: SCHEMA,
    created_at: new Date(context.clock.now()).toISOString(),
    software: SOFTWARE,
    node: process.versions.node,
    platform: `${process.platform} ${process.arch}`,
    parts: [
      { name: 'ran', from: 'possync diagnose', checks: ran.report.checks.length },
      { name: 'status', from: 'the running daemon', fields: STATUS_PARTS, there: status !== null },
      { name: 'settings', from: 'sources of all; values of', fields: SETTINGS },
      { name: 'log', from: context.config.logDir, fields: LOG_FIELDS, lines: log.length },
    ],
  };
  const text = redact(JSON.stringify({ manifest, ...parts }));
  try {
    await writeFile(file, await promisify(gzip)(text), { mode: 0o600 });
  } catch (error) {
    throw new PossyncError('PS-FILE-WRITE', `cannot write ${file}`, {
      why: codeOf(error) ?? String(error),
      cause: error,
    });
  }
}

const bundleSchema = z.looseObject({
  manifest: z.looseObject({ schema: z.literal(SCHEMA) }),
  ran: z.object({ user: z.string().max(200), place: z.enum(['daemon', 'local']), report: reportSchema }),
});

export async function readBundle(file: string): Promise<Ran> {
  let text: string;
  try {
    text = (await promisify(gunzip)(await readFile(file), { maxOutputLength: LIMIT_BYTES })).toString('utf8');
  } catch (error) {
    throw new PossyncError('PS-FILE-READ', `cannot read ${file}`, {
      why: codeOf(error) ?? String(error),
      cause: error,
    });
  }
  const parsed = bundleSchema.safeParse(jsonOf(text));
  if (!parsed.success)
    throw new PossyncError('PS-FILE-READ', `${file} is no bundle of possync diagnose`, {
      why:
        parsed.error.issues.map(({ path, message }) => `${path.join('.') || 'the file'}: ${message}`)[0] ??
        '',
      hint: 'make one with: possync diagnose --bundle FILE',
    });
  return parsed.data.ran;
}

function settingsOf({ config, loaded }: Context): Record<string, unknown> {
  return Object.fromEntries(
    OPTION_NAMES.map((name) => [
      OPTIONS[name].env,
      { source: loaded.sources[name], ...(SETTINGS.includes(name) ? { value: config[name] } : {}) },
    ]),
  );
}

async function logTail(dir: string): Promise<unknown[]> {
  const lines: unknown[] = [];
  for await (const text of linesOf({ dir, name: 'store-server' })) {
    const line = picked(jsonOf(text), LOG_FIELDS);
    if (line !== null) lines.push(line);
    if (lines.length > LOG_LINES) lines.shift();
  }
  return lines;
}

function picked(value: unknown, fields: readonly string[]): Record<string, unknown> | null {
  if (typeof value !== 'object' || value === null) return null;
  return Object.fromEntries(Object.entries(value).filter(([key]) => fields.includes(key)));
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // half a line after a power cut
  }
}
