/**
 * When the end of a credential or a certificate is worth a warning: the same rule in the log, in `status` and at both ends.
 *
 * A credential is renewed by its store after two thirds of its life: one that has less than a quarter left was not. A
 * certificate is renewed by people: a third of its life, or 30 days.
 */
import type { ReasonView } from './status.ts';

const DAY_MS = 86_400_000;
const LIMITS = {
  credential: {
    atMostMs: 14 * DAY_MS,
    share: 1 / 4,
    what: 'the credential',
    soon: 'PS-TOKEN-EXPIRING',
    over: 'PS-TOKEN-EXPIRED',
    hint: 'renew it in the store: possync token rotate; or at HQ: possync token rotate CODE',
    overHint: 'get a fresh enrolment token from HQ and run: possync store init --token-file FILE',
  },
  certificate: {
    atMostMs: 30 * DAY_MS,
    share: 1 / 3,
    what: "HQ's certificate",
    soon: 'PS-TLS-EXPIRING',
    over: 'PS-TLS-EXPIRED',
    hint: 'renew the certificate of HQ, then: kill -HUP (no store is dropped)',
    overHint: 'renew the certificate of HQ, then: kill -HUP; stores reconnect by themselves',
  },
} as const;

/** null = nothing to say. `beganAt` unknown: the limit in days alone counts. */
export function expiryWarning(
  kind: keyof typeof LIMITS,
  beganAt: string | null | undefined,
  endsAt: string | null | undefined,
  nowMs: number,
): ReasonView | null {
  if (endsAt == null) return null;
  const { atMostMs, share, what, soon, over, hint, overHint } = LIMITS[kind];
  const endMs = Date.parse(endsAt);
  const leftMs = endMs - nowMs;
  if (leftMs <= 0) return { code: over, message: `${what} has expired (${day(endMs)})`, hint: overHint };
  const lifeMs = beganAt == null ? Infinity : Math.max(0, endMs - Date.parse(beganAt));
  if (leftMs > Math.min(atMostMs, lifeMs * share)) return null;
  return { code: soon, message: `${what} expires in ${leftOf(leftMs)} (${day(endMs)})`, hint };
}

function leftOf(ms: number): string {
  if (ms < 3_600_000) return `${Math.max(1, Math.round(ms / 60_000))} min`;
  return ms < 2 * DAY_MS ? `${Math.round(ms / 3_600_000)} h` : `${Math.floor(ms / DAY_MS)} days`;
}

function day(ms: number): string {
  return new Date(ms).toISOString().slice(0, 16).replace('T', ' ');
}
