/**
 * Enrolment: a one-time token becomes a long-lived credential whose secret only the store has.
 *
 *   store                                   HQ
 *   makes kid + secret, saves them
 *   token, kid, sha256(secret)  ─────────▶  one transaction: token spent for this kid, older credentials revoked,
 *                               ◀─────────  credential active, store provisioned
 *
 * The same token with the same kid and hash gets the same answer again: a lost reply locks nobody out. The same token
 * with another hash is another machine, and is refused.
 */
import type pg from 'pg';
import { PossyncError } from '../../core/errors.ts';
import { hashSecret, parseEnrolmentToken, sameHash } from '../../core/secret.ts';
import { queryMaybe, queryOne, withTransaction, type Queryable } from '../../db/transaction.ts';
import { enrolAnswerSchema, type Enrol, type EnrolAnswer } from '../../protocol/messages.ts';
import { readContinuation, startEpochForReplacement } from './replacement.ts';
import { readHqId } from '../identity.ts';
import { tellServers } from './live.ts';
import { settleOrder } from './orders.ts';
import { findStore, STORES_CHANNEL, writeAudit, type Store } from './stores.ts';
import { IN_FORCE, type TokenState } from './tokens.ts';

interface EnrolmentRow {
  readonly storeId: number;
  readonly hash: Buffer;
  readonly state: TokenState;
  readonly over: boolean;
  readonly spentFor: string | null;
  readonly answer: string | null;
}

/** `lifeMs`: how long the credential lives. Throws PS-TOKEN-GARBLED, -UNKNOWN, -SPENT, -REVOKED, -EXPIRED or PS-STORE-DISABLED. */
export async function enrol(
  pool: pg.Pool,
  request: Enrol,
  lifeMs: number | null = null,
): Promise<EnrolAnswer> {
  const token = parseEnrolmentToken(request.token);
  return await withTransaction(pool, async (tx) => {
    const row = await lockToken(tx, token.kid);
    if (row === undefined || !sameHash(row.hash, hashSecret(token.secret)))
      throw new PossyncError('PS-TOKEN-UNKNOWN', 'HQ does not know this enrolment token', {
        hint: 'check that it was issued by this HQ; else issue a new one: possync token issue CODE --hq-url URL',
        details: { kid: token.kid },
      });
    const store = await findStore(tx, row.storeId);
    if (store === undefined)
      throw new PossyncError('PS-TOKEN-UNKNOWN', `HQ has no store with the id ${row.storeId} any more`);
    if (row.state === 'spent') return await answerAgain(tx, token.kid, request, row, store);
    refuseEnded(row, store);
    if (store.status === 'deactivated')
      throw new PossyncError('PS-STORE-DISABLED', `store ${store.code} is deactivated`, {
        hint: `activate it at HQ: possync stores activate ${store.code}`,
      });
    await refuseEmptyServer(tx, request, store);
    return await spend(tx, token.kid, request, store, lifeMs);
  });
}

/** Its numbering would begin again, and its first hello would be refused as that of a restored store. */
async function refuseEmptyServer(tx: Queryable, { empty, replace }: Enrol, store: Store): Promise<void> {
  if (empty !== true || replace) return;
  const { history } = await queryOne<{ history: boolean }>(
    tx,
    `select exists (select from possync.inbox b where b.store_id = $1::integer and (b.seq > 0 or b.epoch > 1)) as history`,
    [store.id],
  );
  if (history)
    throw new PossyncError(
      'PS-STORE-HISTORY',
      `HQ already has sales of store ${store.code}, and this database is empty`,
      {
        why: 'it would begin with numbers that are used; the token is not spent',
      },
    );
}

async function lockToken(tx: Queryable, kid: string): Promise<EnrolmentRow | undefined> {
  return await queryMaybe<EnrolmentRow>(
    tx,
    `select t.store_id as "storeId", t.hash, t.state, t.expires_at <= now() as over,
            t.spent_for as "spentFor", t.answer::text as answer
       from possync.tokens t where t.kid = $1::text and t.kind = 'enrolment' for update`,
    [kid],
  );
}

function refuseEnded({ state, over }: EnrolmentRow, store: Store): void {
  if (state === 'revoked')
    throw new PossyncError(
      'PS-TOKEN-REVOKED',
      `this enrolment token of store ${store.code} is no longer valid`,
      {
        why: 'a newer one was issued, or it was revoked',
      },
    );
  if (state === 'expired' || over)
    throw new PossyncError('PS-TOKEN-EXPIRED', `this enrolment token of store ${store.code} has expired`);
}

