/** The ledger beside stores that never stop sending: how much of it there is, and what it leaves to them. */
import assert from 'node:assert/strict';
import { uuidv7 } from '../../src/core/ids.ts';
import { queryOne } from '../../src/db/transaction.ts';
import { Ledger, settleLedger } from '../../src/hq/ledger/ledger.ts';
import { HandClock } from '../support/hand-clock.ts';
import { openHq, type TestSide } from '../support/pos.ts';
import { until } from '../support/until.ts';

/** Judging leaves a new mark behind, as long as fewer than this many rounds have been made. */
const ROUNDS_WITH_NEW_MARKS = 20;

class WatchedClock extends HandClock {
  readonly slept: number[] = [];
  override sleep(ms: number): Promise<void> {
    this.slept.push(ms);
    return super.sleep(ms);
  }
}

describe('the ledger of an HQ that stores keep busy', () => {
  let hq: TestSide;
  beforeEach(async () => {
    hq = await openHq('ledger_service');
  });
  afterEach(async () => {
    await hq.close();
  });

  async function mark(): Promise<void> {
    await hq.db.query(
      `insert into possync.ledger_marks (store_id, what, key) values (1, 'session', $1::uuid)`,
      [uuidv7()],
    );
  }

  async function onJudged(statements: string): Promise<void> {
    await hq.db.query(`create function public.on_judged() returns trigger language plpgsql as $$
begin
  ${statements}
  return null;
end $$;
create table public.judged (at timestamptz);
create trigger on_judged after delete on possync.ledger_marks for each statement execute function public.on_judged()`);
  }

  async function rounds(): Promise<number> {
    return (await queryOne<{ n: number }>(hq.db, 'select count(*)::int as n from public.judged')).n;
  }

  it('judges what was marked before it began, and ends although new marks keep coming', async () => {
    await onJudged(`insert into public.judged values (now());
  if (select count(*) from public.judged) < ${ROUNDS_WITH_NEW_MARKS} then
    insert into possync.ledger_marks (store_id, what, key) values (1, 'session', gen_random_uuid());
  end if;`);
    await mark();
    await settleLedger(hq.pool);
    assert.equal(await rounds(), 1);
    await settleLedger(hq.pool);
    assert.equal(await rounds(), 2, 'what came meanwhile is for the next time');
  });

  it('rests four times as long as it has worked, so that it takes a fifth of one core at most', async () => {
    await onJudged(`insert into public.judged values (now()); perform pg_sleep(0.6);`);
    await mark();
    const clock = new WatchedClock();
    const ledger = new Ledger({ pool: hq.pool, clock });
    ledger.start();
    await until(() => Promise.resolve(clock.slept.length > 0), { what: 'the service rests' });
    const stopped = ledger.stop();
    clock.advance(3_600_000);
    await stopped;
    assert.equal(await rounds(), 1);
    assert.ok((clock.slept[0] ?? 0) >= 4 * 600, `it rested ${clock.slept[0]} ms after 600 ms of work`);
  });

  it('looks again after its interval when there was next to nothing to do', async () => {
    const clock = new WatchedClock();
    const ledger = new Ledger({ pool: hq.pool, clock, intervalMs: 600_000 });
    ledger.start();
    await until(() => Promise.resolve(clock.slept.length > 0), { what: 'the service rests' });
    const stopped = ledger.stop();
    clock.advance(3_600_000);
    await stopped;
    assert.deepEqual(clock.slept, [600_000], 'the pause between looks is never shorter than it was told');
  });
});
