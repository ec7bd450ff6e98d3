/** Documents of the commands that look after a machine, and the one of every failure. */
import * as z from 'zod';
import { checkStatus, statusCounts } from '../../diagnose/report-schema.ts';
import { code, count, document, layer, logLine, storeCode, text } from './parts.ts';

export const failure = document('possync.error/1', {
  error: z.object({ code, message: text, why: text.optional(), hint: text }),
});

/** One check of a diagnosis; `code` and `hint` exactly where something is to be done or known. */
export const checkLine = z.object({
  id: text,
  layer,
  status: checkStatus,
  code: code.nullable(),
  target: text.nullable(),
  message: text,
  hint: text.nullable(),
  evidence: z.record(z.string(), z.unknown()),
  depends_on: z.array(text),
  skipped_because: text.optional(),
  duration_ms: z.number().nonnegative(),
});

export const diagnosis = document('possync.diagnose/1', {
  run_id: z.uuid(),
  ran: z.enum(['daemon', 'local']),
  ran_as: text,
  target: text.nullable(),
  store: z.object({ id: z.int(), code: storeCode, name: text }).nullable(),
  summary: z.object({ ...statusCounts, duration_ms: z.number().nonnegative() }),
  verdict: z.object({
    code: code.nullable(),
    check: text.nullable(),
    cause: text,
    action: text,
    network_request: text.nullable(),
  }),
  /** Not in the last line of --format jsonl, which has one line for each. */
  checks: z.array(checkLine).optional(),
});

export const diagnosisList = document('possync.diagnose-list/1', {
  checks: z.array(
    z.object({
      id: text,
      layer,
      title: text,
      depends_on: z.array(text),
      when: z.enum(['quick', 'full', 'deep']),
    }),
  ),
});

export const explanation = document('possync.explain/1', {
  code,
  meaning: text.nullable(),
  hint: text,
  who: text.nullable(),
  steps: z.array(text),
  meanwhile: text.nullable(),
  how_we_know: text.nullable(),
  exit: count,
  retry: z.enum(['soon', 'slow', 'minutes', 'never']),
});

export const logs = document('possync.logs/1', { log: text, lines: z.array(logLine) });

export const completion = document('possync.completion/1', { shell: text, script: text });

export const config = document('possync.config/1', {
  file: text.nullable(),
  settings: z.array(
    z.object({
      key: text,
      env: text,
      value: z.union([z.string(), z.number(), z.boolean()]).nullable(),
      source: text,
    }),
  ),
});

export const service = document('possync.service/1', {
  result: z.enum(['dry_run', 'installed', 'uninstalled']),
  side: z.enum(['hq', 'store']),
  steps: z.array(
    z.discriminatedUnion('do', [
      z.object({ do: z.literal('write'), path: text, text }),
      z.object({ do: z.literal('remove'), path: text }),
      z.object({ do: z.literal('run'), argv: z.array(text) }),
    ]),
  ),
});

/** `possync schema`: which there are, or one of them. */
export const schemas = z.union([
  document('possync.schema/1', {
    schemas: z.array(z.object({ name: text, what: text, line: z.boolean() })),
  }),
  document('possync.schema/1', { name: text, json_schema: z.record(z.string(), z.unknown()) }),
]);

/** What `hq serve` and `store daemon` write when they run, where no person reads. */
export const readyLine = z.discriminatedUnion('role', [
  z.object({
    event: z.literal('ready'),
    role: z.literal('hq'),
    /** For programs of this machine; `listens` is the address that was given. */
    url: text,
    listens: text,
    unencrypted: z.boolean(),
    pid: count,
    possync: text,
    stores: count,
    dashboard_url: text.nullable(),
    metrics_url: text.nullable(),
    took_ms: count,
  }),
  z.object({
    event: z.literal('ready'),
    role: z.literal('store'),
    store: storeCode.nullable(),
    pid: count,
    possync: text,
    socket: text,
    status_url: text.nullable(),
    metrics_url: text.nullable(),
    queued: count,
  }),
]);
