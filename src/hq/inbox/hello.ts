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
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { SOFTWARE } from '../../core/version.ts';
import { queryMaybe, queryOne, withTransaction, type Queryable } from '../../db/transaction.ts';
import {
  instanceSchema,
  type Hello,
  type Instance,
  type Refuse,
  type Welcome,
} from '../../protocol/messages.ts';
import { BODY_VERSION, OLDEST_SERVED, PROTOCOL_VERSION } from '../../protocol/version.ts';
import { readHqId } from '../identity.ts';
import { deadSeqs, readInbox } from './inbox.ts';

/** Does the machine that holds the present session answer a ping now? Asked of its socket, never of a clock. */
export type IsAlive = (instance: Instance) => Promise<boolean>;

/** As welcomeSchema takes it. */
const WELCOME_NAME_MAX = 1_000;

export async function hello(
  pool: pg.Pool,
  storeId: number,
  message: Hello,
  isAlive: IsAlive,
): Promise<Welcome | Refuse> {
  const store = await queryMaybe<DbStoreRow>(
    pool,
    'select code, name, active from public.stores where id = $1::int',
    [storeId],
  );
  const unfit = refuseUnfit(message, store);
  if (unfit !== undefined) return unfit;
  for (;;) {
    const before = await holderOf(pool, storeId);
    // The ping is asked outside the transaction: it may take seconds, and pushes must not wait for it.
    if (before !== undefined && before.daemon !== message.instance.daemon && (await isAlive(before))) {
      return refuse(
        'other_instance_alive',
        'another machine with the credential of this store is connected now',
      );
    }
    const answer = await withTransaction(pool, (tx) => welcome(tx, storeId, message, before, store));
    // Somebody else came in while the ping was out: look again.
    if (answer !== 'changed') return answer;
  }
}

interface DbStoreRow {
  code: string;
  name: string;
  active: boolean;
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
  if (store?.code !== message.store) {
    return refuse('store', `the credential is not of store ${message.store}`);
  }
  return store.active ? undefined : refuse('disabled', `store ${message.store} is deactivated at HQ`);
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
  return row?.instance == null ? undefined : instanceSchema.parse(JSON.parse(row.instance));
}

async function welcome(
  tx: pg.PoolClient,
  storeId: number,
  message: Hello,
  before: Instance | undefined,
  store: DbStoreRow | undefined,
): Promise<Welcome | Refuse | 'changed'> {
  await tx.query('set local synchronous_commit to on');
  await tx.query('insert into possync.inbox (store_id) values ($1::int) on conflict (store_id) do nothing', [
    storeId,
  ]);
  const inbox = await readInbox(tx, storeId);
  if ((await holderOf(tx, storeId))?.daemon !== before?.daemon) return 'changed';
  if (message.epoch < inbox.epoch) {
    return {
      ...refuse(
        'epoch',
        `epoch ${inbox.epoch} of this store is in force, this database is of epoch ${message.epoch}`,
      ),
      epoch: inbox.epoch,
    };
  }
  // A newer epoch with nothing in the one that HQ knows: nobody has been here before, or HQ lost it all.
  const declared = message.epochs.some(({ epoch }) => epoch === inbox.epoch);
  if (message.epoch > inbox.epoch && !declared && inbox.seq > 0) {
    return {
      ...refuse(
        'epoch',
        `HQ stands in epoch ${inbox.epoch} of this store, of which this database knows nothing`,
      ),
      epoch: inbox.epoch,
    };
  }
  const fence = randomUUID();
  const skip = message.epoch > inbox.epoch && !declared;
  const { epoch, seq, chain } = skip ? { epoch: message.epoch, seq: 0, chain: '' } : inbox;
  await tx.query(
    `update possync.inbox set fence = $2::uuid, instance = $3::jsonb, software = $4::text, hello_at = clock_timestamp(),
            declared = $5::jsonb, epoch = $6::int, layouts = $7::jsonb
      where store_id = $1::int`,
    [
      storeId,
      fence,
      JSON.stringify(message.instance),
      message.software,
      JSON.stringify(message.epochs),
      epoch,
      JSON.stringify(message.layouts ?? []),
    ],
  );
  const feed = await feedState(tx, message);
  return {
    type: 'welcome',
    v: PROTOCOL_VERSION,
    fence,
    epoch,
    inbox: { seq, chain },
    head: feed.head,
    resync: feed.resync,
    dead: await deadSeqs(tx, storeId, epoch),
    hq: { id: await readHqId(tx), software: SOFTWARE, now: feed.now },
    // A name is free text of HQ's applications; a frame is bounded.
    store: {
      id: storeId,
      code: store?.code ?? message.store,
      name: (store?.name ?? message.store).slice(0, WELCOME_NAME_MAX),
    },
  };
}

async function feedState(
  db: Queryable,
  message: Hello,
): Promise<{ head: number; resync: boolean; now: string }> {
  return queryOne<{ head: number; resync: boolean; now: string }>(
    db,
    `select h.pos as head, to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as now,
            $2::uuid is not null
              and not exists (select from possync.rounds r where r.head = $1::bigint and r.nonce = $2::uuid) as resync
       from possync.head h`,
    [message.in.pos, message.in.nonce],
  );
}
