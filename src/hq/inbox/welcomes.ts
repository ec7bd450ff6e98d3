/**
 * SQL: the inbox side of hello, for all stores that say it at the same moment: one transaction, a handful of statements.
 *
 *   lock the rows ─▶ per store: changed · refused · a fence ─▶ write all ─▶ read feed, dead letters, orders for all
 *      └ held by somebody (a push at work): that store alone, in a transaction of its own that waits
 *
 * A chain that comes back after HQ restarted would else cost a dozen statements and a wait for the disk a store. No
 * store waits for another one's row, and what one store says cannot refuse another: it is tried by itself then.
 */
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { isDataError, isRetryableSql } from '../../core/classify.ts';
import { systemClock } from '../../core/clock.ts';
import { Joint } from '../../core/joint.ts';
import { SOFTWARE } from '../../core/version.ts';
import { withTransaction, type Queryable } from '../../db/transaction.ts';
import {
  instanceSchema,
  type Hello,
  type Instance,
  type Refuse,
  type Welcome,
} from '../../protocol/messages.ts';
import { PROTOCOL_VERSION } from '../../protocol/version.ts';
import { DEAD_SHOWN, type DeclaredEpoch } from './inbox.ts';

/** Whose instance held the session when it was asked whether it lives. */
export interface Greeting {
  readonly storeId: number;
  readonly message: Hello;
  readonly holder: Instance | undefined;
  readonly store: { readonly code: string; readonly name: string };
}

/** `changed`: somebody else came in meanwhile, look again. */
export type Answer = Welcome | Refuse | 'changed';

/** As welcomeSchema takes it. */
const WELCOME_NAME_MAX = 1_000;

export class Welcomes {
  readonly #pool: pg.Pool;
  readonly #joint: Joint<Greeting, ReadonlyMap<Greeting, Answer>>;

  constructor(pool: pg.Pool, gatherMs: number) {
    this.#pool = pool;
    this.#joint = new Joint((greetings) => this.#together(greetings), systemClock, gatherMs);
  }

