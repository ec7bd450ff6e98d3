/**
 * The daemon rotates its own credential, by the same steps as the command, when one of these is so:
 *
 *   HQ ordered it          a frame, or the welcome after an absence ─▶ at once, and HQ is told what came of it
 *   two thirds of its life are over (less up to a twentieth, by kid: stores enrolled on one day renew on many)
 *   a rotation was begun and left by a crash more than a minute ago ─▶ finished
 *
 * What this machine's clock says is only a reason to ask: whether it is time, HQ's clock decides.
 */
import type { ProxySettings } from '../core/proxy.ts';
import { createHash } from 'node:crypto';
import { toPossyncError } from '../core/classify.ts';
import type { Clock } from '../core/clock.ts';
import type { PossyncError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Service } from '../core/service.ts';
import type { Whoami } from '../protocol/diag.ts';
import { ROTATION_GRACE_MS } from '../protocol/http.ts';
import type { RotationOrder, RotationReport } from '../protocol/messages.ts';
import { expiryWarning } from '../protocol/expiry.ts';
import { readCredential, readNext, type StoreCredential } from './credential.ts';
import type { TakenUp } from './local-api.ts';
import { rotateCredential, type RotateResult } from './rotate.ts';

export interface RenewalOptions {
  readonly stateDir: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly hqUrl: string | undefined;
  readonly proxies: ProxySettings | undefined;
  readonly caFile: string | undefined;
  /** The daemon uses the credential file as it is now. */
  readonly takeUp: () => Promise<TakenUp>;
  /** What came of an order, over the open connection; lost, it costs HQ a line in a table. */
  readonly report: (report: RotationReport) => void;
  /** Until when HQ's certificate is good, as the link last saw it. */
  readonly certificate: () => { readonly notBeforeMs: number; readonly notAfterMs: number } | null;
  /** A rotation that really was one, or that failed. */
  readonly rotated?: (result: 'rotated' | 'failed') => void;
  /** How often the credential is looked at. */
  readonly lookMs?: number;
}

const LOOK_MS = 3_600_000;
/** A day has many looks; a warning is read once. */
const WARN_EVERY_MS = 86_400_000;
/** A rotation that a command is busy with is left alone. */
const LEFT_BEHIND_MS = 60_000;
const ROTATE_MS = 60_000;

export class Renewal implements Service {
  readonly name = 'renewal of the credential';
  readonly #options: RenewalOptions;
  #stopping = new AbortController();
  #order: RotationOrder | undefined;
  #running: Promise<void> | undefined;
  #cancel: () => void = () => undefined;
  #said: string | undefined;
  #warnedMs = -Infinity;
  #lookSoon = false;
  /** An unfinished rotation and when it was first seen. */
  #unfinished: { readonly kid: string; readonly sinceMs: number } | undefined;

  constructor(options: RenewalOptions) {
    this.#options = options;
  }

  start(): void {
    this.#stopping = new AbortController();
    this.#planSoon();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#cancel();
    await this.#running;
  }

  /** HQ wants it. The same order may come many times, and while it is being carried out. */
  ordered(order: RotationOrder): void {
    this.#order = order;
    this.#begin();
  }

  /** The credential in use has a rotation that is not finished: whoever began it gets a moment to end it. */
  unfinished(): void {
    this.#lookSoon = true; // also where it is seen while we are at work on it ourselves, and that fails
    if (this.#running === undefined && !this.#stopping.signal.aborted) this.#planSoon();
  }

  /** When what was left behind may be taken up, or earlier: never later than a look would be anyway. */
  #planSoon(): void {
    this.#plan(Math.min(LEFT_BEHIND_MS, this.#options.lookMs ?? LOOK_MS));
  }

