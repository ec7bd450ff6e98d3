/**
 * The moments of a push in which a process dies, or in which it comes twice, each hit exactly: the daemon after it has
 * sealed and before it sends, the daemon with HQ's answer in hand, and two servers of HQ with the same batch at once.
 *
 * A trigger at HQ counts every try to insert a sale, also one that a conflict turns into nothing: equal tables alone
 * would not tell "once" from "twice, and the second time it did not matter".
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type pg from 'pg';
import { compareStore, countDifferences } from '../../src/db/compare.ts';
import { queryOne } from '../../src/db/transaction.ts';
import type { PushResult } from '../../src/store/link/hq-client.ts';
import { HqClient } from '../../src/store/link/hq-client.ts';
import { readCredential } from '../../src/store/credential.ts';
import { helloFrame } from '../../src/store/hello.ts';
import { readInstance } from '../../src/store/instance.ts';
import { Mirror } from '../../src/store/mirror/mirror.ts';
import { Outbox } from '../../src/store/outbox/outbox.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { fetchFrom, NEVER } from '../support/feed.ts';
import { addRegister, openSession, sell } from '../support/pos.ts';
import { startPossync, type TestProcess } from '../support/process.ts';
import { until } from '../support/until.ts';

const DIE_IN_PUSH = pathToFileURL(join(import.meta.dirname, '../support/die-in-push.mjs')).href;
/** A machine with much else to do. */
const LONG_MS = 120_000;

/** What the store has sealed and what it knows to be at HQ, and where HQ stands. */
async function positions(
  hq: TestHq,
  store: TestStore,
): Promise<{ sealed: number; acked: number; atHq: number; chains: boolean }> {
  const own = await queryOne<{ sealed: number; acked: number; chain: string }>(
    store.pool,
    `select s.seq as sealed, d.seq as acked, encode(s.chain, 'hex') as chain
       from possync.state s cross join possync.sending d`,
  );
  const hqs = await queryOne<{ seq: number; chain: string }>(
    hq.pool,
    `select i.seq, encode(i.chain, 'hex') as chain from possync.inbox i where i.store_id = $1::integer`,
    [store.id],
  );
  return { sealed: own.sealed, acked: own.acked, atHq: hqs.seq, chains: own.chain === hqs.chain };
}

async function countInserts(hq: TestHq): Promise<() => Promise<number>> {
  await hq.pool.query(`
    create sequence public.sale_inserts;
    create function public.count_insert() returns trigger language plpgsql security definer as $$
    begin
      perform nextval('public.sale_inserts'); -- not taken back by a rollback or a conflict
      return new;
    end $$;
    create trigger count_insert before insert on public.sales for each row execute function public.count_insert();`);
  return async () =>
    (
      await queryOne<{ n: number }>(
        hq.pool,
        'select case when s.is_called then s.last_value else 0 end as n from public.sale_inserts s',
      )
    ).n;
}

async function assertEqual(hq: TestHq, store: TestStore): Promise<void> {
  assert.equal(countDifferences(await compareStore(hq.pool, store.pool, store.id)), 0);
  assert.equal((await hq.pool.query('select from possync.dead')).rowCount, 0);
}