  async greet(greeting: Greeting): Promise<Answer> {
    const answer = (await this.#joint.join(greeting)).get(greeting);
    return answer ?? (await this.#alone(greeting));
  }

  /** Who is missing in the answer has to come alone. */
  async #together(greetings: readonly Greeting[]): Promise<ReadonlyMap<Greeting, Answer>> {
    // Two of one store: the second one's look is older than the first one's welcome.
    const first = new Map<number, Greeting>();
    for (const greeting of greetings) if (!first.has(greeting.storeId)) first.set(greeting.storeId, greeting);
    const later = greetings.filter((greeting) => first.get(greeting.storeId) !== greeting);
    if (first.size === 1) return new Map(later.map((greeting) => [greeting, 'changed']));
    try {
      const answers = await withTransaction(this.#pool, (tx) =>
        welcomeAll(tx, [...first.values()], { wait: false }),
      );
      return new Map([...answers, ...later.map((greeting) => [greeting, 'changed'] as const)]);
    } catch (error) {
      if (isDataError(error) || isRetryableSql(error)) return new Map();
      throw error;
    }
  }

  async #alone(greeting: Greeting): Promise<Answer> {
    const answers = await withTransaction(this.#pool, (tx) => welcomeAll(tx, [greeting], { wait: true }));
    const answer = answers.get(greeting);
    if (answer === undefined) throw new Error(`no inbox for store ${greeting.storeId}`);
    return answer;
  }
}

interface Standing {
  readonly storeId: number;
  readonly epoch: number;
  readonly seq: number;
  readonly chain: string;
  readonly holder: Instance | undefined;
}

/** The session that a store gets. */
interface Session extends Omit<Standing, 'holder'> {
  readonly fence: string;
}

/** Of each store one greeting. Those whose row somebody holds are not in the answer, unless it waits for them. */
async function welcomeAll(
  tx: pg.PoolClient,
  greetings: readonly Greeting[],
  { wait }: { readonly wait: boolean },
): Promise<Map<Greeting, Answer>> {
  await tx.query('set local synchronous_commit to on');
  const storeIds = greetings.map(({ storeId }) => storeId);
  const standings = await lockAll(tx, storeIds, wait);
  const missing = storeIds.filter((storeId) => !standings.has(storeId));
  if (missing.length > 0) {
    await makeAll(tx, missing);
    for (const [storeId, standing] of await lockAll(tx, missing, wait)) standings.set(storeId, standing);
  }
  const answers = new Map<Greeting, Answer>();
  const sessions = new Map<Greeting, Session>();
  for (const greeting of greetings) {
    const standing = standings.get(greeting.storeId);
    if (standing === undefined) continue;
    const decided = decide(standing, greeting);
    if (decided === 'changed' || 'type' in decided) answers.set(greeting, decided);
    else sessions.set(greeting, decided);
  }
  if (sessions.size === 0) return answers;
  await writeAll(tx, sessions);
  const read = await readAll(tx, sessions);
  for (const [greeting, session] of sessions) {
    const feed = read.get(greeting.storeId);
    if (feed === undefined) throw new Error('HQ has no head or no identity');
    answers.set(greeting, welcome(greeting, session, feed));
  }
  return answers;
}

function decide(standing: Standing, { message, holder, storeId }: Greeting): Session | Refuse | 'changed' {
  if (standing.holder?.daemon !== holder?.daemon) return 'changed';
  const { epoch } = standing;
  const refused = (detail: string): Refuse => ({ type: 'refuse', code: 'epoch', detail, epoch });
  if (message.epoch < epoch)
    return refused(`epoch ${epoch} of this store is in force, this database is of epoch ${message.epoch}`);
  // A newer epoch with nothing in the one that HQ knows: nobody has been here before, or HQ lost it all.
  const skip = message.epoch > epoch && !message.epochs.some((declared) => declared.epoch === epoch);
  if (skip && standing.seq > 0)
    return refused(`HQ stands in epoch ${epoch} of this store, of which this database knows nothing`);
  const { seq, chain } = standing;
  return { storeId, epoch: skip ? message.epoch : epoch, seq, chain, fence: randomUUID() };
}

function welcome(
  { store, storeId }: Greeting,
  { epoch, seq, chain, fence }: Session,
  { head, resync, now, hqId, dead }: DbFeed,
): Welcome {
  return {
    type: 'welcome',
    v: PROTOCOL_VERSION,
    fence,
    epoch,
    inbox: { seq, chain },
    head,
    resync,
    dead: dead.map(Number),
    hq: { id: hqId, software: SOFTWARE, now },
    // A name is free text of HQ's applications; a frame is bounded.
    store: { id: storeId, code: store.code, name: store.name.slice(0, WELCOME_NAME_MAX) },
  };
}

/**
 * In the order of stores, as everybody who locks several. Nothing of another table is read in this statement: after a
 * wait for the lock it would be of the time before.
 */
async function lockAll(
  tx: Queryable,
  storeIds: readonly number[],
  wait: boolean,
): Promise<Map<number, Standing>> {
  const { rows } = await tx.query<Omit<Standing, 'holder'> & { instance: string | null }>(
    `select i.store_id as "storeId", i.epoch, i.seq, encode(i.chain, 'hex') as chain, i.instance::text as instance
       from possync.inbox i where i.store_id = any($1::integer[]) order by i.store_id
        for update${wait ? '' : ' skip locked'}`,
    [storeIds],
  );
  return new Map(rows.map(({ instance, ...row }) => [row.storeId, { ...row, holder: holderIn(instance) }]));
}

/** First hellos. A row that another transaction is making now is waited for: that is this very statement, elsewhere. */
async function makeAll(tx: Queryable, storeIds: readonly number[]): Promise<void> {
  await tx.query(
    `insert into possync.inbox (store_id) select s.id from unnest($1::integer[]) as s (id) order by s.id
     on conflict (store_id) do nothing`,
    [storeIds],
  );
}

/** Layouts are the same for all stores of a release: they are sent once for each release and not once a store. */
async function writeAll(tx: Queryable, sessions: ReadonlyMap<Greeting, Session>): Promise<void> {
  const all = [...sessions].map(([{ message }, session]) => ({ message, session }));
  const layouts = [...new Set(all.map(({ message }) => JSON.stringify(message.layouts ?? [])))];
  const at = new Map(layouts.map((text, index) => [text, index + 1]));
  await tx.query(
    `update possync.inbox i
        set fence = w.fence, instance = w.instance::jsonb, software = w.software, hello_at = clock_timestamp(),
            declared = w.declared::jsonb, epoch = w.epoch, layouts = ($8::text[])[w.layouts]::jsonb
       from unnest($1::integer[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::integer[])
            as w (store_id, fence, instance, software, declared, epoch, layouts)
      where i.store_id = w.store_id`,
    [
      all.map(({ session }) => session.storeId),
      all.map(({ session }) => session.fence),
      all.map(({ message }) => JSON.stringify(message.instance)),
      all.map(({ message }) => message.software),
      all.map(({ message }) => JSON.stringify(message.epochs satisfies readonly DeclaredEpoch[])),
      all.map(({ session }) => session.epoch),
      all.map(({ message }) => at.get(JSON.stringify(message.layouts ?? []))),
      layouts,
    ],
  );
}

interface DbFeed {
  readonly storeId: number;
  readonly head: number;
  readonly now: string;
  readonly hqId: string;
  readonly resync: boolean;
  readonly dead: readonly string[];
}

/** After the locks: what a push has parked before it let go of the row is there. */
async function readAll(
  tx: Queryable,
  sessions: ReadonlyMap<Greeting, Session>,
): Promise<ReadonlyMap<number, DbFeed>> {
  const all = [...sessions].map(([{ message }, session]) => ({ cursor: message.in, session }));
  const { rows } = await tx.query<DbFeed>(
    `select s.store_id as "storeId", h.pos as head, q.id::text as "hqId",
            to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as now,
            s.nonce is not null
              and not exists (select from possync.rounds r where r.head = s.pos and r.nonce = s.nonce) as resync,
            array(select d.seq from possync.dead d where d.store_id = s.store_id and d.epoch = s.epoch
                   order by d.seq limit ${DEAD_SHOWN})::text[] as dead
       from unnest($1::integer[], $2::integer[], $3::bigint[], $4::uuid[]) as s (store_id, epoch, pos, nonce)
      cross join possync.head h
       join possync.identity q on q.role = 'hq'`,
    [
      all.map(({ session }) => session.storeId),
      all.map(({ session }) => session.epoch),
      all.map(({ cursor }) => cursor.pos),
      all.map(({ cursor }) => cursor.nonce),
    ],
  );
  return new Map(rows.map((row) => [row.storeId, row]));
}

export function holderIn(instance: string | null): Instance | undefined {
  return instance === null ? undefined : instanceSchema.parse(JSON.parse(instance));
}
