/** The ledger against an oracle: whatever arrives in whatever order, parked or killed in between, the end is the same. */
import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import type pg from 'pg';
import { ledgerFindings } from '../../src/hq/ledger/findings.ts';
import { settleLedger } from '../../src/hq/ledger/ledger.ts';
import {
  arrive,
  judgeAll,
  makeUnits,
  sessionOf,
  shuffled,
  type Expected,
  type Unit,
} from '../support/ledger-world.ts';
import { openHq, type TestSide } from '../support/pos.ts';
import { startNode, type TestProcess } from '../support/process.ts';
import { randomFor, type Random } from '../support/random.ts';
import { until } from '../support/until.ts';

describe('the ledger, whatever the order', function () {
  this.timeout(300_000); // processes are started and killed, on a machine that may be busy
  let hq: TestSide;
  before(async () => {
    hq = await openHq('ledger property', []);
    await hq.db.query(`set possync.applying = 'on'`);
  });
  after(() => hq.close());

  /** What HQ's ledger says of the two stores. */
  async function said(base: number): Promise<Expected> {
    const stores = [base, base + 1];
    const { rows } = await hq.db.query<{ text: string }>(
      `select l.z_id || ' ' || l.state as text from possync.ledger_z l where l.store_id = any($1::int[])
       union all select l.zz_id || ' ' || l.state from possync.ledger_zz l where l.store_id = any($1::int[])`,
      [stores],
    );
    const findings = await ledgerFindings(hq.db, stores);
    return {
      reports: rows.map(({ text }) => text).sort(),
      findings: findings
        .map(({ storeId, kind, number }) =>
          [storeId, kind, ...(number === undefined ? [] : [number])].join(' '),
        )
        .sort(),
    };
  }

  it('agrees with the oracle in every shuffled history, with parked records that are retried or given up', async () => {
    const random = randomFor('ledger histories');
    for (let world = 0; world < 10; world += 1) {
      const base = 100 + world * 2;
      const own = random.fork(String(world));
      const { arrived, parked } = await live(hq.db, own, base, async () => {
        if (own.chance(0.12)) await settleLedger(hq.pool);
      });
      await settleLedger(hq.pool);
      assert.deepEqual(await said(base), judgeAll(arrived, parked), `world ${world}`);
    }
  });

  it('judges a store from the beginning to the same end', async () => {
    const base = 200;
    const { arrived, parked } = await live(hq.db, randomFor('ledger again'), base, () => Promise.resolve());
    await settleLedger(hq.pool);
    await hq.db.query(
      `delete from possync.ledger_z; delete from possync.ledger_zz; delete from possync.ledger_receipts;
       delete from possync.ledger_series; delete from possync.findings;
       insert into possync.ledger_marks (store_id, what) values (${base}, 'store'), (${base + 1}, 'store')`,
    );
    await settleLedger(hq.pool);
    assert.deepEqual(await said(base), judgeAll(arrived, parked));
  });

  it('needs what it does: judged at arrival only, reports that came before their sales would be wrong', async () => {
    const base = 300;
    const random = randomFor('ledger control');
    // One register that sells twice and closes, and whose Z overtakes its sales.
    const session = {
      id: random.uuid(),
      store: base,
      register: random.uuid(),
      user: random.uuid(),
      status: 'closed' as const,
      opening: 0,
    };
    const sale = (n: number): Extract<Unit, { what: 'sale' }> => ({
      what: 'sale',
      row: {
        id: random.uuid(),
        session,
        kind: 'sale',
        tender: 'cash',
        amount: 10,
        tax: 1,
        receipt: `A-${n}`,
        voided: false,
      },
    });
    const z: Unit = {
      what: 'z',
      row: {
        id: random.uuid(),
        session,
        number: 1,
        cashSales: 20,
        cardSales: 0,
        cashRefunds: 0,
        count: 2,
        voids: 0,
        tax: 2,
        overShort: 0,
      },
    };
    const units = [{ what: 'session', row: session } as const, z, sale(1), sale(2)];
    for (const unit of units.slice(0, 2)) await arrive(hq.db, unit);
    await settleLedger(hq.pool);
    const atArrival = await said(base);
    for (const unit of units.slice(2)) await arrive(hq.db, unit);
    // A ledger that forgets: without the marks of what came later the first verdict stays, and it is wrong.
    await hq.db.query('begin; delete from possync.ledger_marks');
    await hq.db.query('commit');
    await settleLedger(hq.pool);
    assert.deepEqual(await said(base), atArrival);
    assert.notDeepEqual(await said(base), judgeAll(units));
    await hq.db.query(`insert into possync.ledger_marks (store_id, what) values ($1::int, 'store')`, [base]);
    await settleLedger(hq.pool);
    assert.deepEqual(await said(base), judgeAll(units));
  });

  it('is killed anywhere, again and again, while two processes judge: nothing is lost', async () => {
    const base = 400;
    const random = randomFor('ledger killed');
    const judges = [await startJudge(hq), await startJudge(hq)];
    let kills = 0;
    const { arrived, parked } = await live(hq.db, random, base, async () => {
      if (kills === 4 || !random.chance(0.15)) return;
      kills += 1;
      const at = random.int(judges.length);
      await until(() => judges.some(({ stdout }) => stdout.includes('judged')), {
        what: 'one of them has judged',
      });
      await judges[at]?.kill();
      judges[at] = await startJudge(hq);
    });
    const ended = await Promise.all(judges.map((judge) => judge.kill()));
    assert.deepEqual(ended.map(({ stderr }) => stderr).join(''), '');
    await settleLedger(hq.pool);
    assert.deepEqual(await said(base), judgeAll(arrived, parked));
  });
});