/** The token was spent: by this very request, whose answer got lost, or by another machine. */
async function answerAgain(
  tx: Queryable,
  tokenKid: string,
  request: Enrol,
  row: EnrolmentRow,
  store: Store,
): Promise<EnrolAnswer> {
  const credential = await queryMaybe<{ hash: Buffer; state: TokenState }>(
    tx,
    `select t.hash, t.state from possync.tokens t where t.kid = $1::text and t.kind = 'credential'`,
    [row.spentFor],
  );
  const same =
    credential !== undefined &&
    row.spentFor === request.kid &&
    sameHash(credential.hash, Buffer.from(request.hash, 'hex'));
  if (!same || row.answer === null)
    throw new PossyncError('PS-TOKEN-SPENT', `this enrolment token of store ${store.code} was used already`, {
      why: 'another machine, or an earlier state directory, enrolled with it',
      hint: `issue a new one at HQ: possync token issue ${store.code} --hq-url URL`,
    });
  if (credential.state === 'revoked')
    throw new PossyncError('PS-TOKEN-REVOKED', `the credential of store ${store.code} was revoked`);
  const answer = enrolAnswerSchema.parse(JSON.parse(row.answer));
  if (!request.replace || answer.continuation !== undefined) return answer;
  // The same machine, which says only now that it takes the place of a lost one.
  const replacing = await replacementAnswer(tx, store.id, answer);
  await tx.query(`update possync.tokens set answer = $2::jsonb where kid = $1::text`, [
    tokenKid,
    JSON.stringify(replacing),
  ]);
  await writeAudit(tx, {
    actor: `store ${store.code}`,
    action: 'replace',
    storeId: store.id,
    details: { token: tokenKid, credential: request.kid },
  });
  return replacing;
}

async function replacementAnswer(tx: Queryable, storeId: number, answer: EnrolAnswer): Promise<EnrolAnswer> {
  return {
    ...answer,
    epoch: await startEpochForReplacement(tx, storeId),
    continuation: await readContinuation(tx, storeId),
  };
}

async function spend(
  tx: Queryable,
  tokenKid: string,
  request: Enrol,
  store: Store,
  lifeMs: number | null,
): Promise<EnrolAnswer> {
  // One store, one credential: whoever enrols last is the store, a clone is shut out.
  const { rows: ended } = await tx.query<{ kid: string }>(
    `update possync.tokens t
        set state = case when ${IN_FORCE} then 'revoked' else 'expired' end, ended_at = now(),
            ended_why = case when ${IN_FORCE} then 'replaced by an enrolment' end
      where t.store_id = $1::integer and t.kind = 'credential' and t.state in ('pending', 'active', 'retiring')
     returning t.kid`,
    [store.id],
  );
  const { expiresAt } = await queryOne<{ expiresAt: string | null }>(
    tx,
    `insert into possync.tokens (kid, store_id, kind, state, hash, expires_at)
     values ($1::text, $2::integer, 'credential', 'active', $3::bytea, now() + $4::bigint * interval '1 millisecond')
     returning to_json(expires_at) #>> '{}' as "expiresAt"`,
    [request.kid, store.id, Buffer.from(request.hash, 'hex'), lifeMs],
  );
  await settleOrder(tx, store.id, request.kid);
  await tx.query(
    'insert into possync.store_status (store_id) values ($1::integer) on conflict (store_id) do nothing',
    [store.id],
  );
  const plain: EnrolAnswer = {
    store: { id: store.id, code: store.code, name: store.name, timeZone: store.timeZone },
    hq: { id: await readHqId(tx) },
    epoch: await currentEpoch(tx, store.id),
    expiresAt,
  };
  const answer = request.replace ? await replacementAnswer(tx, store.id, plain) : plain;
  await tx.query(
    `update possync.tokens set state = 'spent', ended_at = now(), spent_for = $2::text, answer = $3::jsonb
      where kid = $1::text`,
    [tokenKid, request.kid, JSON.stringify(answer)],
  );
  await writeAudit(tx, {
    actor: `store ${store.code}`,
    action: 'enrol',
    storeId: store.id,
    details: {
      token: tokenKid,
      kid: request.kid,
      replace: request.replace,
      revoked: ended.map((row) => row.kid),
      software: request.software,
    },
  });
  if (ended.length > 0)
    await tellServers(tx, {
      type: 'revoked',
      store: store.code,
      kids: ended.map((row) => row.kid),
      actor: `store ${store.code}`,
      reason: 'replaced by an enrolment',
    });
  // Servers that still hold a connection of an older credential end it.
  await tx.query('select pg_notify($1::text, $2::text)', [STORES_CHANNEL, String(store.id)]);
  return answer;
}

/** The epoch in force, for a store that enrols again; 1 for a new one. */
async function currentEpoch(tx: Queryable, storeId: number): Promise<number> {
  const { epoch } = await queryOne<{ epoch: number }>(
    tx,
    `select coalesce((select b.epoch from possync.inbox b where b.store_id = $1::integer), 1) as epoch`,
    [storeId],
  );
  return epoch;
}