describe('a daemon that dies in a push', function () {
  this.timeout(4 * LONG_MS);
  let dir: string;
  let dieFile: string;
  let hq: TestHq;
  let store: TestStore;
  let till: pg.Client;
  let session: string;
  let daemon: TestProcess | undefined;
  let inserts: () => Promise<number>;

  const startDaemon = async (deadly: 'deadly' | 'plain'): Promise<TestProcess> =>
    startPossync(['store', 'daemon'], {
      cwd: dir,
      env: {
        DATABASE_URL: store.database.url,
        POSSYNC_STATE_DIR: store.stateDir,
        POSSYNC_STATUS_LISTEN: 'off',
        SYNC_PUSH_INTERVAL: '1s',
        LOG_DIR: join(dir, 'logs'),
        ...(deadly === 'deadly' ? { NODE_OPTIONS: `--import ${DIE_IN_PUSH}`, DIE_FILE: dieFile } : {}),
      },
    });
  const untilQuiet = async (): Promise<void> => {
    await until(
      async () => {
        // Raw rows first: what is sealed between the two looks is then in the positions.
        const raw = (await store.pool.query('select from possync.raw')).rowCount;
        const { sealed, acked, atHq } = await positions(hq, store);
        return raw === 0 && sealed === atHq && acked === sealed;
      },
      { what: 'everything is at HQ, and the store knows it', timeoutMs: LONG_MS },
    );
  };
  /** Dies at the moment while three sales are made; what the database says then. */
  const dieAt = async (moment: 'sealed' | 'answered'): Promise<Awaited<ReturnType<typeof positions>>> => {
    await untilQuiet();
    await writeFile(dieFile, moment);
    for (let n = 0; n < 3; n += 1) await sell(till, session, { storeId: store.id });
    const ended = await daemon?.ended(LONG_MS);
    assert.equal(ended?.signal, 'SIGKILL');
    await rm(dieFile);
    return positions(hq, store);
  };

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'possync-moments-'));
    dieFile = join(dir, 'die');
    hq = await TestHq.open('moments');
    inserts = await countInserts(hq);
    store = await TestStore.enrolled(hq, 'MOMENT');
    till = await store.database.connect();
    session = await openSession(till, await addRegister(till, store.id), store.id);
    await sell(till, session, { storeId: store.id });
  });
  beforeEach(async () => {
    daemon = await startDaemon('deadly');
  });
  afterEach(async () => {
    await daemon?.kill();
  });
  after(async () => {
    await store.close();
    await hq.close();
    await rm(dir, { recursive: true, force: true });
  });

  it('after it has sealed and before it sends: what was sealed is on its disk and goes out under the same numbers, once', async () => {
    const dead = await dieAt('sealed');
    assert.ok(dead.sealed > dead.atHq, 'something was sealed');
    assert.equal(dead.acked, dead.atHq, 'and nothing of it was sent');
    const { rows: sealed } = await store.pool.query<{ seq: number; chain: string }>(
      `select o.seq, encode(o.chain, 'hex') as chain from possync.outbox o order by o.seq`,
    );
    daemon = await startDaemon('plain');
    await untilQuiet();
    const { rows: sent } = await store.pool.query<{ seq: number; chain: string }>(
      `select o.seq, encode(o.chain, 'hex') as chain from possync.outbox o order by o.seq limit $1::bigint`,
      [sealed.length],
    );
    assert.deepEqual(
      sent,
      sealed,
      'the entries that went out are the ones that were sealed before the death',
    );
    assert.equal((await positions(hq, store)).chains, true);
    await assertEqual(hq, store);
    assert.equal(await inserts(), await store.count('sales'));
  });

  it('with HQ’s answer in hand, before it has marked anything: HQ says it again in its greeting, and no entry is sent a second time', async () => {
    const dead = await dieAt('answered');
    assert.ok(dead.atHq > dead.acked, 'HQ has committed what the store does not know to be there');
    const { waiting } = await queryOne<{ waiting: number }>(
      store.pool,
      `select count(*) as waiting from possync.outbox o join possync.sending d on (o.epoch, o.seq) > (d.epoch, d.seq)
        where o.seq <= $1::bigint`,
      [dead.atHq],
    );
    assert.equal(waiting, dead.atHq - dead.acked);
    await rm(join(dir, 'logs'), { recursive: true });
    daemon = await startDaemon('plain');
    await sell(till, session, { storeId: store.id });
    await untilQuiet();
    await daemon.stop();
    const sent = (await readFile(join(dir, 'logs', 'store-server.log'), 'utf8'))
      .split('\n')
      .filter((line) => line.includes('"push.batch"'))
      .map((line) => JSON.parse(line) as { first: number });
    assert.equal(
      Math.min(...sent.map(({ first }) => first)),
      dead.atHq + 1,
      'the first batch begins behind where HQ stands',
    );
    assert.equal((await positions(hq, store)).chains, true);
    await assertEqual(hq, store);
    assert.equal(await inserts(), await store.count('sales'));
  });
});

