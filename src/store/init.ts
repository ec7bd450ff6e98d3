/**
 * `store init`: this database becomes (or stays) the database of one store, and with a token the store is enrolled.
 *
 *   1 schema, triggers, guards           repeatable
 *   2 secret made and saved              credential.next; before HQ hears of it
 *   3 HQ: token, kid, hash ───▶          HQ spends the token; the same request gets the same answer again
 *   4 database: whose it is              state.store_id, for ever; with --replace the rows to continue from
 *   5 credential saved, .next removed    the daemon takes it up by itself
 *
 * Killed anywhere, or with the reply lost, the same command run again ends with one credential that HQ knows.
 */
import { isAbsolute, resolve } from 'node:path';
import type pg from 'pg';
import { normalizeHqUrl } from '../config/codecs.ts';
import { systemClock } from '../core/clock.ts';
import { PossyncError } from '../core/errors.ts';
import { isLoopback } from '../core/loopback.ts';
import { hashSecret, parseCredential, parseEnrolmentToken, type EnrolmentToken } from '../core/secret.ts';
import { SOFTWARE } from '../core/version.ts';
import type { ProxySettings } from '../core/proxy.ts';
import { installTriggers } from '../db/capture.ts';
import { migrate } from '../db/migrations.ts';
import { saveOwnTypes } from '../db/own-types.ts';
import { createPool } from '../db/pool.ts';
import type { EnrolAnswer } from '../protocol/messages.ts';
import {
  finishPending,
  makeStateDir,
  preparePending,
  readPending,
  readCredential,
  saveCredential,
  type StoreCredential,
} from './credential.ts';
import { readInstance } from './instance.ts';
import { allowSlowAddresses } from './link/http-exchange.ts';
import { HqClient } from './link/hq-client.ts';
import { readStoreIdentity } from './outbox/identity.ts';
import { bindStore, isUntouched, refuseReplacement } from './binding.ts';
import { withTokenLock } from './token-lock.ts';

export interface InitOptions {
  readonly databaseUrl: string | undefined;
  readonly stateDir: string;
  /** The `pse_…` text; without it only the schema is brought up to date. */
  readonly tokenText?: string | undefined;
  readonly replace?: boolean;
  /** In place of the address in the token. */
  readonly hqUrl?: string | undefined;
  readonly proxies?: ProxySettings | undefined;
  readonly caFile?: string | undefined;
  readonly allowPlaintext?: boolean;
  /** The file that describes the chain's own data types; without it those that are kept stay. */
  readonly typesText?: string | undefined;
  readonly signal?: AbortSignal;
  readonly progress?: (step: string) => void;
}

export interface InitResult {
  readonly migrations: readonly string[];
  /** `none`: no token was given and the store is not enrolled. */
  readonly enrolment: 'none' | 'unchanged' | 'enrolled';
  readonly store: { readonly id: number; readonly code: string; readonly name: string } | undefined;
  readonly kid: string | undefined;
  readonly hqUrl: string | undefined;
  /** With `replace`: rows that numbering and open work continue from. */
  readonly continued: number;
}

export async function initStore(options: InitOptions): Promise<InitResult> {
  const { databaseUrl, stateDir, typesText, progress } = options;
  const token = options.tokenText === undefined ? undefined : parseEnrolmentToken(options.tokenText);
  const hqUrl = token === undefined ? undefined : hqAddress(token, options);
  progress?.('setting up the database');
  const migrations = await migrate('store', databaseUrl, async (db) => {
    if (typesText !== undefined) await saveOwnTypes(db, typesText);
    await installTriggers(db, 'store');
  });
  const pool = createPool({ url: databaseUrl, applicationName: 'possync store init', max: 2 });
  try {
    const saved = await readCredential(stateDir);
    await refuseOtherStore(pool, token?.storeCode ?? saved?.code);
    if (token === undefined || hqUrl === undefined) {
      return { migrations, continued: 0, ...describe(saved, saved === undefined ? 'none' : 'unchanged') };
    }
    const again = saved?.enrolledWith === token.kid && saved.code === token.storeCode ? saved : undefined;
    if (again !== undefined && (options.replace !== true || again.replaced === true)) {
      // A database made new beside a kept state directory learns again whose it is.
      await bindStore(pool, { id: again.storeId, code: again.code }, undefined);
      await finishPending(stateDir);
      return { migrations, continued: 0, ...describe(again, 'unchanged') };
    }
    if (options.replace === true && !(await takeoverBegun(pool, stateDir, token.kid)))
      await refuseReplacement(pool);
    progress?.(`enrolling at ${hqUrl}`);
    // A rotation at the same time would give up the secret that is being enrolled, or the other way round.
    await makeStateDir(stateDir);
    return await withTokenLock(stateDir, 'possync store init', async () => {
      // Enrolled without --replace a moment ago: HQ lets the same secret say so afterwards.
      const pending = await preparePending(stateDir, token.kid, {
        replace: options.replace === true,
        known: again,
      });
      const { credential, answer } = await enrolAt(pool, hqUrl, token, pending, {
        ...options,
        caFile: options.caFile ?? caOf(saved, hqUrl),
      });
      const continued = await bindStore(
        pool,
        answer.store,
        options.replace === true ? { epoch: answer.epoch, rows: answer.continuation ?? [] } : undefined,
      );
      await saveCredential(stateDir, credential);
      await finishPending(stateDir);
      return { migrations, continued, ...describe(credential, 'enrolled') };
    });
  } finally {
    await pool.end();
  }
}

