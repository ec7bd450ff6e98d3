/** Tokens at HQ: hashes only. Issuing, listing, and the check that every request of a store goes through. */
import type pg from 'pg';
import { normalizeHqUrl } from '../../config/codecs.ts';
import { systemClock } from '../../core/clock.ts';
import { PossyncError } from '../../core/errors.ts';
import { Joint } from '../../core/joint.ts';
import {
  formatEnrolmentToken,
  hashSecret,
  newKid,
  newSecret,
  parseCredential,
  sameHash,
  type Secret,
} from '../../core/secret.ts';
import { queryMaybe, queryOne, withTransaction, type Queryable } from '../../db/transaction.ts';
import { KNOWN_AFTER, noteRefusedUse } from './refused-uses.ts';
import { showStore, STORES_CHANNEL, writeAudit, type Store } from './stores.ts';

export type TokenKind = 'enrolment' | 'credential';
export type TokenState = 'pending' | 'active' | 'retiring' | 'revoked' | 'expired' | 'spent';

export interface ListedToken {
  readonly kid: string;
  readonly code: string;
  readonly kind: TokenKind;
  readonly state: TokenState;
  readonly createdAt: string;
  readonly lastUsedAt: string | null;
  readonly expiresAt: string | null;
  readonly endedAt: string | null;
  readonly endedWhy: string | null;
}

export const ENROLMENT_TOKEN_MS_DEFAULT = 72 * 3_600_000;

/** A token whose time is over is expired, whether or not anything has come by to write that down. */
export const EFFECTIVE_STATE = `case when t.state in ('pending', 'active', 'retiring') and t.expires_at <= now()
  then 'expired' else t.state end`;

/** Beside a state that is in force: and its time is not over. */
export const IN_FORCE = '(t.expires_at is null or t.expires_at > now())';

export interface IssueOptions {
  readonly code: string;
  readonly hqUrl: string;
  readonly expiresInMs?: number | undefined;
  readonly actor: string;
}

export interface IssuedToken {
  readonly token: Secret;
  readonly kid: string;
  readonly store: Store;
  readonly hqUrl: string;
  readonly expiresAt: string;
  /** The unused token that this one replaced. */
  readonly replaced: string | null;
}

/** A one-time enrolment token; an unused older one of the same store ends here. */
export async function issueEnrolmentToken(pool: pg.Pool, options: IssueOptions): Promise<IssuedToken> {
  const { code, actor, expiresInMs = ENROLMENT_TOKEN_MS_DEFAULT } = options;
  const hqUrl = addressOf(options.hqUrl);
  const kid = newKid();
  const secret = newSecret(kid);
  return await withTransaction(pool, async (tx) => {
    const store = await activeStore(tx, code);
    // Two people who issue at once: the second waits here and replaces the first one's token.
    await tx.query('select from public.stores s where s.id = $1::integer for no key update', [store.id]);
    const replaced = await endPendingEnrolment(tx, store.id);
    const { expiresAt } = await queryOne<{ expiresAt: string }>(
      tx,
      `insert into possync.tokens (kid, store_id, kind, state, hash, hq_url, expires_at)
       values ($1::text, $2::integer, 'enrolment', 'pending', $3::bytea, $4::text,
               now() + $5::bigint * interval '1 millisecond')
       returning to_json(expires_at) #>> '{}' as "expiresAt"`,
      [kid, store.id, hashSecret(secret), hqUrl, expiresInMs],
    );
    await writeAudit(tx, { actor, action: 'token issue', storeId: store.id, details: { kid, replaced } });
    // Into the books of the servers at once: it is to be taken also while others send wrong ones from the same address.
    await tx.query('select pg_notify($1::text, $2::text)', [STORES_CHANNEL, String(store.id)]);
    const token = formatEnrolmentToken({ kid, secret, storeCode: store.code, hqUrl });
    return { token, kid, store, hqUrl, expiresAt, replaced };
  });
}

/** What issueEnrolmentToken would do, and refuse. */
export async function wouldIssue(
  db: Queryable,
  code: string,
  hqUrl: string,
): Promise<{ readonly store: Store; readonly hqUrl: string; readonly replaces: string | null }> {
  const address = addressOf(hqUrl);
  const store = await activeStore(db, code);
  const unused = await queryMaybe<{ kid: string }>(
    db,
    `select t.kid from possync.tokens t
      where t.store_id = $1::integer and t.kind = 'enrolment' and t.state = 'pending' and ${IN_FORCE}`,
    [store.id],
  );
  return { store, hqUrl: address, replaces: unused?.kid ?? null };
}

