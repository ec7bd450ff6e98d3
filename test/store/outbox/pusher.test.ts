/** When the pusher sends: on its tick, at once for high priority, everything older first; and what it does with answers. */
import assert from 'node:assert/strict';
import { PossyncError } from '../../../src/core/errors.ts';
import { systemClock, type Clock } from '../../../src/core/clock.ts';
import type { Push } from '../../../src/protocol/messages.ts';
import { Pusher, type PusherOptions, type SendResult } from '../../../src/store/outbox/pusher.ts';
import {
  addRegister,
  adjust,
  openHq,
  openSession,
  openStore,
  sell,
  voidSale,
  type TestSide,
} from '../../support/pos.ts';
import { until } from '../../support/until.ts';
import { differences, Up } from '../../support/up.ts';

/** Time stands still: a sleep ends only when it is woken. */
const frozen: Clock = {
  ...systemClock,
  now: () => 0,
  sleep: (_ms, signal) =>
    new Promise((done) =>
      signal?.addEventListener('abort', () => {
        done();
      }),
    ),
};

describe('pusher', () => {
  let store: TestSide;
  let hq: TestSide;
  let up: Up;
  let session: string;
  let pusher: Pusher | undefined;
  beforeEach(async () => {
    [store, hq] = await Promise.all([openStore('pusher'), openHq('pusher')]);
    up = new Up(store, hq);
    session = await openSession(store.db, await addRegister(store.db));
    await up.drain();
  });
  afterEach(async () => {
    await pusher?.stop();
    pusher = undefined;
    await store.close();
    await hq.close();
  });

  const through = async (message: Push): Promise<SendResult> => {
    const result = await up.send(message);
    return result.result === 'not-ready' ? { result: 'later', afterMs: 1_000, error: result.error } : result;
  };
  const start = (options: Partial<PusherOptions>): Pusher => {
    const made = new Pusher({
      outbox: up.outbox,
      clock: frozen,
      send: through,
      session: () => (up.fence === undefined ? undefined : { fence: up.fence }),
      random: () => 0.999,
      ...options,
    });
    pusher = made;
    made.start();
    return made;
  };
  const drained = async (): Promise<boolean> => (await up.outbox.counts()).queued === 0;

  it('waits for its tick with an ordinary sale, and sends a void at once with everything older', async () => {
    const sent: number[][] = [];
    const listening = start({
      listenUrl: store.database.url,
      send: (message) => {
        sent.push(message.txs.map(({ seq }) => seq));
        return through(message);
      },
    });
    const sale = await sell(store.db, session);
    await adjust(store.db, 1);
    // Woken by hand it would send; nobody wakes it, and time stands still.
    assert.deepEqual(sent, []);
    assert.equal((await up.outbox.counts()).queued, 2);
    await until(
      async () => {
        const { rows } = await store.db.query(
          `select from pg_stat_activity where application_name like '%listen%'`,
        );
        return rows.length > 0;
      },
      { what: 'the pusher listens' },
    );
    await voidSale(store.db, sale);
    await until(drained, { what: 'the void and all before it was sent' });
    assert.deepEqual(sent, [[3, 4, 5]]);
    assert.deepEqual(await differences(hq, store), []);
    await listening.stop();
  });

  it('has the next batches on their way while HQ applies one; one that comes too early is sent again, in order', async () => {
    await store.db.query(`do $$ begin
      for i in 1 .. 2200 loop
        insert into public.inventory_adjustments (id, store_id, product_id, quantity_delta, reason, user_id, occurred_at, business_date)
        values (gen_random_uuid(), 7, gen_random_uuid(), i, 'count', gen_random_uuid(), now(), '2026-11-20');
        commit;
      end loop; end $$`);
    const seen: number[] = [];
    const answers: string[] = [];
    let second: () => void = () => undefined;
    const secondAnswered = new Promise<void>((resolve) => {
      second = resolve;
    });
    start({
      send: async (message) => {
        seen.push(message.first);
        // The first one is held up on its way until HQ has answered the second: with one at a time that never comes.
        if (seen.length === 1) await secondAnswered;
        const result = await through(message);
        answers.push(
          `${message.first} ${result.result === 'conflict' ? result.conflict.code : result.result}`,
        );
        if (seen.length > 1) second();
        return result;
      },
    }).wake();
    await until(drained, { what: 'everything was sent' });
    const [first = 0] = seen;
    assert.deepEqual(seen.slice(0, 3), [first, first + 1_000, first + 2_000]);
    assert.ok(answers.includes(`${first + 1_000} gap`));
    assert.deepEqual(answers.filter((answer) => answer.endsWith(' ok')).map(parseFloat), [
      first,
      first + 1_000,
      first + 2_000,
    ]);
    assert.deepEqual(await differences(hq, store), []);
  });

  it('without a listener the look every second finds what is urgent', async () => {
    start({ clock: { ...systemClock, now: () => 0 }, lookMs: 20 });
    await sell(store.db, session, { kind: 'refund' });
    await until(drained, { what: 'the refund was sent' });
  });

  it('sends on its tick, the first one at a random moment within the period', async () => {
    let now = 0;
    const naps: number[] = [];
    let rounds = 0;
    const clock: Clock = {
      ...systemClock,
      now: () => now,
      sleep: (ms) => {
        naps.push(ms);
        now += ms;
        return new Promise((done) => setImmediate(done));
      },
    };
    await sell(store.db, session);
    start({ clock, intervalMs: 60_000, lookMs: 10_000, random: () => 0.5, onRound: () => (rounds += 1) });
    await until(drained, { what: 'the tick came' });
    assert.deepEqual(naps.slice(0, 3), [10_000, 10_000, 10_000]);
    await until(() => rounds >= 1, { what: 'the round was reported' });
  });

  it('backs off with full jitter, respects what HQ asks for, and is back at once when woken', async () => {
    const delays: number[] = [];
    let down = true;
    await sell(store.db, session);
    const made = start({
      send: (message) => {
        if (!down) return through(message);
        if (delays.length === 1) return Promise.resolve({ result: 'later', afterMs: 9_000 });
        return Promise.reject(new PossyncError('PS-HQ-UNREACHABLE', 'no line'));
      },
      random: () => 0.999,
      onError: (_error, delayMs) => delays.push(delayMs),
    });
    made.wake();
    await until(() => delays.length === 1, { what: 'the first failure' });
    const [entry] = await entriesWithError();
    assert.equal(entry, 'PS-HQ-UNREACHABLE');
    made.wake();
    await until(() => delays.length === 2, { what: 'HQ asked to come back' });
    assert.deepEqual(delays, [999, 9_000]);
    down = false;
    made.wake();
    await until(drained, { what: 'the line is back' });
    assert.deepEqual(await entriesWithError(), [null]);
  });
  const entriesWithError = async (): Promise<(string | null)[]> =>
    (await store.db.query<{ last_error: string | null }>('select last_error from possync.sending')).rows.map(
      ({ last_error: code }) => code,
    );

  it('asks for a new hello when it is fenced, and says so when it must halt', async () => {
    let fenced = 0;
    const halts: string[] = [];
    await adjust(store.db, 1);
    const made = start({ onFenced: () => (fenced += 1), onHalted: ({ code }) => halts.push(code) });
    const other = new Up(store, hq);
    await other.hello();
    made.wake();
    await until(() => fenced === 1, { what: 'it was fenced' });
    await up.hello();
    await hq.db.query(`update possync.inbox set chain = decode(repeat('ab', 32), 'hex')`);
    made.wake();
    await until(() => halts.length === 1, { what: 'it halted' });
    assert.deepEqual(halts, ['PS-UP-DIVERGED']);
    assert.equal((await up.outbox.counts()).queued, 1);
  });

  it('without a session it goes on sealing and sends nothing', async () => {
    up.fence = undefined;
    await adjust(store.db, 1);
    const made = start({});
    made.wake();
    await until(async () => (await up.outbox.counts()).unsealed === 0, { what: 'it was sealed' });
    assert.equal((await up.outbox.counts()).queued, 1);
  });
});