function describe(
  credential: StoreCredential | undefined,
  enrolment: InitResult['enrolment'],
): Pick<InitResult, 'enrolment' | 'store' | 'kid' | 'hqUrl'> {
  return {
    enrolment,
    store:
      credential === undefined
        ? undefined
        : { id: credential.storeId, code: credential.code, name: credential.name },
    kid: credential?.kid,
    hqUrl: credential?.hqUrl,
  };
}

/** Where to enrol; a credential must not cross a network in the clear unless somebody says that this one may. */
function hqAddress(token: EnrolmentToken, { hqUrl, allowPlaintext }: InitOptions): string {
  const address = normalizeHqUrl(hqUrl ?? token.hqUrl);
  if (address === undefined)
    throw new PossyncError('PS-TOKEN-GARBLED', 'the token names no address of HQ that can be used');
  const { protocol, hostname } = new URL(address);
  if (protocol === 'http:' && !isLoopback(hostname) && allowPlaintext !== true)
    throw new PossyncError('PS-CFG-PLAINTEXT', `HQ's address ${address} is not encrypted`, {
      why: 'the credential and every sale would cross the network in the clear',
    });
  return address;
}

/**
 * A takeover with this token was killed after it had bound the database: the sales found here are then those that HQ
 * sent to continue from, and the same again changes nothing.
 */
async function takeoverBegun(pool: pg.Pool, stateDir: string, enrolmentKid: string): Promise<boolean> {
  const pending = await readPending(stateDir, enrolmentKid);
  return pending?.replace === true && (await readStoreIdentity(pool)) !== undefined;
}

async function refuseOtherStore(pool: pg.Pool, code: string | undefined): Promise<void> {
  const bound = await readStoreIdentity(pool);
  if (bound === undefined || code === undefined || bound.code === code) return;
  throw new PossyncError('PS-TOKEN-STORE', `this database belongs to store ${bound.code}, not to ${code}`, {
    hint: `use a token of store ${bound.code}, or another database for store ${code}`,
  });
}

/** The same HQ is trusted as before: whoever brings a fresh token to a store need not know its authority again. */
function caOf(saved: StoreCredential | undefined, hqUrl: string): string | undefined {
  return saved !== undefined && new URL(saved.hqUrl).host === new URL(hqUrl).host ? saved.caFile : undefined;
}

async function enrolAt(
  pool: pg.Pool,
  hqUrl: string,
  token: EnrolmentToken,
  pending: Pick<StoreCredential, 'token' | 'kid'>,
  { tokenText = '', caFile, allowPlaintext, proxies, replace, signal }: InitOptions,
): Promise<{ credential: StoreCredential; answer: EnrolAnswer }> {
  // The daemon may run in another directory.
  const ca = caFile === undefined ? undefined : isAbsolute(caFile) ? caFile : resolve(caFile);
  allowSlowAddresses();
  const client = new HqClient({
    url: hqUrl,
    software: SOFTWARE,
    proxies,
    ...(ca === undefined ? {} : { caFile: ca }),
  });
  try {
    const answer = await client.enrol(
      {
        token: tokenText.trim(),
        kid: pending.kid,
        hash: hashSecret(parseCredential(pending.token.reveal()).secret).toString('hex'),
        instance: await readInstance(pool),
        software: SOFTWARE,
        replace: replace === true,
        empty: await isUntouched(pool),
      },
      signal,
    );
    const { id, code, name } = answer.store;
    return {
      answer,
      credential: {
        token: pending.token,
        kid: pending.kid,
        hqUrl,
        hqId: answer.hq.id,
        storeId: id,
        code,
        name,
        enrolledWith: token.kid,
        expiresAt: answer.expiresAt,
        issuedAt: new Date(systemClock.now()).toISOString(),
        ...(replace === true ? { replaced: true } : {}),
        ...(ca === undefined ? {} : { caFile: ca }),
        ...(allowPlaintext === true ? { allowPlaintext } : {}),
      },
    };
  } finally {
    client.close();
  }
}
