/** Words that several documents share, and the frame around each of them. */
import * as z from 'zod';
import { EXIT } from '../../core/errors.ts';
import { LAYERS } from '../../diagnose/check.ts';
import { LOG_LEVELS } from '../../core/log-levels.ts';
import type { ConnectionView, ReasonView, TodayView, TypeView } from '../../protocol/status.ts';

/** Parts that a JSON Schema names under `$defs` in place of repeating them. */
export const NAMED_PARTS = z.registry<{ id: string }>();

/** RFC 3339. */
export const time = z.iso.datetime({ offset: true });
export const date = z.iso.date();
export const text = z.string();
export const count = z.int().nonnegative();
/** Money may be negative. */
export const cents = z.int();
export const code = z.string().regex(/^PS-[A-Z0-9-]+$/);
export const kid = z.string().min(1);
export const storeCode = z.string().min(1);
export const counts = z.record(z.string(), z.int());

const exitCode = z.literal(Object.values(EXIT));

/** `null` is said where it is meant: unknown, never 0 or false. */
export const reason = z.object({ code, message: text, hint: text }) satisfies z.ZodType<ReasonView>;
NAMED_PARTS.add(reason, { id: 'reason' });

export const connection = z.object({
  indicator: z.enum(['green', 'red']),
  state: text,
  since: time.nullable(),
  for_ms: count.nullable(),
  last_frame_at: time.nullable(),
  rtt_ms: z.number().nullable(),
  reason: reason.nullable(),
  diagnosed_at: time.nullable(),
  attempt: count.nullable(),
  next_attempt_at: time.nullable(),
}) satisfies z.ZodType<ConnectionView>;
NAMED_PARTS.add(connection, { id: 'connection' });

export const today = z.object({
  business_date: date,
  sales: count,
  revenue: cents,
  tax: cents,
  refunds: cents,
}) satisfies z.ZodType<TodayView>;
NAMED_PARTS.add(today, { id: 'today' });

const type = z.object({
  direction: z.enum(['up', 'down', 'both']),
  last_success_at: time.nullable(),
  records: count.nullable(),
}) satisfies z.ZodType<TypeView>;
NAMED_PARTS.add(type, { id: 'type' });
export const types = z.record(z.string(), type);

export const layer = z.enum(LAYERS);
export const logLine = z.looseObject({ ts: text, level: z.enum(LOG_LEVELS), msg: text });

/** What every document begins with, in this order; `body` follows. */
export function document<const Name extends string, Body extends z.ZodRawShape>(name: Name, body: Body) {
  return z.object({
    schema: z.literal(name),
    generated_at: time,
    possync: text,
    exit_code: exitCode,
    ...body,
  });
}
