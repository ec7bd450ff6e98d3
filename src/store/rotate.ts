/**
 * `token rotate`: the store replaces its own credential and is never without one that HQ takes.
 *
 *   step         on disk                        at HQ                     killed here, the same command again …
 *   pre-flight   a probe written, removed       -                         begins anew
 *   create       credential.next                -                         finds credential.next and uses it
 *   register     .                              new pending               asks again under the same id: same answer
 *   test         .                              .                         tests again
 *   switch       next → credential, old → prev  .                         finds `rotation` in credential, goes on below
 *   confirm      .                              new active, old retiring  asks again: same answer
 *   live         .                              .                         asks the daemon again
 *   finish       `rotation` taken out           old revoked, if asked     -
 *
 * In every row HQ takes the credential that is on disk. HQ sees no secret but in the header of requests made with it.
 */
import { randomUUID } from 'node:crypto';
import { unlink } from 'node:fs/promises';
import type { Clock } from '../core/clock.ts';
import { PossyncError } from '../core/errors.ts';
import type { ProxySettings } from '../core/proxy.ts';
import { writeSecretFile } from '../core/secret-file.ts';
import { formatCredential, hashSecret, newKid, newSecret, parseCredential } from '../core/secret.ts';
import type { Whoami } from '../protocol/diag.ts';
import type { RotationAnswer } from '../protocol/messages.ts';
import {
  credentialPath,
  readCredential,
  readNext,
  saveCredential,
  saveNext,
  switchToNext,
  tidyPrevious,
  type RotationNote,
  type StoreCredential,
} from './credential.ts';
import { clientFor } from './link/client-for.ts';
import type { HqClient } from './link/hq-client.ts';
import { HqSocket } from './link/socket.ts';
import type { TakenUp } from './local-api.ts';
import { withTokenLock } from './token-lock.ts';

export type RotationStep =
  'pre-flight' | 'created' | 'registered' | 'tested' | 'switched' | 'confirmed' | 'live' | 'finished';

export interface RotateOptions {
  readonly stateDir: string;
  readonly clock: Clock;
  /** In place of the address in the credential. */
  readonly hqUrl?: string | undefined;
  readonly caFile?: string | undefined;
  readonly proxies?: ProxySettings | undefined;
  readonly graceMs: number;
  /** null = as HQ is set. */
  readonly expiresInMs: number | null;
  /** Whether a new rotation is to begin, by what HQ says of the credential in force; an unfinished one is finished anyway. */
  readonly needed?: (me: Whoami) => boolean;
  /** Who rotates: what others are told that find the lock. */
  readonly command?: string;
  readonly revokeOldNow: boolean;
  readonly dryRun: boolean;
  /** Gives up a rotation that HQ knows and this machine does not. */
  readonly force: boolean;
  readonly signal: AbortSignal;
  /** Makes the daemon take the credential up; undefined = none runs. */
  readonly takeUp: () => Promise<TakenUp | undefined>;
  readonly step: (name: RotationStep, note: string) => void;
}

export interface RotateResult {
  readonly result: 'rotated' | 'resumed' | 'not_needed' | 'dry_run';
  readonly rotationId: string | null;
  readonly storeId: number;
  readonly code: string;
  readonly old: { readonly kid: string; readonly validUntil: string | null };
  readonly new: { readonly kid: string | null; readonly expiresAt: string | null };
  /** 0: the open connection went on under the new credential; null: no connection was open, or it was made anew. */
  readonly offlineMs: 0 | null;
}

/** Throws PS-NOT-ENROLLED, PS-TOKEN-SAVE, PS-TOKEN-BUSY, and what keeps HQ from being reached or from taking the token. */
export async function rotateCredential(options: RotateOptions): Promise<RotateResult> {
  const { stateDir } = options;
  // Before the lock: a directory that is not there is not a directory that cannot be written.
  if ((await readCredential(stateDir)) === undefined) throw notEnrolled();
  return await withTokenLock(stateDir, options.command ?? 'possync token rotate', async () => {
    const current = await readCredential(stateDir);
    if (current === undefined) throw notEnrolled();
    return await new RotationRun(options, current).run();
  });
}

class RotationRun {
  readonly #options: RotateOptions;
  readonly #current: StoreCredential;

  constructor(options: RotateOptions, current: StoreCredential) {
    this.#options = options;
    this.#current = current;
  }