async function startJudge(hq: TestSide): Promise<TestProcess> {
  return await startNode(['--import', 'tsx', resolve(import.meta.dirname, 'run-ledger.ts')], {
    env: { DATABASE_URL: hq.database.url },
  });
}

/** Everything arrives in a random order; some of it is parked first, and a little for ever. */
async function live(
  db: pg.Client,
  random: Random,
  base: number,
  between: () => Promise<void>,
): Promise<{ arrived: Unit[]; parked: Unit[] }> {
  const arrived: Unit[] = [];
  const parked = new Map<Unit, number>();
  let seq = 0;
  const order = shuffled(random, makeUnits(random, base));
  const voids = new Set(order.flatMap((unit) => (unit.what === 'void' ? [unit.row] : [])));
  for (const unit of order) {
    const mayPark = sessionOf(unit) !== undefined && !(unit.what === 'sale' && voids.has(unit.row));
    if (mayPark && random.chance(0.15)) {
      seq += 1;
      parked.set(unit, seq);
      await db.query(
        `insert into possync.dead (store_id, epoch, seq, v, body, type, key, aggregates, kind, error)
         values ($1::int, 1, $2::bigint, 1, $3::text, 'sale', '', $4::text[], 'data', 'made by this test')`,
        [
          storeOf(unit),
          seq,
          unit.what === 'session' ? '{' : `{"sales":[{"session_id":"${sessionOf(unit) ?? ''}"}]}`,
          unit.what === 'session' ? [`session:${unit.row.id}`] : ['sale:no uuid'],
        ],
      );
    } else {
      await arrive(db, unit);
      arrived.push(unit);
    }
    await between();
  }
  for (const [unit, at] of parked) {
    if (random.chance(0.2)) continue;
    parked.delete(unit);
    await db.query('delete from possync.dead d where d.store_id = $1::int and d.seq = $2::bigint', [
      storeOf(unit),
      at,
    ]);
    if (random.chance(0.9)) {
      await arrive(db, unit);
      arrived.push(unit);
    }
    await between();
  }
  return { arrived, parked: [...parked.keys()] };
}

function storeOf(unit: Unit): number {
  if (unit.what === 'sale' || unit.what === 'void') return unit.row.session.store;
  return unit.what === 'session' ? unit.row.store : 0;
}
