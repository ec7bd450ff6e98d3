/** A comparison as the daemon makes it, and hands that change rows past every trigger. */
import type pg from 'pg';
import { randomUUID } from 'node:crypto';
import * as z from 'zod';
import { askDaemon, tellDaemon } from '../../src/cli/daemon-socket.ts';
import { systemClock } from '../../src/core/clock.ts';
import { SOFTWARE } from '../../src/core/version.ts';
import { withTransaction } from '../../src/db/transaction.ts';
import { ENTITIES } from '../../src/protocol/entities.ts';
import { storeReportSchema, type StoreReport } from '../../src/protocol/verify.ts';
import { readCredential } from '../../src/store/credential.ts';
import { HqClient } from '../../src/store/link/hq-client.ts';
import { readStoreIdentity } from '../../src/store/outbox/identity.ts';
import { VerifyHq } from '../../src/store/verify/hq.ts';
import { Verifier } from '../../src/store/verify/verifier.ts';
import type { TestHq, TestStore } from './chain.ts';
import { NEVER } from './feed.ts';
import { until } from './until.ts';

const viewSchema = z.object({
  id: z.uuid(),
  report: storeReportSchema.nullable(),
  error: z.object({ code: z.string(), message: z.string() }).nullable(),
});

/** What a superuser does who knows better: no trigger sees it. */
export async function tamper(pool: pg.Pool, statement: string, values: unknown[] = []): Promise<number> {
  return withTransaction(pool, async (tx) => {
    await tx.query('set local session_replication_role = replica');
    return (await tx.query(statement, values)).rowCount ?? 0;
  });
}

export async function clientOf(store: TestStore): Promise<HqClient> {
  const credential = await readCredential(store.stateDir);
  if (credential === undefined) throw new Error('the store has no credential');
  return new HqClient({
    url: credential.hqUrl,
    credential: credential.token,
    hqId: credential.hqId,
    software: SOFTWARE,
  });
}

/** Through the running daemon, as `possync verify` in the store. */
export async function verify(store: TestStore, { repair = false } = {}): Promise<StoreReport> {
  const socket = store.running.socketPath;
  const { id } = viewSchema.parse(
    await tellDaemon(socket, `/api/v1/verify?actor=test${repair ? '&repair=1' : ''}`, 5_000),
  );
  const { report, error } = await until(
    async () => {
      const view = viewSchema.parse(await askDaemon(socket, 'GET', `/api/v1/verify?id=${id}`));
      return view.report === null && view.error === null ? false : view;
    },
    { what: 'the comparison ended', timeoutMs: 60_000 },
  );
  if (report === null) throw new Error(`${error?.code}: ${error?.message}`);
  return report;
}

/** Without a daemon: nothing is pushed or pulled first. */
export async function verifyAlone(store: TestStore, { repair = false } = {}): Promise<StoreReport> {
  const client = await clientOf(store);
  const identity = await readStoreIdentity(store.pool);
  if (identity === undefined) throw new Error('the database is bound to no store');
  try {
    const hq = new VerifyHq((step, body, signal) => client.verify(step, body, signal), systemClock, NEVER);
    const { pool } = store;
    return await new Verifier({
      pool,
      store: identity,
      entities: ENTITIES,
      hq,
      clock: systemClock,
      signal: NEVER,
    }).run({ id: randomUUID(), repair, actor: 'test' });
  } finally {
    client.close();
  }
}

/** `table way: differing/missing at HQ/missing in the store` of every table that is not equal. */
export function differencesIn({ tables }: StoreReport): string[] {
  return tables
    .filter(
      (t) => t.reason !== null || t.differing !== 0 || t.missing_at_hq !== 0 || t.missing_at_store !== 0,
    )
    .map(
      (t) =>
        `${t.table} ${t.direction}: ${t.reason === null ? `${t.differing}/${t.missing_at_hq}/${t.missing_at_store}` : t.reason.code}`,
    );
}

/** Everything that was committed at either end is at the other one. */
export async function settled(hq: TestHq, store: TestStore): Promise<void> {
  await until(
    async () => {
      const { rows: waiting } = await store.pool.query<{ n: number }>(
        `select (select count(*) from possync.raw) + (select count(*) from possync.outbox o join possync.sending d on (o.epoch, o.seq) > (d.epoch, d.seq)) as n`,
      );
      const { rows: open } = await hq.pool.query<{ head: number; captured: number }>(
        'select h.pos as head, (select count(*) from possync.capture) as captured from possync.head h',
      );
      const { rows: cursor } = await store.pool.query<{ pos: number }>('select c.pos from possync.cursor c');
      const [hqNow] = open;
      return waiting[0]?.n === 0 && hqNow?.captured === 0 && cursor[0]?.pos === hqNow.head;
    },
    { what: 'store and HQ settled', timeoutMs: 30_000 },
  );
}
