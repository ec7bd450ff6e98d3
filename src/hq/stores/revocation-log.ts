/**
 * What an HQ restored from a backup must be told again: the credentials that ended after the backup was made.
 *
 * Each end is a JSON line outside the database: in hq-server.log of every `hq serve` that runs, and in hq-revocations.log
 * of the command that revokes, which is neither rotated nor in need of a server. `token revoke --replay` reads both.
 */
import * as z from 'zod';
import type { Log } from '../../core/log.ts';
import type { LinkMessage } from './live.ts';

export const REVOKED_EVENT = 'token.revoked';
/** Replaced by a rotation: taken until `until`. */
export const ROTATED_EVENT = 'token.rotated';

/** The file that a command appends to, in LOG_DIR. */
export const REVOCATIONS_FILE = 'hq-revocations.log';

/** The line in the log of a server. */
export function logEnd(log: Log, message: Extract<LinkMessage, { type: 'revoked' | 'rotated' }>): void {
  if (message.type === 'revoked') {
    const { store, kids, actor, reason } = message;
    log.warn('credentials revoked', { event: REVOKED_EVENT, store, kids, actor, reason });
  } else {
    const { store, kids, actor, by, until } = message;
    log.info('credential replaced', { event: ROTATED_EVENT, store, kids, actor, by, until });
  }
}

const kids = z.array(z.string().regex(/^[A-Z2-9]{4,16}$/)).max(1_000);
const store = z.string().min(1).max(200);
const lineSchema = z.discriminatedUnion('event', [
  z.object({ event: z.literal(REVOKED_EVENT), store, kids }),
  z.object({ event: z.literal(ROTATED_EVENT), store, kids, until: z.string().max(40).nullable() }),
]);

export interface LoggedEnd {
  readonly code: string;
  readonly kids: readonly string[];
  /** Until when they were still to be taken; null = ended at once. */
  readonly until: string | null;
}

/** The ends of credentials in a log of HQ: every other line is passed over, and so is a line cut off by a crash. */
export function endsIn(log: string): LoggedEnd[] {
  return log.split('\n').flatMap((line) => {
    if (!line.includes('"token.r')) return [];
    const parsed = lineSchema.safeParse(jsonOf(line));
    if (!parsed.success) return [];
    const { data } = parsed;
    return [{ code: data.store, kids: data.kids, until: data.event === ROTATED_EVENT ? data.until : null }];
  });
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
