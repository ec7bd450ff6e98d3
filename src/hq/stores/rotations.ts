/**
 * Rotation of a store's credential at HQ: two are taken at the same time, so that nothing that gets lost locks a store out.
 *
 *              register          confirm (by the new one)          finish, or the end of the grace
 *   new    ─▶  pending    ─────▶ active                     ─────▶ active
 *   old        active            retiring until now + grace        revoked / expired
 *
 * Each step answers the same again when repeated. A pending credential already authenticates: its first real use (hello,
 * push, in-band auth) confirms it, so that a store which was killed before it could say so is not stuck.
 */
import type pg from 'pg';
import { PossyncError } from '../../core/errors.ts';
import { sameHash } from '../../core/secret.ts';
import { queryMaybe, withTransaction, type Queryable } from '../../db/transaction.ts';
import type { Rotation, RotationAnswer } from '../../protocol/messages.ts';
import { tellServers as tellLinks } from './live.ts';
import { settleOrder } from './orders.ts';
import { STORES_CHANNEL, writeAudit } from './stores.ts';
import { EFFECTIVE_STATE, forgetCredentials, type Authenticated, type TokenState } from './tokens.ts';

interface RotationRow {
  readonly id: string;
  readonly storeId: number;
  readonly oldKid: string;
  readonly kid: string;
  readonly graceMs: number;
  readonly hash: Buffer;
  readonly state: TokenState;
  readonly expiresAt: string | null;
  readonly confirmed: boolean;
  readonly oldUntil: string | null;
}

const ROTATION = `
  select r.id::text, r.store_id as "storeId", r.old_kid as "oldKid", r.kid, r.grace_ms as "graceMs", t.hash,
         ${EFFECTIVE_STATE} as state, to_json(t.expires_at) #>> '{}' as "expiresAt",
         r.confirmed_at is not null as confirmed, to_json(r.old_until) #>> '{}' as "oldUntil"
    from possync.rotations r join possync.tokens t on t.kid = r.kid`;

/**
 * `lifeMs`: what HQ gives a credential at most. Throws PS-TOKEN-RETIRING, PS-TOKEN-ROTATION, or what became of the credential
 * of a rotation that was given up.
 */
export async function registerRotation(
  pool: pg.Pool,
  caller: Authenticated,
  request: Rotation,
  lifeMs: number | null = null,
): Promise<RotationAnswer> {
  return await withTransaction(pool, async (tx) => {
    await lockStore(tx, caller.storeId);
    const known = await queryMaybe<RotationRow>(tx, `${ROTATION} where r.id = $1::uuid`, [request.id]);
    if (known !== undefined) return answerAgain(caller, request, known);
    await requireActive(tx, caller);
    await endPending(tx, caller, request.replace);
    await tx.query(
      `insert into possync.tokens (kid, store_id, kind, state, hash, expires_at)
       values ($1::text, $2::integer, 'credential', 'pending', $3::bytea,
               now() + least($4::bigint, $5::bigint) * interval '1 millisecond')`,
      [request.kid, caller.storeId, Buffer.from(request.hash, 'hex'), request.expiresInMs, lifeMs],
    );
    await tx.query(
      `insert into possync.rotations (id, store_id, old_kid, kid, grace_ms)
       values ($1::uuid, $2::integer, $3::text, $4::text, $5::bigint)`,
      [request.id, caller.storeId, caller.kid, request.kid, request.graceMs],
    );
    return answerOf(await rotationOf(tx, request.kid, undefined));
  });
}

/**
 * The new credential is in force from here on; the old one is taken until the end of the grace. With `id`: that rotation and
 * no other. Throws PS-PROTOCOL where the caller's credential is of no rotation.
 */
export async function confirmRotation(
  pool: pg.Pool,
  caller: Authenticated,
  id?: string,
): Promise<RotationAnswer> {
  const answer = await withTransaction(pool, async (tx) => {
    await lockStore(tx, caller.storeId);
    const rotation = await rotationOf(tx, caller.kid, id);
    if (rotation.state === 'revoked' || rotation.state === 'expired')
      throw endedError(caller, rotation.state);
    if (rotation.confirmed) return answerOf(rotation);
    await tx.query(
      `update possync.tokens t set state = 'revoked', ended_at = now(), ended_why = 'replaced by another rotation'
        where t.store_id = $1::integer and t.kind = 'credential' and t.state = 'retiring'`,
      [caller.storeId],
    );
    await tx.query(
      `update possync.tokens t
          set state = 'retiring', expires_at = least(t.expires_at, now() + $2::bigint * interval '1 millisecond')
        where t.store_id = $1::integer and t.kind = 'credential' and t.state = 'active'`,
      [caller.storeId, rotation.graceMs],
    );
    await tx.query(
      `update possync.tokens t set state = 'active' where t.kid = $1::text and t.state = 'pending'`,
      [caller.kid],
    );
    await tx.query(
      `update possync.rotations r
          set confirmed_at = now(), old_until = (select t.expires_at from possync.tokens t where t.kid = r.old_kid)
        where r.id = $1::uuid`,
      [rotation.id],
    );
    await settleOrder(tx, caller.storeId, caller.kid);
    await writeAudit(tx, {
      actor: `store ${caller.code}`,
      action: 'token rotate',
      storeId: caller.storeId,
      details: { rotation: rotation.id, old: rotation.oldKid, kid: caller.kid },
    });
    await tellServers(tx, caller.storeId);
    const confirmed = await rotationOf(tx, caller.kid, rotation.id);
    await tellEnd(tx, caller, confirmed);
    return answerOf(confirmed);
  });
  forgetCredentials(pool);
  return answer;
}

