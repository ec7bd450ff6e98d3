/** SQL: two open sessions of one user, anywhere in the chain, or of one register; and what was given up by hand. */
import type { Queryable } from '../../db/transaction.ts';
import type { Found, Scope } from './findings.ts';
import type { RegisterKey } from './numbering.ts';

const userScope = (userId: string): string => `user ${userId}`;
const registerScope = (registerId: string): string => `register ${registerId}`;
export const AUDIT_SCOPE = 'audit';

export interface Settled {
  readonly scopes: readonly Scope[];
  readonly found: readonly Found[];
}

interface DbOpenRow extends Record<string, unknown> {
  storeId: number;
  who: string;
  name: string;
  open: number;
  where: string;
}

/** Users work in any store: the stores concerned are those with an open session, and those that had a finding. */
export async function findSessionsOfUsers(tx: Queryable, userIds: readonly string[]): Promise<Settled> {
  const { rows } = await tx.query<DbOpenRow>(
    `select s.store_id as "storeId", s.user_id as who, coalesce(u.username, s.user_id::text) as name, o.open, o."where"
       from (select distinct x.store_id, x.user_id from public.register_sessions x
              where x.status = 'open' and x.user_id = any($1::uuid[])) s
       join (select x.user_id, count(*) as open,
                    string_agg(coalesce(r.code, x.register_id::text) || ' in ' || coalesce(t.code, x.store_id::text), ', '
                               order by x.opened_at, x.id) as "where"
               from public.register_sessions x
               left join public.registers r on r.store_id = x.store_id and r.id = x.register_id
               left join public.stores t on t.id = x.store_id
              where x.status = 'open' and x.user_id = any($1::uuid[])
              group by x.user_id having count(*) > 1) o on o.user_id = s.user_id
       left join public.users u on u.id = s.user_id`,
    [userIds],
  );
  const { rows: before } = await tx.query<{ storeId: number; scope: string }>(
    `select f.store_id as "storeId", f.scope from possync.findings f
      where f.kind = 'session_of_user' and f.closed_at is null and f.scope = any($1::text[])`,
    [userIds.map(userScope)],
  );
  const found = rows.map(({ storeId, who, name, open, where }): Found => ({
    storeId,
    scope: userScope(who),
    kind: 'session_of_user',
    type: 'session',
    key: who,
    expected: '1',
    found: String(open),
    text: `user ${name} has ${open} open sessions: ${where}`,
  }));
  return { scopes: [...before, ...found], found };
}

export async function findSessionsOfRegisters(
  tx: Queryable,
  registers: readonly RegisterKey[],
): Promise<Settled> {
  const { rows } = await tx.query<{ storeId: number; registerId: string; open: number }>(
    `select k.store_id as "storeId", k.register_id as "registerId", n.open
       from unnest($1::int[], $2::uuid[]) as k(store_id, register_id)
      cross join lateral (
        select count(*) as open from public.register_sessions x
         where x.store_id = k.store_id and x.register_id = k.register_id and x.status = 'open') n
      where n.open > 1`,
    [registers.map(({ storeId }) => storeId), registers.map(({ registerId }) => registerId)],
  );
  return {
    scopes: registers.map(({ storeId, registerId }) => ({ storeId, scope: registerScope(registerId) })),
    found: rows.map(({ storeId, registerId, open }) => ({
      storeId,
      scope: registerScope(registerId),
      kind: 'session_of_register',
      type: 'session',
      key: registerId,
      registerId,
      expected: '1',
      found: String(open),
      text: `the register has ${open} open sessions`,
    })),
  };
}

interface DbAuditRow extends Record<string, unknown> {
  storeId: number;
  id: number;
  action: string;
  epoch: number;
  seq: number | null;
  actor: string;
  reason: string | null;
}

/** Holes in the sequence of a store that are known: HQ takes no batch behind a gap, so there are no others. */
export async function findGivenUp(tx: Queryable, storeIds: readonly number[]): Promise<Settled> {
  const { rows } = await tx.query<DbAuditRow>(
    `select a.store_id as "storeId", a.id, a.action, a.epoch, a.seq, a.actor, left(a.reason, 500) as reason
       from possync.queue_audit a
      where a.store_id = any($1::int[])
        and (a.action = 'drop' or a.action = 're-enrol' and a.detail #>> '{answer,known}' = 'false')`,
    [storeIds],
  );
  return {
    scopes: storeIds.map((storeId) => ({ storeId, scope: AUDIT_SCOPE })),
    found: rows.map(({ storeId, id, action, epoch, seq, actor, reason }) => ({
      storeId,
      scope: AUDIT_SCOPE,
      kind: 'given_up',
      type: 'entry',
      key: String(id),
      ...(seq === null ? {} : { number: String(seq) }),
      text:
        action === 'drop'
          ? `entry ${seq ?? '?'} of epoch ${epoch} was given up by ${actor}: ${reason ?? ''}`
          : `HQ did not know what it had acknowledged in epoch ${epoch}; it stood at entry ${seq ?? '?'}`,
    })),
  };
}
