/** A rotation whose confirmation was lost is ended by the daemon within minutes, not at its next look an hour later. */
import assert from 'node:assert/strict';
import { memoryLog } from '../support/memory-log.ts';
import { readCredential } from '../../src/store/credential.ts';
import { Renewal } from '../../src/store/renewal.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { possync } from '../support/cli.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { HandClock } from '../support/hand-clock.ts';
import { until } from '../support/until.ts';

const MINUTE_MS = 60_000;
/** A machine with much else to do. */
const LONG_MS = 60_000;

/** Says how often a time was planned: a look has ended when the next one is. */
class CountingClock extends HandClock {
  planned = 0;
  override after(ms: number, fn: () => void): () => void {
    this.planned += 1;
    return super.after(ms, fn);
  }
}

describe('a rotation that was left open', function () {
  this.timeout(4 * LONG_MS);
  let hq: TestHq;
  let store: TestStore;
  let proxy: FaultProxy;

  before(async () => {
    hq = await TestHq.open('left');
    store = await TestStore.enrolled(hq, 'LEFT-1');
    proxy = new FaultProxy({ host: '127.0.0.1', port: hq.port });
    await proxy.open();
  });
  after(async () => {
    await proxy.close();
    await store.close();
    await hq.close();
  });

  const renewalOn = (clock: HandClock): Renewal =>
    new Renewal({
      stateDir: store.stateDir,
      clock,
      log: memoryLog(),
      hqUrl: undefined,
      proxies: undefined,
      caFile: undefined,
      takeUp: async () => {
        const credential = await readCredential(store.stateDir);
        return { kid: credential?.kid ?? null, in_band: false, indicator: 'green' };
      },
      report: () => undefined,
      certificate: () => null,
    });
  /** Begins one that is to end the old credential at once, and loses HQ's answer that the new one is in force. */
  const leave = async (): Promise<{ old: string; fresh: string }> => {
    const old = (await readCredential(store.stateDir))?.kid ?? '';
    proxy.dropNextAnswer(/POST \/api\/v1\/tokens\/rotations\/[0-9a-f-]+\/confirm/);
    const { code, stderr } = await possync(['token', 'rotate', '--revoke-old-now'], {
      env: {
        DATABASE_URL: store.database.url,
        POSSYNC_STATE_DIR: store.stateDir,
        SYNC_HQ_URL: `http://127.0.0.1:${proxy.port}`,
      },
    });
    assert.equal(code, 69, stderr);
    return { old, fresh: (await readCredential(store.stateDir))?.kid ?? '' };
  };
  const stateOf = async (kid: string): Promise<string | undefined> =>
    (
      await hq.pool.query<{ state: string }>('select t.state from possync.tokens t where t.kid = $1::text', [
        kid,
      ])
    ).rows[0]?.state;
  /** A minute passes, and the look that was due in it is over. */
  const minute = async (clock: CountingClock): Promise<void> => {
    const { planned } = clock;
    clock.advance(MINUTE_MS);
    await until(() => clock.planned > planned, { what: 'the look is over', timeoutMs: LONG_MS });
  };

  it('by a command is ended by the daemon within two minutes of taking the new credential up', async () => {
    const clock = new CountingClock();
    const renewal = renewalOn(clock);
    renewal.start();
    await minute(clock); // the first look finds nothing to do, the next one is an hour away
    const { old, fresh } = await leave();
    assert.deepEqual([await stateOf(old), await stateOf(fresh)], ['retiring', 'active']);
    renewal.unfinished();
    await minute(clock); // whoever began it may still be at work
    assert.equal(await stateOf(old), 'retiring');
    clock.advance(MINUTE_MS);
    await until(async () => (await stateOf(old)) === 'revoked', {
      what: 'the old credential has ended',
      timeoutMs: LONG_MS,
    });
    await renewal.stop();
    assert.equal((await readCredential(store.stateDir))?.rotation, undefined);
  });

  it('is ended at once by the same command, and also by one that would not have rotated', async () => {
    for (const args of [['--revoke-old-now'], ['--if-expires-within', '1s']]) {
      const { old, fresh } = await leave();
      const { code, stdout, stderr } = await possync(['token', 'rotate', ...args], {
        env: { DATABASE_URL: store.database.url, POSSYNC_STATE_DIR: store.stateDir },
      });
      assert.equal(code, 0, stdout + stderr);
      assert.deepEqual([await stateOf(old), await stateOf(fresh)], ['revoked', 'active']);
    }
  });
});
