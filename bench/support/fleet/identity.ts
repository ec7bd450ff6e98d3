/** Who the simulated stores are: rows of `stores` and credentials at HQ, thousands in one statement each. */
import type pg from 'pg';
import { formatCredential, hashSecret, newKid, newSecret } from '../../../src/core/secret.ts';
import { queryOne } from '../../../src/db/transaction.ts';

export interface StoreIdentity {
  readonly storeId: number;
  readonly code: string;
  /** The whole `pst_…` text: it goes to the fleet's process and nowhere else. */
  readonly token: string;
}

/**
 * What `stores add` and an enrolment leave behind. One by one, as people do it, 5,000 of them would take minutes, most of
 * them for the list of time zones. Before `hq serve` starts: it reads at its start who may come in.
 */
export async function enrolFleet(pool: pg.Pool, stores: number): Promise<StoreIdentity[]> {
  const { last } = await queryOne<{ last: number }>(
    pool,
    'select coalesce(max(s.id), 0) as last from public.stores s',
  );
  const fleet = Array.from({ length: stores }, (_, n) => {
    const kid = newKid();
    const secret = newSecret(kid);
    const storeId = last + n + 1;
    return { storeId, code: `F-${storeId}`, kid, secret };
  });
  await pool.query(
    `insert into public.stores (id, code, name, time_zone)
     select s.id, s.code, 'Store ' || s.code, 'UTC' from unnest($1::integer[], $2::text[]) as s (id, code)`,
    [fleet.map(({ storeId }) => storeId), fleet.map(({ code }) => code)],
  );
  await pool.query(
    `with enrolled as (
       insert into possync.tokens (kid, store_id, kind, state, hash)
       select t.kid, t.store_id, 'credential', 'active', decode(t.hash, 'hex')
         from unnest($1::text[], $2::integer[], $3::text[]) as t (kid, store_id, hash)
       returning store_id)
     insert into possync.store_status (store_id) select e.store_id from enrolled e`,
    [
      fleet.map(({ kid }) => kid),
      fleet.map(({ storeId }) => storeId),
      fleet.map(({ secret }) => hashSecret(secret).toString('hex')),
    ],
  );
  await pool.query('analyze public.stores, possync.tokens, possync.store_status');
  return fleet.map(({ storeId, code, kid, secret }) => ({
    storeId,
    code,
    token: formatCredential({ kid, secret }).reveal(),
  }));
}