  async run(): Promise<RotateResult> {
    const { dryRun, needed = () => true, stateDir, clock } = this.#options;
    const current = this.#current;
    await this.#probe();
    const me = await this.#whoami(current);
    if (current.rotation !== undefined) return await this.#goOn(current, current.rotation, 'resumed');
    const begun = await readNext(stateDir, current);
    await tidyPrevious(stateDir, current, clock.now());
    const untouched = {
      rotationId: null,
      storeId: current.storeId,
      code: current.code,
      old: { kid: current.kid, validUntil: me.expires_at ?? null },
      new: { kid: null, expiresAt: null },
      offlineMs: null,
    } as const;
    if (begun === undefined && !needed(me)) return { result: 'not_needed', ...untouched };
    if (dryRun) return { result: 'dry_run', ...untouched };
    const next = begun ?? (await this.#create());
    const { rotation } = next;
    if (rotation === undefined) throw new PossyncError('PS-INTERNAL', 'a rotation without its note');
    await this.#register(next, rotation);
    await this.#test(next);
    await switchToNext(stateDir, current);
    this.#options.step('switched', `${credentialPath(stateDir)} replaced atomically`);
    return await this.#goOn(next, rotation, begun === undefined ? 'rotated' : 'resumed');
  }

  /** Before HQ is asked for anything: can a new credential be saved at all? */
  async #probe(): Promise<void> {
    const path = `${credentialPath(this.#options.stateDir)}.probe`;
    try {
      await writeSecretFile(path, 'probe\n');
      await unlink(path);
    } catch (error) {
      throw new PossyncError('PS-TOKEN-SAVE', `cannot save a new token in ${this.#options.stateDir}`, {
        why: `${error instanceof PossyncError ? (error.why ?? error.message) : String(error)}; checked before anything was asked of HQ: nothing changed`,
        cause: error,
      });
    }
  }