function addressOf(text: string): string {
  const hqUrl = normalizeHqUrl(text);
  if (hqUrl !== undefined) return hqUrl;
  throw new PossyncError('PS-USAGE', `'${text}' is no address of HQ`, {
    hint: 'give one such as https://hq.example.com:3001 (http, https, ws or wss)',
  });
}

async function activeStore(db: Queryable, code: string): Promise<Store> {
  const store = await showStore(db, code);
  if (store.status !== 'deactivated') return store;
  throw new PossyncError('PS-STORE-DISABLED', `store ${code} is deactivated`, {
    hint: `activate it first: possync stores activate ${code}`,
  });
}

async function endPendingEnrolment(tx: Queryable, storeId: number): Promise<string | null> {
  const ended = await queryMaybe<{ kid: string; state: TokenState }>(
    tx,
    `update possync.tokens t
        set state = case when t.expires_at <= now() then 'expired' else 'revoked' end,
            ended_at = now(), ended_why = case when t.expires_at <= now() then null else 'replaced by a newer token' end
      where t.store_id = $1::integer and t.kind = 'enrolment' and t.state = 'pending'
     returning t.kid, t.state`,
    [storeId],
  );
  return ended?.state === 'revoked' ? ended.kid : null;
}

/** All tokens, newest first; or those of one store. */
export async function listTokens(db: Queryable, storeId?: number): Promise<ListedToken[]> {
  const { rows } = await db.query<ListedToken>(
    `select t.kid, s.code, t.kind, ${EFFECTIVE_STATE} as state,
            to_json(t.created_at) #>> '{}' as "createdAt", to_json(t.last_used_at) #>> '{}' as "lastUsedAt",
            to_json(t.expires_at) #>> '{}' as "expiresAt", to_json(t.ended_at) #>> '{}' as "endedAt",
            t.ended_why as "endedWhy"
       from possync.tokens t join public.stores s on s.id = t.store_id
      where $1::integer is null or t.store_id = $1::integer
      order by s.code, t.created_at desc, t.kid`,
    [storeId ?? null],
  );
  return rows;
}

/** Every token that opens something, an enrolment whose answer got lost included. */
export async function tokensInForce(db: Queryable): Promise<{ kid: string; hash: Buffer }[]> {
  const { rows } = await db.query<{ kid: string; hash: Buffer }>(
    `select t.kid, t.hash from possync.tokens t
      where t.state in ('pending', 'active', 'retiring')
         or (t.state = 'spent' and t.ended_at > now() - interval '1 day')`,
  );
  return rows;
}

export interface Authenticated {
  readonly storeId: number;
  readonly code: string;
  readonly name: string;
  readonly kid: string;
  /** pending = of a rotation, not yet confirmed: its first real use confirms it. */
  readonly state: TokenState;
  readonly createdAt: string;
  readonly expiresAt: string | null;
}

interface CredentialRow {
  readonly storeId: number;
  readonly code: string;
  readonly name: string;
  readonly kid: string;
  readonly hash: Buffer;
  readonly state: TokenState;
  readonly active: boolean;
  readonly stale: boolean;
  /** It has ended, and so long ago that whoever worked with it knows. */
  readonly over: boolean;
  readonly createdAt: string;
  readonly expiresAt: string | null;
}

/** Long enough to spare a busy store its queries, short enough that a revocation holds within seconds. */
export const CACHE_MS = 2_000;
const CACHE_ENTRIES = 10_000;
const caches = new WeakMap<pg.Pool, Map<string, { row: CredentialRow; until: number }>>();

/**
 * Whose credential this is. Throws PS-TOKEN-GARBLED, PS-TOKEN-UNKNOWN, PS-TOKEN-REVOKED, PS-TOKEN-EXPIRED or
 * PS-STORE-DISABLED. What the state of a token is, only somebody who has its secret learns.
 */
