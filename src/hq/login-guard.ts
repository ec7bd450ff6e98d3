/**
 * Refused credentials cost a bounded amount, and nobody can lock out somebody else by sending them.
 *
 *   credential ─ kid and hash are in the book ────────────────────────────────▶ in, whatever others do
 *              └ not in the book ─▶ bucket of the address, of the kid, of all ─┬▶ looked up; given back if it was good
 *                                                                             └▶ PS-LOGIN-LIMIT, without a query
 *
 * The book holds kid and SHA-256 of every token in force. So a store behind the same NAT as somebody who tries
 * credentials comes in while he does not, and a store whose kid he uses comes in with its own secret. What is too new
 * for the book waits for the next reading at most.
 */
import { toPossyncError } from '../core/classify.ts';
import type { Clock } from '../core/clock.ts';
import { PossyncError, type ErrorCode } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { Repeated } from '../core/repeated.ts';
import { hashSecret, parseCredential, parseEnrolmentToken, sameHash, type Secret } from '../core/secret.ts';
import type { Service } from '../core/service.ts';
import { addressKey, Buckets } from './buckets.ts';

/** What the token table says is in force. */
export interface KnownToken {
  readonly kid: string;
  readonly hash: Buffer;
}

export interface LoginGuardOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** Every token in force. */
  readonly read: () => Promise<readonly KnownToken[]>;
  /** Somebody was not let in, and why. */
  readonly refused?: ((code: ErrorCode) => void) | undefined;
}

/** A shop with a dozen wrong tokens is a bad day; sixty a minute from one place is somebody who tries. */
const ADDRESS = { burst: 60, perSecond: 1 } as const;
/** Wrong secrets under one kid. */
const KID = { burst: 10, perSecond: 0.1 } as const;
/** From everywhere together: the queries that unknown credentials may cost. */
const ALL = { burst: 500, perSecond: 100 } as const;
const BOOK_MS = 10_000;
/** The same attack is one line a minute. */
const WARN_MS = 60_000;

export class LoginGuard implements Service {
  readonly name = 'login guard';
  readonly #options: LoginGuardOptions;
  readonly #addresses: Buckets;
  readonly #kids: Buckets;
  readonly #all: Buckets;
  #book: ReadonlyMap<string, Buffer> = new Map();
  #reading: Promise<void> | undefined;
  #again = false;
  readonly #readings: Repeated;
  #warnedMs = -Infinity;
  #refused = 0;

  constructor(options: LoginGuardOptions) {
    const { clock } = options;
    this.#options = options;
    this.#addresses = new Buckets({ ...ADDRESS, clock });
    this.#kids = new Buckets({ ...KID, clock });
    this.#all = new Buckets({ ...ALL, clock, keys: 1 });
    this.#readings = new Repeated({ name: this.name, clock, everyMs: BOOK_MS, work: () => this.refresh() });
  }

  async start(): Promise<void> {
    await this.refresh();
    this.#readings.start();
  }

  stop(): void {
    this.#readings.stop();
  }

  /** Keys remembered of addresses and kids: bounded, whatever is sent. */
  get remembered(): number {
    return this.#addresses.size + this.#kids.size;
  }

  /** Reads the book again; several calls at once are one reading, and one more after it. */
  async refresh(): Promise<void> {
    if (this.#reading !== undefined) {
      this.#again = true;
      return this.#reading;
    }
    this.#reading = this.#read();
    await this.#reading;
    this.#reading = undefined;
    if (!this.#again) return;
    this.#again = false;
    await this.refresh();
  }

  /** Runs `work` for whoever sends this credential from that address; throws PS-LOGIN-LIMIT or what `work` throws. */
  async credential<T>(
    bearer: string | undefined,
    address: string | undefined,
    work: (bearer: string) => Promise<T>,
  ): Promise<T> {
    return await this.#counted(() => this.#admit(address, bearer, parseCredential, work));
  }

  /** The same for an enrolment token. */
  async enrolment<T>(
    token: string,
    address: string | undefined,
    work: (token: string) => Promise<T>,
  ): Promise<T> {
    return await this.#counted(() => this.#admit(address, token, parseEnrolmentToken, work));
  }

  async #counted<T>(admit: () => Promise<T>): Promise<T> {
    try {
      return await admit();
    } catch (error) {
      const { code } = toPossyncError(error);
      if (/^PS-(TOKEN-|LOGIN-|STORE-)/.test(code)) this.#options.refused?.(code);
      throw error;
    }
  }

  async #admit<T>(
    address: string | undefined,
    text: string | undefined,
    parse: (text: string) => { readonly kid: string; readonly secret: Secret },
    work: (text: string) => Promise<T>,
  ): Promise<T> {
    const from = addressKey(address);
    if (text === undefined) {
      this.#take([[this.#addresses, from]], from);
      throw new PossyncError('PS-TOKEN-UNKNOWN', 'no credential was sent', {
        why: 'the header "authorization: Bearer …" is missing',
      });
    }
    let proof: ReturnType<typeof parse>;
    try {
      proof = parse(text);
    } catch (error) {
      this.#take([[this.#addresses, from]], from);
      throw error;
    }
    const known = this.#book.get(proof.kid);
    if (known !== undefined && sameHash(known, hashSecret(proof.secret))) return await work(text);
    const taken = this.#take(
      [
        [this.#addresses, from],
        [this.#kids, proof.kid],
        [this.#all, ''],
      ],
      from,
    );
    try {
      const result = await work(text);
      taken.giveBack();
      return result;
    } catch (error) {
      // Only a refusal counts: a database that is away is no fault of the store.
      if (!toPossyncError(error).code.startsWith('PS-TOKEN-')) taken.giveBack();
      throw error;
    }
  }

  /** One from each bucket, or none and PS-LOGIN-LIMIT. */
  #take(wanted: readonly (readonly [Buckets, string])[], from: string): { giveBack: () => void } {
    const taken: (readonly [Buckets, string])[] = [];
    const giveBack = (): void => {
      for (const [buckets, key] of taken) buckets.giveBack(key);
    };
    for (const [buckets, key] of wanted) {
      const retryMs = buckets.take(key);
      if (retryMs > 0) {
        giveBack();
        this.#warn(from);
        throw new PossyncError(
          'PS-LOGIN-LIMIT',
          'too many credentials were refused; this one was not looked at',
          {
            details: { retryMs: Math.max(1_000, retryMs) },
          },
        );
      }
      taken.push([buckets, key]);
    }
    return { giveBack };
  }

  #warn(address: string): void {
    const { clock, log } = this.#options;
    this.#refused += 1;
    if (clock.now() - this.#warnedMs < WARN_MS) return;
    this.#warnedMs = clock.now();
    log.warn('somebody sends credentials that HQ does not know', {
      code: 'PS-LOGIN-LIMIT',
      address,
      refused: this.#refused,
    });
    this.#refused = 0;
  }

  async #read(): Promise<void> {
    try {
      this.#book = new Map((await this.#options.read()).map(({ kid, hash }) => [kid, hash]));
    } catch (error) {
      // The book as it was: whoever is in it comes in, as far as the database lets him.
      this.#options.log.debug('the tokens in force could not be read', { err: error });
    }
  }
}