describe('two servers of HQ that get the same batch', function () {
  this.timeout(3 * LONG_MS);

  it('at the same moment: one applies it, the other waits for that and answers the same, and every sale is written once', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'possync-two-'));
    const hq = await TestHq.open('two servers');
    const inserts = await countInserts(hq);
    const store = await TestStore.enrolled(hq, 'TWO');
    const servers = await Promise.all(
      ['a', 'b'].map((name) =>
        startPossync(['hq', 'serve', '--port', '0', '--metrics-listen', 'off'], {
          cwd: dir,
          env: { DATABASE_URL: hq.database.url, LOG_DIR: join(dir, name) },
        }),
      ),
    );
    const holder = await hq.database.connect();
    try {
      const urls = await Promise.all(
        servers.map(async (server) => {
          const { url } = JSON.parse(await server.line(/"event":"ready"/, LONG_MS)) as { url: string };
          return url;
        }),
      );
      await hq.stop(); // the two processes alone are HQ
      const credential = await readCredential(store.stateDir);
      assert.ok(credential !== undefined);
      const clients = urls.map(
        (url) => new HqClient({ url, credential: credential.token, software: 'test' }),
      );
      const [one, two] = clients;
      assert.ok(one !== undefined && two !== undefined);

      const till = await store.database.connect();
      const session = await openSession(till, await addRegister(till, store.id), store.id);
      for (let n = 0; n < 20; n += 1) await sell(till, session, { storeId: store.id });
      const outbox = new Outbox(store.pool);
      const mirror = new Mirror({ pool: store.pool });
      const instance = { ...(await readInstance(store.pool)), daemon: randomUUID() };
      const welcome = await one.hello(await helloFrame(outbox, mirror, instance, store.code));
      assert.ok(welcome.type === 'welcome');
      await outbox.applyWelcome(welcome);
      await outbox.seal();
      const batch = await outbox.nextBatch();
      assert.ok(batch !== undefined);
      const message = { ...batch, fence: welcome.fence };

      // Both have the batch and stand before the same row when it is let go.
      await holder.query('begin; select from possync.inbox i for update');
      const both: Promise<PushResult>[] = [one.push(message), two.push(message)];
      await until(
        async () =>
          (
            await hq.pool.query(
              `select from pg_stat_activity a
                where a.datname = current_database() and a.wait_event_type = 'Lock' and a.query ~ 'possync.inbox'`,
            )
          ).rowCount === 2,
        { what: 'both servers wait for the inbox of the store', timeoutMs: LONG_MS },
      );
      await holder.query('rollback');
      const answers = await Promise.all(both);

      const sealed = await queryOne<{ seq: number; chain: string }>(
        store.pool,
        `select s.seq, encode(s.chain, 'hex') as chain from possync.state s`,
      );
      const answer = { result: 'ok', answer: { ...sealed, dead: [] } };
      assert.deepEqual(answers, [answer, answer]);
      assert.equal(await inserts(), 20);
      assert.equal((await positions(hq, store)).atHq, sealed.seq);
      await mirror.pull(fetchFrom(hq.pool, store.id), NEVER);
      assert.deepEqual(await outbox.acknowledge(message, { ...sealed, dead: [] }), { result: 'agreed' });
      await assertEqual(hq, store);
    } finally {
      await holder.end();
      await Promise.all(servers.map((server) => server.stop()));
      await store.close();
      await hq.close();
      await rm(dir, { recursive: true, force: true });
    }
  });
});
