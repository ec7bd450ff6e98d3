/** Trouble in the store itself: a full disk, a PostgreSQL that restarts, a wrong clock. Tills decide, nothing is lost. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chown, mkdir, mkdtemp, rm, rmdir, statfs, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type pg from 'pg';
import { codeOf } from '../../src/core/classify.ts';
import { systemClock, type Clock } from '../../src/core/clock.ts';
import { queryOne } from '../../src/db/transaction.ts';
import { postgresIdentity } from '../../src/demo/postgres/identity.ts';
import { readStoreStatus } from '../../src/store/status.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { OwnPostgres } from '../support/own-postgres.ts';
import { addRegister, insertSale, openSession, sell } from '../support/pos.ts';
import { skip } from '../support/skip.ts';
import { until } from '../support/until.ts';

const run = promisify(execFile);

async function salesAtHq(hq: TestHq, storeId: number): Promise<string[]> {
  const { rows } = await hq.pool.query<{ id: string }>(
    'select id from public.sales where store_id = $1::int',
    [storeId],
  );
  return rows.map(({ id }) => id).sort();
}

async function untilDelivered(hq: TestHq, store: TestStore, sold: readonly string[]): Promise<void> {
  await until(async () => (await salesAtHq(hq, store.id)).length >= sold.length, {
    what: `HQ has ${sold.length} sales of ${store.code}`,
    timeoutMs: 40_000,
  });
  assert.deepEqual(await salesAtHq(hq, store.id), [...sold].sort(), 'each of them, once');
}

/** A small file system of its own; undefined where this user may mount none. */
async function smallDisk(megabytes: number): Promise<{ path: string; free(): Promise<void> } | undefined> {
  const path = await mkdtemp(join(tmpdir(), 'possync-disk-'));
  const gone = async (): Promise<void> => {
    await rmdir(path);
  };
  if (process.platform !== 'linux' || process.getuid?.() !== 0) {
    await gone();
    return undefined;
  }
  try {
    await run('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m,mode=0755`, 'possync-test', path]);
  } catch {
    await gone();
    return undefined;
  }
  return {
    path,
    async free() {
      await run('umount', ['--lazy', path]);
      await gone();
    },
  };
}

/** Writes until nothing more fits. */
async function fill(path: string): Promise<string> {
  const ballast = join(path, 'ballast');
  for (let chunk = 8 << 20; chunk >= 4_096;) {
    const { bavail, bsize } = await statfs(path);
    if (bavail === 0) break;
    try {
      await writeFile(ballast, Buffer.alloc(Math.min(chunk, bavail * bsize)), { flag: 'a' });
    } catch (error) {
      assert.equal(codeOf(error), 'ENOSPC');
      chunk /= 2;
    }
  }
  return ballast;
}

describe('the disk of the store is full', function () {
  this.timeout(180_000);

  it('tills get the error of PostgreSQL, the daemon goes on and says so, and all that was committed arrives', async function () {
    const disk = await smallDisk(48);
    if (disk === undefined) skip(this, 'a small file system may not be mounted here');
    const own = await OwnPostgres.start();
    const hq = await TestHq.open('disk full');
    const { uid, gid } = postgresIdentity().spawnAs;
    const directory = join(disk.path, 'pg');
    await mkdir(directory);
    await chown(directory, uid ?? 0, gid ?? 0);
    const store = await TestStore.open(hq, 'DISK', {
      database: await own.database('store', 'disk', directory),
    });
    try {
      await store.untilLight('green');
      const till = await store.database.connect();
      const session = await openSession(till, await addRegister(till, store.id), store.id);
      const sold: string[] = [];
      for (let n = 0; n < 5; n += 1) sold.push(await sell(till, session, { storeId: store.id }));
      await untilDelivered(hq, store, sold);

      const ballast = await fill(disk.path);
      let refused: unknown;
      for (let n = 0; n < 5_000 && refused === undefined; n += 1) {
        try {
          sold.push(await sell(till, session, { storeId: store.id, lines: 20 }));
        } catch (error) {
          refused = error;
        }
      }
      assert.equal(codeOf(refused), '53100', 'the till is told, in its own statement');
      const status = async () => readStoreStatus(store.pool, { stateDir: store.stateDir, source: 'daemon' });
      const { database } = await status();
      assert.deepEqual([database.state, database.reason?.code], ['failing', 'PS-DB-DISK']);
      assert.equal(await failed(store), false, 'the daemon runs');

      await rm(ballast);
      sold.push(await sell(till, session, { storeId: store.id }));
      await untilDelivered(hq, store, sold);
      await until(async () => (await status()).database.state === 'ok', {
        what: 'the status is well again',
        timeoutMs: 30_000,
      });
      assert.equal((await hq.pool.query('select from possync.dead')).rowCount, 0);
    } finally {
      await store.close();
      await hq.close();
      await own.stop();
      await disk.free();
    }
  });
});

/** Has the daemon given up? */
async function failed(store: TestStore): Promise<boolean> {
  return await Promise.race([
    (store.running.failed ?? new Promise<never>(() => undefined)).then(() => true),
    Promise.resolve(false),
  ]);
}

describe('PostgreSQL restarts', function () {
  this.timeout(180_000);

  it('fast and immediately, under HQ and under the daemon: both go on by themselves, every sale arrives once', async () => {
    const own = await OwnPostgres.start();
    const hq = await TestHq.open('restart', { database: await own.database('hq', 'restart_hq') });
    const store = await TestStore.open(hq, 'RESTART', {
      database: await own.database('store', 'restart_store'),
    });
    try {
      await store.untilLight('green');
      let till = await store.database.connect();
      const session = await openSession(till, await addRegister(till, store.id), store.id);
      const sold = [await sell(till, session, { storeId: store.id })];
      const restarts = [
        () => own.server.restart(),
        async () => {
          await own.server.kill('SIGQUIT');
          await own.server.restart();
        },
        async () => {
          await own.server.kill('SIGKILL');
          await own.server.restart();
        },
      ];
      for (const [n, restart] of restarts.entries()) {
        sold.push(await sell(till, session, { storeId: store.id }));
        const open = await store.database.connect();
        await open.query('begin');
        await insertSale(open, session, { storeId: store.id });
        await restart();
        await assert.rejects(open.query('commit'), 'what was not committed is not sold');
        till = await store.database.connect();
        sold.push(await sell(till, session, { storeId: store.id }));
        await hq.pool.query(`insert into public.roles (id, name) values (gen_random_uuid(), $1::text)`, [
          `r${n}`,
        ]);
        await untilDelivered(hq, store, sold);
        await until(async () => (await store.count('roles')) === n + 1, {
          what: 'the change of HQ came down',
          timeoutMs: 40_000,
        });
        await store.untilLight('green', 40_000);
        assert.equal(await failed(store), false);
      }
      assert.equal((await hq.pool.query('select from possync.dead')).rowCount, 0);
    } finally {
      await store.close();
      await hq.close();
      await own.stop();
    }
  });
});

/** A wall clock that can be set, with real timers. */
class SetClock implements Clock {
  offsetMs: number;
  constructor(offsetMs: number) {
    this.offsetMs = offsetMs;
  }
  now(): number {
    return systemClock.now() + this.offsetMs;
  }
  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return systemClock.sleep(ms, signal);
  }
  after(ms: number, fn: () => void): () => void {
    return systemClock.after(ms, fn);
  }
}

