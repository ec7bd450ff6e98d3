/** A store knows how far its clock is from HQ's: measured by every heartbeat, named in status, unknown while cut off. */
import assert from 'node:assert/strict';
import { systemClock } from '../../src/core/clock.ts';
import type { StoreStatusView } from '../../src/protocol/status.ts';
import { ClockSkewMeter } from '../../src/store/link/clock-skew.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { possync } from '../support/cli.ts';
import { randomFor } from '../support/random.ts';
import { until } from '../support/until.ts';

describe('the skew of a clock', () => {
  it('is never off by more than it says, however unevenly the line is slow', () => {
    const random = randomFor('skew');
    for (let run = 0; run < 200; run += 1) {
      const meter = new ClockSkewMeter();
      const truth = random.int(20_000_000) - 10_000_000;
      let now = 1_790_000_000_000;
      for (let beat = 0; beat < 30; beat += 1) {
        now += 5_000;
        const there = random.int(2_000);
        const back = random.int(2_000);
        meter.sample(now + there + truth, now + there + back, there + back);
        const best = meter.best ?? assert.fail('there was a sample');
        assert.ok(Math.abs(best.skewMs - truth) <= best.errorMs + 1, `${best.skewMs} for ${truth}`);
      }
    }
  });

  it('is that of the quickest answer, and is forgotten when a clock is set', () => {
    const meter = new ClockSkewMeter();
    assert.equal(meter.best, null);
    meter.sample(10_000, 10_000, 800);
    meter.sample(15_002, 15_000, 4);
    meter.sample(20_000, 20_000, 600);
    assert.deepEqual(meter.best, { skewMs: 4, errorMs: 2 });
    meter.sample(25_000 - 3_600_000, 25_000, 600); // HQ's clock was set back by an hour
    assert.deepEqual(meter.best, { skewMs: 300 - 3_600_000, errorMs: 300 });
  });
});

describe("a store's clock", function () {
  this.timeout(60_000);
  const AHEAD_MS = 90_000;

  const viewOf = async (store: TestStore): Promise<StoreStatusView> => {
    const env = { DATABASE_URL: store.database.url, POSSYNC_STATE_DIR: store.stateDir };
    return JSON.parse((await possync(['status', '--json'], { env })).stdout) as StoreStatusView;
  };
  /** Written with the next beat. */
  const measured = (store: TestStore): Promise<StoreStatusView> =>
    until(
      async () => {
        const view = await viewOf(store);
        return view.clock.skew_ms === null ? undefined : view;
      },
      { what: 'the skew is in the status', timeoutMs: 30_000 },
    );

  it('that agrees with HQ is said to, within half a round trip, and not once the link is down', async () => {
    const hq = await TestHq.open('skew_none');
    const store = await TestStore.open(hq, 'SKEW-0');
    try {
      const { clock } = await measured(store);
      assert.ok(Math.abs(clock.skew_ms ?? 1e9) <= (clock.error_ms ?? 0) + 2, JSON.stringify(clock));
      assert.equal(clock.warning, null);
      await hq.stop();
      await store.untilLight('red');
      assert.deepEqual((await viewOf(store)).clock, { skew_ms: null, error_ms: null, warning: null });
    } finally {
      await store.close();
      await hq.close();
    }
  });

  it('that is 90 s ahead of HQ is named, with what to do', async () => {
    const late = { ...systemClock, now: () => systemClock.now() - AHEAD_MS };
    const hq = await TestHq.open('skew_late', { clock: late });
    const store = await TestStore.open(hq, 'SKEW-90');
    try {
      const { clock } = await measured(store);
      assert.ok(
        Math.abs((clock.skew_ms ?? 0) + AHEAD_MS) <= (clock.error_ms ?? 0) + 2,
        JSON.stringify(clock),
      );
      assert.equal(clock.warning?.code, 'PS-CLOCK-SKEW');
      assert.match(clock.warning.message, /clock is 1m \d\ds ahead of HQ/);
      const env = { DATABASE_URL: store.database.url, POSSYNC_STATE_DIR: store.stateDir };
      await until(
        async () => {
          const { stdout } = await possync(['status'], { env });
          return /Clock +\d+\.\ds ahead of HQ/.test(stdout) && stdout.includes('PS-CLOCK-SKEW');
        },
        { what: 'the skew and its code are in the text' },
      );
    } finally {
      await store.close();
      await hq.close();
    }
  });
});