  #plan(afterMs: number): void {
    this.#cancel();
    this.#cancel = this.#options.clock.after(afterMs, () => {
      this.#begin();
    });
  }

  /** One at a time; what comes meanwhile is looked at afterwards. */
  #begin(): void {
    if (this.#running !== undefined || this.#stopping.signal.aborted) return;
    this.#running = this.#look().finally(() => {
      this.#running = undefined;
      if (this.#stopping.signal.aborted) return;
      if (this.#order !== undefined) this.#begin();
      else if (this.#lookSoon || this.#unfinished !== undefined) this.#planSoon();
      else this.#plan(this.#options.lookMs ?? LOOK_MS);
    });
  }

  async #look(): Promise<void> {
    const order = this.#order;
    this.#order = undefined;
    this.#lookSoon = false;
    const { clock, stateDir } = this.#options;
    try {
      const credential = await readCredential(stateDir);
      if (credential === undefined) return;
      this.#warn(credential);
      if (order !== undefined) await this.#carryOut(order, credential);
      else if (await this.#leftBehind(credential))
        await this.#rotate({ graceMs: ROTATION_GRACE_MS, needed: () => false }, 'an unfinished rotation');
      else if (mayBeDue(credential, clock.now()))
        await this.#rotate({ graceMs: ROTATION_GRACE_MS, needed: isDue }, 'two thirds of its life are over');
      this.#said = undefined;
    } catch (error) {
      this.#failed(toPossyncError(error));
    }
  }

  async #carryOut(order: RotationOrder, credential: StoreCredential): Promise<void> {
    const { report } = this.#options;
    const { id, oldKid, graceMs, expiresInMs, revokeOldNow, replace } = order;
    // Another credential than the one that HQ meant: it was done, perhaps by hand, and HQ will see its first use.
    const done = credential.kid !== oldKid && credential.rotation === undefined;
    try {
      const result = done
        ? undefined
        : await this.#rotate({ graceMs, expiresInMs, revokeOldNow, force: replace }, 'HQ ordered it');
      report({
        type: 'rotation',
        id,
        kid: result?.new.kid ?? credential.kid,
        code: null,
        message: null,
        offlineMs: result?.offlineMs ?? null,
      });
    } catch (error) {
      const { code, message, why } = toPossyncError(error);
      const text = (why === undefined ? message : `${message}: ${why}`).slice(0, 500);
      report({ type: 'rotation', id, kid: credential.kid, code, message: text, offlineMs: null });
      throw error;
    }
  }

  async #rotate(
    what: {
      readonly graceMs: number;
      readonly expiresInMs?: number | null;
      readonly revokeOldNow?: boolean;
      readonly force?: boolean;
      readonly needed?: (me: Whoami) => boolean;
    },
    why: string,
  ): Promise<RotateResult> {
    const { stateDir, clock, log, hqUrl, caFile, proxies, takeUp } = this.#options;
    const result = await rotateCredential({
      stateDir,
      clock,
      hqUrl,
      caFile,
      proxies,
      expiresInMs: null,
      revokeOldNow: false,
      force: false,
      ...what,
      dryRun: false,
      command: 'possync store daemon',
      signal: AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(ROTATE_MS)]),
      takeUp,
      step: (name, note) => {
        log.debug('rotation of the credential', { step: name, note });
      },
    });
    if (result.result === 'rotated' || result.result === 'resumed') {
      this.#options.rotated?.('rotated');
      log.info('the credential was rotated', {
        event: 'token.rotated',
        why,
        old: result.old.kid,
        kid: result.new.kid,
        until: result.new.expiresAt,
      });
    }
    return result;
  }

  /** Begun by somebody who is gone: the same one is seen a minute later. */
  async #leftBehind(credential: StoreCredential): Promise<boolean> {
    const { stateDir, clock } = this.#options;
    const next = credential.rotation === undefined ? await readNext(stateDir, credential) : credential;
    if (next === undefined) {
      this.#unfinished = undefined;
      return false;
    }
    if (this.#unfinished?.kid !== next.kid) this.#unfinished = { kid: next.kid, sinceMs: clock.now() };
    return clock.now() - this.#unfinished.sinceMs >= LEFT_BEHIND_MS;
  }

  /** Once a day, until somebody has done something about it. */
  #warn(credential: StoreCredential): void {
    const { clock, log, certificate } = this.#options;
    const now = clock.now();
    if (now - this.#warnedMs < WARN_EVERY_MS) return;
    const tls = certificate();
    const found = [
      expiryWarning('credential', credential.issuedAt, credential.expiresAt, now),
      tls === null ? null : expiryWarning('certificate', iso(tls.notBeforeMs), iso(tls.notAfterMs), now),
    ].filter((warning) => warning !== null);
    for (const { code, message, hint } of found) log.warn(message, { code, hint });
    if (found.length > 0) this.#warnedMs = now;
  }

  #failed(error: PossyncError): void {
    const { log, rotated } = this.#options;
    rotated?.('failed');
    // The same trouble is one line, not one an hour for weeks.
    log[this.#said === error.code ? 'debug' : 'warn']('the credential could not be rotated', {
      code: error.code,
      err: error,
    });
    this.#said = error.code;
  }
}

/** By what the file says and this machine's clock: only a reason to ask HQ. */
function mayBeDue({ kid, issuedAt, expiresAt }: StoreCredential, nowMs: number): boolean {
  if (expiresAt == null) return false;
  const endMs = Date.parse(expiresAt);
  // Written by an older version, which did not say when it began.
  const beganMs = issuedAt === undefined ? endMs - 45 * 86_400_000 : Date.parse(issuedAt);
  return nowMs >= renewalAt(kid, beganMs, endMs);
}

/** By HQ's clock and what HQ says of it. */
function isDue({ kid, created_at, expires_at, hq }: Whoami): boolean {
  if (expires_at == null || created_at == null) return false;
  return Date.parse(hq.now) >= renewalAt(kid, Date.parse(created_at), Date.parse(expires_at));
}

/** Two thirds of a life, less up to a twentieth: the same for one credential every time. */
export function renewalAt(kid: string, beganMs: number, endMs: number): number {
  const spread = createHash('sha256').update(kid).digest().readUInt32BE(0) / 2 ** 32;
  return beganMs + (endMs - beganMs) * (2 / 3 - spread / 20);
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