/** The old credential ends now, whatever grace it had. */
export async function finishRotation(
  pool: pg.Pool,
  caller: Authenticated,
  id: string,
): Promise<RotationAnswer> {
  const answer = await withTransaction(pool, async (tx) => {
    await lockStore(tx, caller.storeId);
    const rotation = await rotationOf(tx, caller.kid, id);
    if (!rotation.confirmed)
      throw new PossyncError('PS-PROTOCOL', 'a rotation must be confirmed before it can be finished');
    const { rowCount } = await tx.query(
      `update possync.tokens t set state = 'revoked', ended_at = now(), ended_why = 'rotated'
        where t.kid = $1::text and t.store_id = $2::integer and t.state = 'retiring'`,
      [rotation.oldKid, caller.storeId],
    );
    if (rowCount === 1)
      await tx.query('update possync.rotations r set old_until = now() where r.id = $1::uuid', [id]);
    await tellServers(tx, caller.storeId);
    const finished = await rotationOf(tx, caller.kid, id);
    if (rowCount === 1) {
      await writeAudit(tx, {
        actor: `store ${caller.code}`,
        action: 'token rotate finished',
        storeId: caller.storeId,
        details: { rotation: id, revoked: rotation.oldKid },
      });
      await tellEnd(tx, caller, finished);
    }
    return answerOf(finished);
  });
  forgetCredentials(pool);
  return answer;
}

/** Two commands of one store come one after the other. */
async function lockStore(tx: Queryable, storeId: number): Promise<void> {
  await tx.query('select from public.stores s where s.id = $1::integer for no key update', [storeId]);
}

async function rotationOf(tx: Queryable, kid: string, id: string | undefined): Promise<RotationRow> {
  const row = await queryMaybe<RotationRow>(
    tx,
    `${ROTATION} where r.kid = $1::text and ($2::uuid is null or r.id = $2::uuid)`,
    [kid, id ?? null],
  );
  if (row === undefined) throw new PossyncError('PS-PROTOCOL', 'this credential belongs to no such rotation');
  return row;
}

function answerAgain(caller: Authenticated, request: Rotation, known: RotationRow): RotationAnswer {
  const same =
    known.storeId === caller.storeId &&
    known.kid === request.kid &&
    sameHash(known.hash, Buffer.from(request.hash, 'hex'));
  if (!same) throw new PossyncError('PS-PROTOCOL', 'this id is that of another rotation');
  if (known.state === 'revoked' || known.state === 'expired') throw endedError(caller, known.state);
  return answerOf(known);
}

/** The state that was looked up may be two seconds old: a fork of the line of credentials must not slip through. */
async function requireActive(tx: Queryable, caller: Authenticated): Promise<void> {
  const row = await queryMaybe<{ state: TokenState }>(
    tx,
    `select ${EFFECTIVE_STATE} as state from possync.tokens t where t.kid = $1::text`,
    [caller.kid],
  );
  if (row?.state === 'active') return;
  if (row?.state === 'revoked' || row?.state === 'expired') throw endedError(caller, row.state);
  throw new PossyncError('PS-TOKEN-RETIRING', `the credential ${caller.kid} was replaced by a newer one`, {
    why: 'a credential that is on its way out cannot be rotated',
  });
}

async function endPending(tx: Queryable, caller: Authenticated, replace: boolean): Promise<void> {
  const pending = await queryMaybe<{ kid: string; over: boolean }>(
    tx,
    `select t.kid, t.expires_at <= now() as over from possync.tokens t
      where t.store_id = $1::integer and t.kind = 'credential' and t.state = 'pending'`,
    [caller.storeId],
  );
  if (pending === undefined) return;
  if (!replace && !pending.over)
    throw new PossyncError('PS-TOKEN-ROTATION', `another rotation of store ${caller.code} is not finished`, {
      why: `HQ waits for the first use of the credential ${pending.kid}, whose secret is not here`,
      details: { kid: pending.kid },
    });
  await tx.query(
    `update possync.tokens t set state = 'revoked', ended_at = now(), ended_why = 'given up for another rotation'
      where t.kid = $1::text`,
    [pending.kid],
  );
  await tellServers(tx, caller.storeId);
}

function endedError({ code }: Authenticated, state: 'revoked' | 'expired'): PossyncError {
  return state === 'revoked'
    ? new PossyncError('PS-TOKEN-REVOKED', `the credential of store ${code} was revoked`)
    : new PossyncError('PS-TOKEN-EXPIRED', `the credential of store ${code} has expired`);
}

async function tellServers(tx: Queryable, storeId: number): Promise<void> {
  await tx.query('select pg_notify($1::text, $2::text)', [STORES_CHANNEL, String(storeId)]);
}

/** For the logs of the servers, which outlive this database: a restored one would take the old credential for good again. */
async function tellEnd(
  tx: Queryable,
  caller: Authenticated,
  { oldKid, kid, oldUntil }: RotationRow,
): Promise<void> {
  const actor = `store ${caller.code}`;
  await tellLinks(tx, {
    type: 'rotated',
    store: caller.code,
    kids: [oldKid],
    by: kid,
    until: oldUntil,
    actor,
  });
}

function answerOf({ id, oldKid, oldUntil, kid, expiresAt, confirmed }: RotationRow): RotationAnswer {
  return { id, old: { kid: oldKid, validUntil: oldUntil }, new: { kid, expiresAt }, confirmed };
}