  async #whoami(credential: StoreCredential): Promise<Whoami> {
    const { clock, signal, step } = this.#options;
    const asked = clock.now();
    const me = await this.#with(credential, (client) => client.whoami(signal));
    this.#checkStore(me, credential);
    const skew = Date.parse(me.hq.now) - (asked + clock.now()) / 2;
    const seconds = (Math.round(skew / 100) / 10 + 0).toFixed(1); // + 0: never -0.0
    step(
      'pre-flight',
      `token directory writable · HQ answers · clock ${seconds.startsWith('-') ? '' : '+'}${seconds}s`,
    );
    return me;
  }

  #checkStore(me: Whoami, { storeId, kid }: StoreCredential): void {
    if (me.store.id !== storeId || me.kid !== kid)
      throw new PossyncError('PS-TOKEN-STORE', 'HQ takes this credential for that of another store', {
        why: `HQ says store ${me.store.code}, kid ${me.kid}`,
      });
  }

  async #create(): Promise<StoreCredential> {
    const { stateDir, clock, graceMs, expiresInMs, revokeOldNow, step } = this.#options;
    const kid = newKid();
    const next: StoreCredential = {
      ...withoutHistory(this.#current),
      token: formatCredential({ kid, secret: newSecret(kid) }),
      kid,
      issuedAt: new Date(clock.now()).toISOString(),
      rotation: {
        id: randomUUID(),
        old_kid: this.#current.kid,
        grace_ms: graceMs,
        expires_in_ms: expiresInMs,
        revoke_old_now: revokeOldNow,
      },
    };
    await saveNext(stateDir, next);
    step('created', `kid ${kid}, saved here first (0600); HQ is told only its SHA-256`);
    return next;
  }

  async #register(next: StoreCredential, note: RotationNote): Promise<void> {
    const { force, signal, step } = this.#options;
    await this.#with(this.#current, (client) =>
      client.rotate(
        {
          id: note.id,
          kid: next.kid,
          hash: hashSecret(parseCredential(next.token.reveal()).secret).toString('hex'),
          expiresInMs: note.expires_in_ms,
          graceMs: note.grace_ms,
          replace: force,
        },
        signal,
      ),
    );
    step('registered', `HQ now accepts ${next.kid} beside ${note.old_kid}`);
  }

  async #test(next: StoreCredential): Promise<void> {
    const { signal, step } = this.#options;
    const socket = await this.#with(next, async (client) => {
      this.#checkStore(await client.whoami(signal), next);
      return await this.#testSocket(client);
    });
    step(
      'tested',
      socket ? `HTTP and WebSocket both accept ${next.kid}` : `HTTP accepts ${next.kid}; no WebSocket here`,
    );
  }

  /** false where WebSocket does not get through at all: that says nothing about the credential. */
  async #testSocket(client: HqClient): Promise<boolean> {
    return await new Promise<boolean>((resolve, reject) => {
      const ended = (failure: { refused: boolean; reason: { code: string; message: string } }): void => {
        if (failure.refused)
          reject(
            new PossyncError('PS-TOKEN-UNKNOWN', `HQ refuses the new credential: ${failure.reason.message}`),
          );
        else resolve(false);
      };
      const socket = new HqSocket(client, this.#options.clock, {
        opened: () => {
          resolve(true);
          socket.drop('bye');
        },
        frame: () => undefined,
        life: () => undefined,
        failed: ended,
        closed: ended,
        silent: () => {
          resolve(false);
        },
      });
    });
  }

  /** From the switch on: the new credential is the one on disk, and HQ takes it. */
  async #goOn(
    next: StoreCredential,
    note: RotationNote,
    result: 'rotated' | 'resumed',
  ): Promise<RotateResult> {
    const { stateDir, signal, step, takeUp } = this.#options;
    let answer = await this.#with(next, (client) => client.rotated(note.id, 'confirm', signal));
    step('confirmed', `${next.kid} is in force at HQ`);
    const taken = await takeUp();
    const live = taken?.kid === next.kid && taken.in_band;
    step('live', liveNote(taken, next.kid, live));
    const revoke = note.revoke_old_now || this.#options.revokeOldNow;
    if (revoke) answer = await this.#with(next, (client) => client.rotated(note.id, 'finish', signal));
    const done: StoreCredential = {
      ...withoutHistory(next),
      expiresAt: answer.new.expiresAt,
      ...(next.issuedAt === undefined ? {} : { issuedAt: next.issuedAt }),
      ...(revoke ? {} : { previous: { kid: note.old_kid, until: answer.old.validUntil } }),
    };
    await saveCredential(stateDir, done);
    await tidyPrevious(stateDir, done, this.#options.clock.now());
    step('finished', finishNote(answer, revoke));
    return {
      result,
      rotationId: note.id,
      storeId: next.storeId,
      code: next.code,
      old: answer.old,
      new: answer.new,
      offlineMs: live ? 0 : null,
    };
  }

  async #with<T>(credential: StoreCredential, work: (client: HqClient) => Promise<T>): Promise<T> {
    const client = clientFor(credential, this.#options);
    try {
      return await work(client);
    } finally {
      client.close();
    }
  }
}

/** By HQ's clock, which is the one that ends it. */
export function expiresWithin(withinMs: number): (me: Whoami) => boolean {
  return ({ expires_at, hq }) =>
    expires_at != null && Date.parse(expires_at) <= Date.parse(hq.now) + withinMs;
}

/** The same store at the same HQ; what belongs to one token and its rotation is left out. */
function withoutHistory(credential: StoreCredential): StoreCredential {
  const { token, kid, hqUrl, hqId, storeId, code, name, enrolledWith, caFile, allowPlaintext } = credential;
  return {
    token,
    kid,
    hqUrl,
    hqId,
    storeId,
    code,
    name,
    enrolledWith,
    ...(caFile === undefined ? {} : { caFile }),
    ...(allowPlaintext === undefined ? {} : { allowPlaintext }),
  };
}

function liveNote(taken: TakenUp | undefined, kid: string, live: boolean): string {
  if (taken === undefined) return 'no daemon runs; it will use the new one';
  if (live) return 'live connection re-authenticated · 0 s offline';
  return taken.kid === kid
    ? `the daemon uses it; its light is ${taken.indicator}`
    : 'the daemon has not taken it up yet; both are accepted meanwhile';
}

function finishNote({ old }: RotationAnswer, revoked: boolean): string {
  return revoked ? `${old.kid} is revoked` : `${old.kid} works until ${old.validUntil ?? 'it is revoked'}`;
}

function notEnrolled(): PossyncError {
  return new PossyncError('PS-NOT-ENROLLED', 'there is no credential here to rotate');
}
