/**
 * SQL: a store says hello. HQ answers where it stands with this store and gives the session a fence: pushes with an
 * older fence are refused, so of two machines with one credential only the last one that was let in can write.
 *
 *   hello (epoch, instance) ─▶ another instance alive right now? ─▶ refuse other_instance_alive
 *                              older epoch than HQ's             ─▶ refuse epoch
 *                              newer: HQ was restored            ─▶ welcome with HQ's epoch: the store sends on from there
 *                              else                              ─▶ welcome {fence, epoch, seq, chain, dead}
 *
 * The store compares (seq, chain) with its own history; HQ decides nothing by what a store claims about itself.
 */
import type pg from 'pg';
import { systemClock } from '../../core/clock.ts';
import { Joint } from '../../core/joint.ts';
import { queryMaybe, type Queryable } from '../../db/transaction.ts';
import type { Hello, Instance, Refuse, Welcome } from '../../protocol/messages.ts';
import { BODY_VERSION, OLDEST_SERVED, PROTOCOL_VERSION } from '../../protocol/version.ts';
import { holderIn, Welcomes } from './welcomes.ts';

/** Does the machine that holds the present session answer a ping now? Asked of its socket, never of a clock. */
export type IsAlive = (instance: Instance) => Promise<boolean>;

/** A store that comes alone does not wait; of a crowd, those who come within this share their statements. */
export const GATHER_MS = 50;

/** Stores that come at the same moment share their statements: after a restart of HQ that is the whole chain. */
interface Desk {
  readonly looks: Joint<number, ReadonlyMap<number, Known>>;
  readonly welcomes: Welcomes;
}

const desks = new WeakMap<pg.Pool, Desk>();

export async function hello(
  pool: pg.Pool,
  storeId: number,
  message: Hello,
  isAlive: IsAlive,
): Promise<Welcome | Refuse> {
  const desk = deskOf(pool);
  for (;;) {
    const store = (await desk.looks.join(storeId)).get(storeId);
    const unfit = refuseUnfit(message, store);
    if (unfit !== undefined || store === undefined) return unfit ?? notOf(message);
    const { holder } = store;
    // The ping is asked outside the transaction: it may take seconds, and pushes must not wait for it.
    if (holder !== undefined && holder.daemon !== message.instance.daemon && (await isAlive(holder))) {
      return refuse(
        'other_instance_alive',
        'another machine with the credential of this store is connected now',
      );
    }
    const answer = await desk.welcomes.greet({ storeId, message, holder, store });
    // Somebody else came in while the ping was out: look again.
    if (answer !== 'changed') return answer;
  }
}

function deskOf(pool: pg.Pool): Desk {
  const known = desks.get(pool);
  if (known !== undefined) return known;
  const desk: Desk = {
    looks: new Joint((storeIds) => readKnown(pool, storeIds), systemClock, GATHER_MS),
    welcomes: new Welcomes(pool, GATHER_MS),
  };
  desks.set(pool, desk);
  return desk;
}

interface DbStoreRow {
  readonly code: string;
  readonly name: string;
  readonly active: boolean;
}

interface Known extends DbStoreRow {
  /** The machine of the present session. */
  readonly holder: Instance | undefined;
}

async function readKnown(db: Queryable, storeIds: readonly number[]): Promise<ReadonlyMap<number, Known>> {
  const { rows } = await db.query<DbStoreRow & { id: number; instance: string | null }>(
    `select s.id, s.code, s.name, s.active, i.instance::text as instance
       from public.stores s left join possync.inbox i on i.store_id = s.id where s.id = any($1::integer[])`,
    [storeIds],
  );
  return new Map(
    rows.map(({ id, code, name, active, instance }) => [
      id,
      { code, name, active, holder: holderIn(instance) },
    ]),
  );
}

function refuseUnfit(message: Hello, store: DbStoreRow | undefined): Refuse | undefined {
  if (message.v < OLDEST_SERVED || message.v > PROTOCOL_VERSION) {
    return refuse(
      'upgrade',
      `HQ speaks protocol ${OLDEST_SERVED} to ${PROTOCOL_VERSION}, the store ${message.v}`,
    );
  }
  if (message.bodyVersion > BODY_VERSION) {
    return refuse(
      'upgrade',
      `HQ reads bodies up to version ${BODY_VERSION}, the store writes ${message.bodyVersion}`,
    );
  }
  if (store?.code !== message.store) return notOf(message);
  return store.active ? undefined : refuse('disabled', `store ${message.store} is deactivated at HQ`);
}

function notOf({ store }: Hello): Refuse {
  return refuse('store', `the credential is not of store ${store}`);
}

function refuse(code: Refuse['code'], detail: string): Refuse {
  return { type: 'refuse', code, detail };
}

export async function holderOf(db: Queryable, storeId: number): Promise<Instance | undefined> {
  const row = await queryMaybe<{ instance: string | null }>(
    db,
    'select instance::text as instance from possync.inbox where store_id = $1::int',
    [storeId],
  );
  return holderIn(row?.instance ?? null);
}