const HOUR_MS = 3_600_000;

describe('the clock of the store', function () {
  this.timeout(120_000);
  let hq: TestHq;
  before(async () => {
    hq = await TestHq.open('clock');
  });
  after(async () => {
    await hq.close();
  });

  async function arrived(
    store: TestStore,
  ): Promise<{ id: string; occurred: string; day: string; seq: number }[]> {
    // The order in which HQ took them is the order of its tuples: nothing updates or removes one here.
    const { rows } = await hq.pool.query<{ id: string; occurred: string; day: string; seq: number }>(
      `select s.id, to_char(s.occurred_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') as occurred,
              s.business_date::text as day, 0 as seq
         from public.sales s where s.store_id = $1::int order by s.received_at, s.tableoid, s.ctid`,
      [store.id],
    );
    return rows;
  }

  it('a day ahead and then set back by two: the tick goes on, and the order is that of the commits', async () => {
    const clock = new SetClock(25 * HOUR_MS);
    const store = await TestStore.open(hq, 'CLOCK', { clock, pushIntervalMs: 700 });
    await store.untilLight('green');
    const till = await store.database.connect();
    const session = await openSession(till, await addRegister(till, store.id), store.id);
    const sold = [await sellAt(till, session, store.id, '2026-11-21T10:00:00Z', '2026-11-21')];
    await untilDelivered(hq, store, sold);
    clock.offsetMs = -26 * HOUR_MS;
    // Refund of a sale "from tomorrow", at a time before it.
    sold.push(await sellAt(till, session, store.id, '2026-11-19T09:00:00Z', '2026-11-19'));
    await untilDelivered(hq, store, sold);
    assert.deepEqual(
      (await arrived(store)).map(({ id }) => id),
      sold,
      'as committed, not as stamped',
    );
    assert.equal((await store.link()).indicator, 'green');
    await store.close();
  });

  it('the nights in which the hour comes twice or never: instants and business days arrive as they were written', async () => {
    const store = await TestStore.open(hq, 'DST');
    const till = await store.database.connect();
    await till.query(`set timezone = 'Europe/Berlin'`);
    const session = await openSession(till, await addRegister(till, store.id), store.id);
    // 25 October: 02:30 summer time, 02:30 winter time; 29 March: 01:59, then 03:00.
    const nights = [
      ['2026-10-25 02:30:00+02', '2026-10-24'],
      ['2026-10-25 02:30:00+01', '2026-10-24'],
      ['2026-03-29 01:59:59+01', '2026-03-28'],
      ['2026-03-29 03:00:00+02', '2026-03-29'],
    ] as const;
    const sold: string[] = [];
    for (const [at, day] of nights) sold.push(await sellAt(till, session, store.id, at, day));
    await untilDelivered(hq, store, sold);
    const byId = new Map((await arrived(store)).map((sale) => [sale.id, sale]));
    assert.deepEqual(
      sold.map((id) => [byId.get(id)?.occurred, byId.get(id)?.day]),
      [
        ['2026-10-25 00:30:00', '2026-10-24'],
        ['2026-10-25 01:30:00', '2026-10-24'],
        ['2026-03-29 00:59:59', '2026-03-28'],
        ['2026-03-29 01:00:00', '2026-03-29'],
      ],
    );
    // Whoever writes in whatever zone: the same rows are the same text, or a re-export would contradict itself.
    const { rows } = await store.pool.query<{ body: string }>(
      `select o.body from possync.outbox o where o.body like '%2026-10-25%' order by o.seq`,
    );
    assert.equal(rows.length, 2);
    for (const { body } of rows) assert.match(body, /"2026-10-25 0[01]:30:00\+00"/);
    await store.close();
  });

  it('"today" is that of the store’s time zone, at both of its midnights', async () => {
    const at = async (instant: string, zone: string): Promise<string> =>
      (
        await queryOne<{ day: string }>(
          hq.pool,
          `select (timestamptz '${instant}' at time zone $1::text)::date::text as day`,
          [zone],
        )
      ).day;
    // The rule of possync.today_in, at instants that now() does not reach.
    const source = await queryOne<{ body: string }>(
      hq.pool,
      `select p.prosrc as body from pg_proc p where p.proname = 'today_in'`,
    );
    assert.match(source.body, /\(now\(\) at time zone zone\)::date/);
    assert.equal(await at('2026-10-25 21:59:59+00', 'Europe/Berlin'), '2026-10-25');
    assert.equal(await at('2026-10-25 23:00:00+00', 'Europe/Berlin'), '2026-10-26');
    assert.equal(await at('2026-10-25 22:30:00+00', 'Europe/Berlin'), '2026-10-25', 'the longer day');
    assert.equal(await at('2026-10-24 22:30:00+00', 'Europe/Berlin'), '2026-10-25');
  });
});

async function sellAt(
  till: pg.Client,
  session: string,
  storeId: number,
  at: string,
  businessDate: string,
): Promise<string> {
  await till.query('begin');
  const id = await insertSale(till, session, { storeId, businessDate });
  // The same transaction may still complete what it wrote.
  await till.query('update public.sales set occurred_at = $2::timestamptz where id = $1::uuid', [id, at]);
  await till.query('commit');
  return id;
}
