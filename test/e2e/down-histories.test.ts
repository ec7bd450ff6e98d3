/**
 * Random histories of a head office, mirrored by three stores: after every apply a store must equal what HQ was at
 * that head, exactly. The wrong ways to do it, each seen failing, are in down-wrong-ways.test.ts.
 */
import assert from 'node:assert/strict';
import { databaseError } from '../../src/core/classify.ts';
import { createPool } from '../../src/db/pool.ts';
import { queryOne, withConnection } from '../../src/db/transaction.ts';
import { sealOnce } from '../../src/hq/feed/seal.ts';
import { Mirror, type FetchPage } from '../../src/store/mirror/mirror.ts';
import { fetchFrom, NEVER, pull, seal, stateOf } from '../support/feed.ts';
import { openHq, openStore, type TestSide } from '../support/pos.ts';
import { randomFor, type Random } from '../support/random.ts';
import { brokenPairs, furnish, installOracle, randomTransaction, readOracle, STORES } from './down-world.ts';

const WRITERS = 3;
/** The history ends when it has shown enough, or is too long to be any good. */
const ENOUGH = { applied: 150, sealersKilled: 5, appliesKilled: 3, resumed: 10 };
const MOST_TRANSACTIONS = 6_000;

class Tally {
  committed = 0;
  rounds = 0;
  sealersKilled = 0;
  applied = 0;
  resumed = 0;
  appliesKilled = 0;

  get enough(): boolean {
    return (
      this.applied >= ENOUGH.applied &&
      this.sealersKilled >= ENOUGH.sealersKilled &&
      this.appliesKilled >= ENOUGH.appliesKilled &&
      this.resumed >= ENOUGH.resumed
    );
  }
}

const connectionLost = (error: unknown): boolean => databaseError(error).code === 'PS-DB-DOWN';

describe('histories of a head office', function () {
  this.timeout(180_000);
  let hq: TestSide;
  const stores = new Map<number, TestSide>();

  before(async () => {
    hq = await openHq('histories', []);
    for (const id of STORES) stores.set(id, await openStore(`histories ${id}`, id));
    await installOracle(hq.db);
    await furnish(hq.db);
    await seal(hq.db);
  });

  after(async () => {
    for (const store of stores.values()) await store.close();
    await hq.close();
  });

  it('invariants 1, 2, 6, 7, 8, 10: each applied state is one that HQ had, with sealers and applies killed', async () => {
    const random = randomFor('histories');
    const tally = new Tally();
    const writing = { open: WRITERS };
    let sealing = true;

    const writers = Array.from({ length: WRITERS }, async (_, i) => {
      const db = await hq.database.connect();
      const own = random.fork(`writer ${i}`);
      while (!tally.enough && tally.committed < MOST_TRANSACTIONS) {
        if (await randomTransaction(db, own)) tally.committed += 1;
        await db.query('select pg_sleep($1::float8)', [own.int(25) / 1_000]);
      }
      writing.open -= 1;
    });
    const sealers = [0, 1].map(async () => {
      const pool = createPool({ url: hq.database.url, applicationName: 'sealer', max: 1 });
      while (sealing) {
        try {
          const outcome = await withConnection(pool, sealOnce);
          if (outcome.result === 'sealed') tally.rounds += 1;
        } catch (error) {
          if (!connectionLost(error)) throw error;
        }
      }
      await pool.end();
    });
    const killer = (async () => {
      const own = random.fork('killer');
      const db = await hq.database.connect();
      while (writing.open > 0) {
        const { n } = await queryOne<{ n: number }>(
          db,
          `select count(*) filter (where pg_terminate_backend(a.pid)) as n from pg_stat_activity a
            where a.datname = current_database() and a.application_name = 'sealer' and a.state = 'active'
              and a.query like '%possync.seal()%' and random() < 0.2`,
        );
        tally.sealersKilled += n;
        await db.query('select pg_sleep($1::float8)', [own.int(60) / 1_000]);
      }
    })();
    const followers = [...stores].map(([id, side]) =>
      follow(hq, side, id, random.fork(`store ${id}`), tally, () => writing.open > 0),
    );

    await Promise.all([...writers, killer]);
    sealing = false;
    await Promise.all(sealers);
    await sealOnce(hq.db);
    await Promise.all(followers);
    for (const [id, side] of stores) {
      await pull(hq.pool, side.pool, id);
      assert.equal(
        await stateOf(side.db, 'store', id),
        await stateOf(hq.db, 'hq', id),
        `store ${id} at the end`,
      );
    }
    const { left } = await queryOne<{ left: number }>(hq.db, 'select count(*) as left from possync.capture');
    assert.equal(left, 0, 'changes that no round took');
    console.log(`      ${JSON.stringify(tally)}`);
    assert.ok(tally.enough, 'the history was too quiet to mean something');
  });

  it('invariant 4: the live scopes of every record are its audience, and never scope 0 beside a store', async () => {
    const { mixed } = await queryOne<{ mixed: number }>(
      hq.db,
      `select count(*) as mixed from (select 1 from possync.feed f where f.doc is not null
         group by f.entity, f.pk having bool_or(f.store_id = 0) and bool_or(f.store_id > 0)) m`,
    );
    assert.equal(mixed, 0);
    const { late } = await queryOne<{ late: number }>(
      hq.db,
      `select count(*) as late from possync.feed f, possync.head h where f.pos > h.pos`,
    );
    assert.equal(late, 0, 'invariant 1: a position beyond the head');
  });
});

