/** The service that seals: every process hears of every round, once and in order. */
import assert from 'node:assert/strict';
import { queryOne } from '../../../src/db/transaction.ts';
import { Sealer } from '../../../src/hq/feed/sealer.ts';
import { openHq, type TestSide } from '../../support/pos.ts';
import { until } from '../../support/until.ts';

describe('the sealer', () => {
  let hq: TestSide;
  let sealers: Sealer[];
  let heard: number[][];

  beforeEach(async () => {
    hq = await openHq('sealer', []);
    heard = [[], []];
    sealers = heard.map(
      (heads) =>
        new Sealer({
          pool: hq.pool,
          pollMs: [5, 15],
          onRound: ({ head }) => {
            heads.push(head);
          },
        }),
    );
  });
  afterEach(async () => {
    for (const sealer of sealers) await sealer.stop();
    await hq.close();
  });

  const addDepartment = (code: string): Promise<unknown> =>
    hq.db.query(`insert into public.departments (id, code, name) values (gen_random_uuid(), $1, 'd')`, [
      code,
    ]);
  const heads = async (): Promise<number[]> =>
    (
      await hq.db.query<{ head: number }>('select head from possync.rounds where head > 0 order by head')
    ).rows.map((row) => row.head);
  const both = (n: number): Promise<unknown> =>
    until(() => heard.every((list) => list.at(-1) === n), { what: `both have heard of ${n}` });

  it('tells every process of every round, whichever sealed it', async () => {
    for (const sealer of sealers) await sealer.start();
    for (let n = 1; n <= 10; n += 1) {
      await addDepartment(`D${n}`);
      if (n % 3 === 0) await both(n);
    }
    await both(10);
    const rounds = await heads();
    assert.deepEqual(heard, [rounds, rounds]);
  });

  it('goes on after its connections were cut', async () => {
    for (const sealer of sealers) await sealer.start();
    await addDepartment('A');
    await both(1);
    await queryOne(
      hq.db,
      `select count(*) filter (where pg_terminate_backend(a.pid)) as n from pg_stat_activity a
        where a.datname = current_database() and a.pid <> pg_backend_pid()`,
    );
    await addDepartment('B');
    await both(2);
    assert.deepEqual(heard, [
      [1, 2],
      [1, 2],
    ]);
  });

  it('stops at once, twice and before it started', async () => {
    const [first] = sealers;
    await first?.stop();
    await first?.start();
    await first?.stop();
    await first?.stop();
  });
});
