/** What HQ's sockets follow: messages between HQ processes, the spread of hints, reasons and codes of closing. */
import { createHash } from 'node:crypto';
import * as z from 'zod';
import { CLOSE } from '../../protocol/http.ts';
import type { Refuse } from '../../protocol/messages.ts';

/** Hints that are not urgent: 5,000 stores must not pull in the same second. */
const SPREAD_MS = 10_000;

const linkMessage = z.discriminatedUnion('type', [
  z.object({ type: z.literal('moved'), store: z.int(), server: z.uuid(), connection: z.uuid() }),
  z.object({
    type: z.literal('revoked'),
    store: z.string(),
    kids: z.array(z.string()),
    actor: z.string(),
    reason: z.string().nullable(),
  }),
  z.object({ type: z.literal('rotate'), stores: z.array(z.int()) }),
  z.object({
    type: z.literal('rotated'),
    store: z.string(),
    kids: z.array(z.string()),
    by: z.string(),
    until: z.string().nullable(),
    actor: z.string(),
  }),
  z.object({
    type: z.literal('ask'),
    store: z.int().nullable(),
    id: z.uuid(),
    head: z.int().nonnegative().optional(),
  }),
  z.object({ type: z.literal('verify'), store: z.int(), id: z.uuid() }),
]);

/** A message of another HQ process; undefined = not ours. */
export function parseLinkMessage(payload: string): z.infer<typeof linkMessage> | undefined {
  return linkMessage.safeParse(jsonOf(payload)).data;
}

/** The same store has the same place in the spread every time. */
export function spreadOf(storeId: number): number {
  return createHash('sha256').update(String(storeId)).digest().readUInt32BE(0) % SPREAD_MS;
}

/** The reason of a 1012 or 4429: how long to stay away. */
export function returnReason(retryMs: number): string {
  return JSON.stringify({ retry_ms: retryMs });
}

export function closeCodeOf(refusal: Refuse['code']): number {
  switch (refusal) {
    case 'revoked':
      return CLOSE.tokenRefused;
    case 'disabled':
    case 'store':
    case 'epoch':
      return CLOSE.forbidden;
    case 'upgrade':
      return CLOSE.version;
    case 'other_instance_alive':
    case 'not_ready':
      return CLOSE.tryLater;
  }
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // not ours
  }
}
