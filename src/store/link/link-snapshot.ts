/** The link as status shows it, in the daemon and in its database. */
import type { ClockSkew } from './clock-skew.ts';
import type { Reason, SessionKind, StateName } from './state.ts';

export interface CertificateLife {
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** What status shows of the link. */
export interface LinkSnapshot {
  readonly indicator: 'green' | 'red';
  readonly state: StateName;
  readonly session: SessionKind;
  readonly sinceMs: number;
  readonly lastFrameMs: number | null;
  readonly rttMs: number | null;
  /** Of the present connection; null until HQ has told its time. */
  readonly skew: ClockSkew | null;
  readonly reason: Reason | null;
  /** When the daemon's own diagnosis found this reason; null: it is what the last attempt met. */
  readonly diagnosedMs: number | null;
  readonly attempt: number;
  readonly nextAttemptMs: number | null;
  readonly hqUrl: string | null;
  readonly hqVersion: string | null;
  readonly hqHead: number | null;
  /** HQ's certificate as it was last seen; null without TLS. */
  readonly tls: CertificateLife | null;
}
