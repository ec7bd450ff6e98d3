/** A rotation whose confirmation was lost is ended by the daemon within minutes, not at its next look an hour later. */
import assert from 'node:assert/strict';
import { memoryLog } from '../support/memory-log.ts';
import { readCredential, type StoreCredential } from '../../src/store/credential.ts';
import { Renewal, type RenewalOptions } from '../../src/store/renewal.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { possync, type CliResult } from '../support/cli.ts';
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

  const renewalOn = (clock: HandClock, rotated: NonNullable<RenewalOptions['rotated']>): Renewal =>
    new Renewal({
      stateDir: store.stateDir,
      clock,
      log: memoryLog(),
      hqUrl: undefined,
      proxies: undefined,
      caFile: undefined,
      takeUp: async () => {
        const { kid } = await credential();
        return { kid, in_band: false, indicator: 'green' };
      },
      report: () => undefined,
      certificate: () => null,
      rotated,
    });
  const credential = async (): Promise<StoreCredential> =>
    (await readCredential(store.stateDir)) ?? assert.fail('the store has no credential');
  const rotate = (args: readonly string[], hqPort = hq.port): Promise<CliResult> =>
    possync(['token', 'rotate', ...args], {
      env: {
        DATABASE_URL: store.database.url,
        POSSYNC_STATE_DIR: store.stateDir,
        SYNC_HQ_URL: `http://127.0.0.1:${hqPort}`,
      },
    });
  /** Begins one that is to end the old credential at once, and loses HQ's answer that the new one is in force. */
  const leave = async (): Promise<{ old: string; fresh: string }> => {
    const { kid: old, rotation: before } = await credential();
    assert.equal(before, undefined, 'no rotation is open yet');
    const { dropped } = proxy;
    // 69 is also what a request that did not get through in time ends with: the command goes on where it was.
    const { code, stderr } = await until(
      async () => {
        proxy.dropNextAnswer(/POST \/api\/v1\/tokens\/rotations\/[0-9a-f-]+\/confirm/);
        const ended = await rotate(['--revoke-old-now'], proxy.port);
        return (proxy.dropped > dropped || ended.code !== 69) && ended;
      },
      { what: 'HQ’s answer to the confirmation is lost', timeoutMs: LONG_MS },
    );
    assert.equal(code, 69, stderr);
    const { kid: fresh, rotation } = await credential();
    assert.notEqual(fresh, old);
    assert.equal(rotation?.old_kid, old, 'the rotation is still open on disk');
    return { old, fresh };
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
    await until(() => clock.planned > planned, { what: 'the look is over', timeoutMs: 2 * LONG_MS });
  };

  it('by a command is ended by the daemon within two minutes of taking the new credential up', async () => {
    const clock = new CountingClock();
    let failed = 0;
    const renewal = renewalOn(clock, (result) => {
      if (result === 'failed') failed += 1;
    });
    renewal.start();
    await minute(clock); // the first look finds nothing to do, the next one is an hour away
    const { old, fresh } = await leave();
    assert.deepEqual([await stateOf(old), await stateOf(fresh)], ['retiring', 'active']);
    renewal.unfinished();
    await minute(clock); // whoever began it may still be at work
    assert.equal(await stateOf(old), 'retiring');
    await minute(clock);
    // One that did not get through to HQ in time is tried again with the next look.
    for (let seen = 0; failed > seen && failed < 5;) {
      seen = failed;
      await minute(clock);
    }
    assert.deepEqual([await stateOf(old), await stateOf(fresh)], ['revoked', 'active']);
    assert.equal((await credential()).rotation, undefined);
    await renewal.stop();
  });

  it('is ended at once by the same command, and also by one that would not have rotated', async () => {
    for (const args of [['--revoke-old-now'], ['--if-expires-within', '1s']]) {
      const { old, fresh } = await leave();
      const { code, stdout, stderr } = await rotate(args);
      assert.equal(code, 0, stdout + stderr);
      assert.deepEqual([await stateOf(old), await stateOf(fresh)], ['revoked', 'active']);
    }
  });
});
