/** What a failed attempt, a closing code or a refusal of HQ means for the link: reason, pace, and whether HTTP may work. */
import * as z from 'zod';
import { PossyncError, type ErrorCode } from '../../core/errors.ts';
import { CLOSE } from '../../protocol/http.ts';
import type { Refuse } from '../../protocol/messages.ts';
import { retryMsOf } from './hq-client.ts';
import type { Failure } from './state.ts';

/** HQ will not serve this credential or this program: only a person can change that. */
const REFUSED: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'PS-TOKEN-GARBLED',
  'PS-TOKEN-UNKNOWN',
  'PS-TOKEN-REVOKED',
  'PS-TOKEN-EXPIRED',
  'PS-TOKEN-STORE',
  'PS-STORE-DISABLED',
  'PS-VER-INCOMPATIBLE',
  'PS-HTTP-OTHERHQ',
]);

/** A far side that is wrong about time must not silence a store: no request to stay away is longer than this. */
const FLOOR_MAX_MS = 60_000;

const returnSchema = z.object({ retry_ms: z.int().nonnegative() });

/** A failure by its error; `httpMayWork` where the network is fine as far as HTTP. */
export function failureOf(error: PossyncError, httpMayWork = false): Failure {
  return {
    reason: {
      code: error.code,
      message: error.why === undefined ? error.message : `${error.message}: ${error.why}`,
    },
    pace: error.retry === 'minutes' || REFUSED.has(error.code) ? 'minutes' : 'backoff',
    refused: REFUSED.has(error.code),
    floorMs: Math.min(retryMsOf(error) ?? 0, FLOOR_MAX_MS),
    httpMayWork,
  };
}

/** The refuse frame: the reason that the closing code after it only repeats. */
export function refusalFailure({ code, detail }: Refuse): Failure {
  return failureOf(refusalError(code, detail));
}

function refusalError(code: Refuse['code'], detail: string): PossyncError {
  switch (code) {
    case 'epoch':
      return new PossyncError('PS-UP-EPOCH', 'another epoch of this store is in force at HQ', {
        why: detail,
      });
    case 'other_instance_alive':
      return new PossyncError('PS-OTHER-INSTANCE', 'another machine is connected as this store', {
        why: detail,
      });
    case 'revoked':
      return new PossyncError('PS-TOKEN-REVOKED', 'the credential was revoked at HQ', { why: detail });
    case 'disabled':
      return new PossyncError('PS-STORE-DISABLED', 'the store was deactivated at HQ', { why: detail });
    case 'upgrade':
      return new PossyncError('PS-VER-INCOMPATIBLE', 'HQ and store speak no common protocol', {
        why: detail,
      });
    case 'store':
      return new PossyncError('PS-TOKEN-STORE', 'the credential belongs to another store', { why: detail });
    case 'not_ready':
      return new PossyncError('PS-HQ-NOTREADY', 'HQ is up but not ready', { why: detail });
  }
}

/** The end of an open socket; `greeted` = HQ had welcomed it. */
export function closeFailure(code: number, reason: string, greeted: boolean): Failure {
  const asked = returnSchema.safeParse(jsonOf(reason)).data?.retry_ms;
  const floorMs = Math.min(asked ?? 0, FLOOR_MAX_MS);
  // A wait that HQ asks for is for this program; a person would take its JSON for a fault.
  const word = asked === undefined && reason !== '' ? `, ${reason.slice(0, 120)}` : '';
  const why = `closing code ${code}${word}`;
  // A socket that ends before its welcome, with no word from HQ: something between that dislikes WebSocket.
  const httpMayWork = !greeted && (code === 1006 || code === 1005);
  return { ...failureOf(closeError(code, reason, why), httpMayWork), floorMs };
}

function closeError(code: number, reason: string, why: string): PossyncError {
  switch (code) {
    case CLOSE.tokenRefused:
      return reason === 'expired'
        ? new PossyncError('PS-TOKEN-EXPIRED', 'the credential has expired', { why })
        : new PossyncError('PS-TOKEN-REVOKED', 'the credential was revoked at HQ', { why });
    case CLOSE.forbidden:
      return reason === 'disabled'
        ? new PossyncError('PS-STORE-DISABLED', 'the store was deactivated at HQ', { why })
        : new PossyncError('PS-TOKEN-STORE', 'HQ does not serve this store here', { why });
    case CLOSE.version:
      return new PossyncError('PS-VER-INCOMPATIBLE', 'HQ and store speak no common protocol', { why });
    case CLOSE.badFrame:
      return new PossyncError('PS-PROTOCOL', 'HQ did not understand a frame', { why });
    case CLOSE.silent:
      return new PossyncError('PS-WS-SILENT', 'HQ heard nothing from here for 10 s', { why });
    case CLOSE.replaced:
      return new PossyncError('PS-FENCED', 'a newer connection of this store took over', { why });
    case CLOSE.slowDown:
      return new PossyncError('PS-HQ-BUSY', 'HQ asks to slow down', { why });
    case CLOSE.restarting:
    case CLOSE.goingAway:
      return new PossyncError('PS-WS-CLOSED', 'HQ restarts', { why });
    default:
      return new PossyncError('PS-WS-CLOSED', 'the connection to HQ was cut', { why });
  }
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // an ordinary reason
  }
}