/** One store: pulls with pages of any size, is cut off and killed anywhere, and is compared after every apply. */
async function follow(
  hq: TestSide,
  side: TestSide,
  id: number,
  random: Random,
  tally: Tally,
  going: () => boolean,
): Promise<void> {
  const name = `mirror ${id}`;
  const pool = createPool({ url: side.database.url, applicationName: name, max: 2 });
  const fetchPage = fetchFrom(hq.pool, id);
  while (going()) {
    // A new object each time: like a daemon that was started again.
    const cut = random.chance(0.3) ? random.int(6) : Infinity;
    const mirror = new Mirror({ pool, pageRows: 1 + random.int(cut === Infinity ? 100 : 20) });
    const kill = random.chance(0.25);
    const killing: Promise<void>[] = [];
    let pages = 0;
    const unsteady: FetchPage = async (query, signal) => {
      pages += 1;
      if (pages > cut) {
        tally.resumed += 1;
        return { result: 'behind' };
      }
      const answer = await fetchPage(query, signal);
      if (kill && cut === Infinity) killing.push(killSoon(side, name, random, tally));
      return answer;
    };
    try {
      const outcome = await mirror.pull(unsteady, NEVER);
      if (outcome.result === 'failed') throw outcome.error;
      if (outcome.result !== 'applied') continue;
      tally.applied += 1;
      const [is, must] = await Promise.all([
        stateOf(side.db, 'store', id),
        readOracle(hq.pool, outcome.pos, id),
      ]);
      assert.equal(is, must, `store ${id} at head ${outcome.pos}`);
      assert.equal(await brokenPairs(side.db), 0, `store ${id}: half a transaction at head ${outcome.pos}`);
    } catch (error) {
      if (error instanceof assert.AssertionError || !connectionLost(error)) throw error;
    } finally {
      await Promise.all(killing);
    }
  }
  await pool.end();
}

async function killSoon(side: TestSide, name: string, random: Random, tally: Tally): Promise<void> {
  await side.pool.query('select pg_sleep($1::float8)', [random.int(30) / 1_000]);
  const { n } = await queryOne<{ n: number }>(
    side.pool,
    `select count(*) filter (where pg_terminate_backend(a.pid)) as n from pg_stat_activity a
      where a.datname = current_database() and a.application_name = $1 and a.state <> 'idle'`,
    [name],
  );
  tally.appliesKilled += n;
}