export async function authenticate(
  pool: pg.Pool,
  bearer: string,
  nowMs = systemClock.now(),
): Promise<Authenticated> {
  const { kid, secret } = parseCredential(bearer);
  const row = await credentialRow(pool, kid, nowMs);
  if (row === undefined || !sameHash(row.hash, hashSecret(secret)))
    throw new PossyncError('PS-TOKEN-UNKNOWN', 'HQ does not know this credential', { details: { kid } });
  const details = { kid, store: row.code };
  if ((row.state === 'revoked' || row.state === 'expired') && row.over)
    void noteRefusedUse(pool, { kid, storeId: row.storeId, state: row.state }, nowMs);
  if (row.state === 'revoked')
    throw new PossyncError('PS-TOKEN-REVOKED', `the credential of store ${row.code} was revoked`, {
      details,
    });
  if (row.state === 'expired')
    throw new PossyncError('PS-TOKEN-EXPIRED', `the credential of store ${row.code} has expired`, {
      details,
    });
  if (!row.active)
    throw new PossyncError('PS-STORE-DISABLED', `store ${row.code} is deactivated`, {
      hint: `activate it at HQ: possync stores activate ${row.code}`,
      details,
    });
  const { storeId, code, name, state, createdAt, expiresAt } = row;
  return { storeId, code, name, kid, state, createdAt, expiresAt };
}

/** Forgets what was looked up: after a NOTIFY on STORES_CHANNEL, so that a cut is a cut at once. */
export function forgetCredentials(pool: pg.Pool): void {
  caches.delete(pool);
}

async function credentialRow(pool: pg.Pool, kid: string, nowMs: number): Promise<CredentialRow | undefined> {
  const cache = caches.get(pool) ?? new Map<string, { row: CredentialRow; until: number }>();
  caches.set(pool, cache);
  const known = cache.get(kid);
  if (known !== undefined && known.until > nowMs) return known.row;
  const lookup = lookups.get(pool) ?? new Joint((kids) => readCredentials(pool, kids));
  lookups.set(pool, lookup);
  const row = (await lookup.join(kid)).get(kid);
  // Unknown kids are not remembered: a flood of them must not push out the stores.
  if (row === undefined) return undefined;
  if (cache.size >= CACHE_ENTRIES) cache.clear();
  cache.set(kid, { row, until: nowMs + CACHE_MS });
  return row;
}

/** A fleet that is hinted, or comes back, asks at once: that is a few statements, not thousands. */
const lookups = new WeakMap<pg.Pool, Joint<string, ReadonlyMap<string, CredentialRow>>>();

async function readCredentials(
  pool: pg.Pool,
  kids: readonly string[],
): Promise<ReadonlyMap<string, CredentialRow>> {
  const { rows } = await pool.query<CredentialRow>(
    `select t.store_id as "storeId", s.code, s.name, t.kid, t.hash, s.active, ${EFFECTIVE_STATE} as state,
            coalesce(t.last_used_at < now() - interval '1 minute', true) as stale,
            coalesce(coalesce(t.ended_at, t.expires_at) < now() - interval '${KNOWN_AFTER}', false) as over,
            to_json(t.created_at) #>> '{}' as "createdAt", to_json(t.expires_at) #>> '{}' as "expiresAt"
       from possync.tokens t join public.stores s on s.id = t.store_id
      where t.kid = any($1::text[]) and t.kind = 'credential'`,
    [kids],
  );
  await noteUse(
    pool,
    rows.filter(({ stale }) => stale).map(({ kid }) => kid),
  );
  return new Map(rows.map((row) => [row.kid, row]));
}

/** Once a minute is enough to answer "is it used?", and a push must not write a row of its own. */
async function noteUse(pool: pg.Pool, kids: readonly string[]): Promise<void> {
  if (kids.length === 0) return;
  try {
    // A row that somebody holds (a rotation) is noted the next time: all others would wait for it.
    await pool.query(
      `update possync.tokens t set last_used_at = now()
         from (select k.kid from possync.tokens k
                where k.kid = any($1::text[]) and (k.last_used_at is null or k.last_used_at < now() - interval '1 minute')
                order by k.kid for no key update skip locked) free
        where t.kid = free.kid`,
      [kids],
    );
  } catch {
    // For display only; on a standby it cannot be written, and a store must not be refused for that.
  }
}
