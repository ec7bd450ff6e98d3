/** A report that comes from outside this process: from the daemon, or from an archive that another machine made. */
import * as z from 'zod';
import { isErrorCode, type ErrorCode } from '../core/errors.ts';
import { LAYERS, type CheckResult } from './check.ts';
import type { Report } from './diagnose.ts';

/** Longer than the largest verdict with its network request; more checks than there will be. */
const text = z.string().max(20_000);
const MAX_CHECKS = 1_000;
const count = z.int().nonnegative();
export const checkStatus = z.enum(['pass', 'warn', 'fail', 'skip', 'error']);
/** How many checks ended how. */
export const statusCounts = { pass: count, warn: count, fail: count, skip: count, error: count };
/** Durations are measured, with fractions. */
const milliseconds = z.number().nonnegative();

const code = z.custom<ErrorCode>(
  (value) => typeof value === 'string' && isErrorCode(value),
  'a code that this version does not know',
);

export const checkResultSchema: z.ZodType<CheckResult> = z.object({
  id: text,
  layer: z.enum(LAYERS),
  title: text,
  status: checkStatus,
  code: code.exactOptional(),
  message: text,
  hint: text.exactOptional(),
  target: text.exactOptional(),
  evidence: z.record(z.string(), z.unknown()).exactOptional(),
  dependsOn: z.array(text).max(MAX_CHECKS),
  skippedBecause: text.exactOptional(),
  durationMs: milliseconds,
});

export const reportSchema: z.ZodType<Report> = z
  .object({
    runId: text,
    startedAt: text,
    target: text.nullable(),
    /** JSON leaves it out where there is none. */
    store: z.object({ id: z.int(), code: text, name: text }).optional(),
    checks: z.array(checkResultSchema).max(MAX_CHECKS),
    summary: z.object({ ...statusCounts, durationMs: milliseconds }),
    verdict: z.object({
      code: code.nullable(),
      check: text.nullable(),
      cause: text,
      action: text,
      networkRequest: text.nullable(),
    }),
  })
  .transform(({ store, ...report }) => ({ ...report, store }));
