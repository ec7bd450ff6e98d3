/** What ends soon is said once a day in the log of either side, and in HQ's status, until somebody has done something about it. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { CredentialUpkeep } from '../../src/hq/stores/credential-upkeep.ts';
import { readHqStatus } from '../../src/hq/status.ts';
import { Renewal } from '../../src/store/renewal.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { HandClock } from '../support/hand-clock.ts';
import { memoryLog } from '../support/memory-log.ts';
import { until } from '../support/until.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const BEGAN = Date.now();

/** Time in the hand from today on; a round is over when the next one is planned. */
class DayClock extends HandClock {
  planned = 0;
  override now(): number {
    return BEGAN + super.now();
  }
  override after(ms: number, fn: () => void): () => void {
    this.planned += 1;
    return super.after(ms, fn);
  }
}

describe('warnings of what ends soon', function () {
  this.timeout(180_000);
  let hq: TestHq;
  let store: TestStore;

  before(async () => {
    hq = await TestHq.open('ending');
    store = await TestStore.enrolled(hq, 'ENDS-1');
  });
  after(async () => {
    await store.close();
    await hq.close();
  });

  const roundAfter = async (clock: DayClock, ms: number): Promise<void> => {
    const { planned } = clock;
    clock.advance(ms);
    await until(() => clock.planned > planned, { what: 'the round is over', timeoutMs: 60_000 });
  };
  const count = (log: ReturnType<typeof memoryLog>, code: string): number =>
    log.lines.filter((line) => line.code === code && line.level === 'warn').length;

  it('at HQ: its certificate and the credentials of stores, once a day and in the status', async () => {
    await hq.pool.query(
      `update possync.tokens set created_at = now() - interval '300 days', expires_at = now() + interval '10 days'
        where store_id = $1::integer and kind = 'credential'`,
      [store.id],
    );
    const clock = new DayClock();
    const log = memoryLog();
    const upkeep = new CredentialUpkeep({
      pool: hq.pool,
      clock,
      log,
      server: randomUUID(),
      url: () => 'https://hq.example.com:3001',
      certificate: () => ({
        notBefore: new Date(BEGAN - 300 * DAY_MS),
        notAfter: new Date(BEGAN + 10 * DAY_MS),
      }),
    });
    upkeep.start();
    await until(() => clock.planned === 1, { what: 'the first round is over', timeoutMs: 60_000 });
    const told = (): number[] => [count(log, 'PS-TLS-EXPIRING'), count(log, 'PS-TOKEN-EXPIRING')];
    assert.deepEqual(told(), [1, 1]);
    const status = await readHqStatus(hq.pool);
    assert.equal(status.tls?.warning?.code, 'PS-TLS-EXPIRING');
    for (const hours of [8, 8, 7]) await roundAfter(clock, hours * HOUR_MS);
    assert.deepEqual(told(), [1, 1], 'once a day');
    await roundAfter(clock, HOUR_MS);
    assert.deepEqual(told(), [2, 2], 'and again the next day');
    const stopped = upkeep.stop();
    clock.advance(HOUR_MS);
    await stopped;
  });

  it("in a store: HQ's certificate, once a day", async () => {
    const clock = new DayClock();
    const log = memoryLog();
    const renewal = new Renewal({
      stateDir: store.stateDir,
      clock,
      log,
      hqUrl: undefined,
      proxies: undefined,
      caFile: undefined,
      takeUp: () => Promise.resolve({ kid: null, in_band: false, indicator: 'green' }),
      report: () => undefined,
      certificate: () => ({
        notBeforeMs: BEGAN - 300 * DAY_MS,
        notAfterMs: BEGAN + 10 * DAY_MS,
      }),
    });
    renewal.start();
    await roundAfter(clock, HOUR_MS);
    assert.equal(count(log, 'PS-TLS-EXPIRING'), 1);
    for (let hour = 1; hour < 24; hour += 1) await roundAfter(clock, HOUR_MS);
    assert.equal(count(log, 'PS-TLS-EXPIRING'), 1, 'once a day');
    await roundAfter(clock, HOUR_MS);
    assert.equal(count(log, 'PS-TLS-EXPIRING'), 2, 'and again the next day');
    await renewal.stop();
  });
});
