/**
 * Rotations while tills sell and stores push, and how long a revoked connection lives with two HQ processes.
 *
 * POSSYNC_TEST_LOAD_ROTATIONS and POSSYNC_TEST_REVOCATIONS say how many (4 and 1); the figures of a long run are in docs/rotation.md.
 */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { revokeTokens } from '../../src/hq/stores/revoke.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { possync } from '../support/cli.ts';
import { addRegister, openSession, sell } from '../support/pos.ts';
import { startPossync, type TestProcess } from '../support/process.ts';
import { until } from '../support/until.ts';

const ROTATIONS = Number(process.env.POSSYNC_TEST_LOAD_ROTATIONS ?? 4);
const REVOCATIONS = Number(process.env.POSSYNC_TEST_REVOCATIONS ?? 1);

describe('rotations under load', function () {
  this.timeout(120_000 + ROTATIONS * 10_000);

  it('from HQ and in the store: no push fails, no request is refused, the light never turns red', async () => {
    const hq = await TestHq.open('load');
    const stores = [
      await TestStore.open(hq, 'LOAD-1', { pushIntervalMs: 100 }),
      await TestStore.open(hq, 'LOAD-2', { pushIntervalMs: 100 }),
    ];
    const stop = new AbortController();
    try {
      for (const store of stores) await store.untilLight('green');
      let sold = 0;
      let asked = 0;
      const refused: number[] = [];
      const load = stores.flatMap((store) => [
        (async () => {
          const till = await store.database.connect();
          const session = await openSession(till, await addRegister(till, store.id), store.id);
          while (!stop.signal.aborted) {
            await sell(till, session, { storeId: store.id, lines: 2 });
            sold += 1;
          }
        })(),
        (async () => {
          // What is on disk is taken at every moment.
          while (!stop.signal.aborted) {
            const text = await readFile(join(store.stateDir, 'credential'), 'utf8');
            const { token } = JSON.parse(text) as { token: string };
            const { status } = await fetch(`${hq.running.url}/api/v1/whoami`, {
              headers: { authorization: `Bearer ${token}` },
            });
            asked += 1;
            if (status !== 200) refused.push(status);
          }
        })(),
      ]);
      const began = Date.now();
      let rotated = 0;
      for (let n = 0; rotated < ROTATIONS; n += 1) {
        const atHq = n % 2 === 0;
        const [store] = stores;
        assert.ok(store !== undefined);
        const { code, stdout, stderr } = atHq
          ? await possync(['token', 'rotate', '--all', '--wait', '60s', '--json'], {
              env: { DATABASE_URL: hq.database.url },
            })
          : await possync(['token', 'rotate', '--json'], {
              env: { DATABASE_URL: store.database.url, POSSYNC_STATE_DIR: store.stateDir },
            });
        assert.equal(code, 0, stdout + stderr);
        rotated += atHq ? stores.length : 1;
      }
      const tookMs = Date.now() - began;
      stop.abort();
      await Promise.all(load);
      await until(
        async () =>
          (await hq.pool.query<{ n: number }>('select count(*) as n from public.sales')).rows[0]?.n === sold,
        { what: 'every sale is at HQ', timeoutMs: 60_000 },
      );
      const lines = [...hq.log.lines, ...stores.flatMap((store) => store.log.lines)];
      const failures = lines.filter(
        ({ event, code }) => event === 'link.down' || (typeof code === 'string' && code.startsWith('PS-')),
      );
      assert.deepEqual(failures, []);
      assert.deepEqual(refused, []);
      const batches = lines.filter(({ event }) => event === 'push.batch').length;
      assert.ok(sold > 0 && batches > 0);
      if (ROTATIONS > 4)
        console.log(
          `${rotated} rotations in ${tookMs} ms: ${sold} sales, ${batches} batches, ${asked} requests with the credential on disk; 0 refused, 0 failed pushes, 0 disconnects`,
        );
    } finally {
      stop.abort();
      for (const store of stores) await store.close();
      await hq.close();
    }
  });
});

describe('a revocation with two HQ processes', function () {
  this.timeout(120_000 + REVOCATIONS * 20_000);

  it('closes the socket that the other process holds within seconds', async () => {
    const logs = await mkdtemp(join(tmpdir(), 'possync-revoke-two-'));
    const hq = await TestHq.open('revoke_two');
    let other: TestProcess | undefined;
    let store: TestStore | undefined;
    try {
      other = await startPossync(['hq', 'serve', '--port', '0', '--metrics-listen', 'off'], {
        env: { DATABASE_URL: hq.database.url, LOG_DIR: logs },
      });
      const { url } = JSON.parse(await other.line(/"ready"/, 60_000)) as { url: string };
      store = await TestStore.open(hq, 'TWO-1', { hqUrl: url });
      const tookMs: number[] = [];
      for (let n = 0; n < REVOCATIONS; n += 1) {
        const held = store;
        await held.untilLight('green', 60_000);
        const began = Date.now();
        await revokeTokens(hq.pool, { code: 'TWO-1', actor: 'test' });
        await until(async () => (await held.link()).code === 'PS-TOKEN-REVOKED', {
          what: 'the socket at the other process is closed',
          everyMs: 5,
        });
        tookMs.push(Date.now() - began);
        await held.enrol(hq, { hqUrl: url });
      }
      const sorted = tookMs.sort((a, b) => a - b);
      assert.ok((sorted.at(-1) ?? Infinity) < 5_000, `${sorted.at(-1)} ms`);
      if (REVOCATIONS > 1)
        console.log(
          `${sorted.length} revocations: closed after ${sorted[Math.floor(sorted.length / 2)]} ms (median), ${sorted.at(-1)} ms (longest)`,
        );
    } finally {
      await store?.close();
      await other?.stop();
      await hq.close();
      await rm(logs, { recursive: true, force: true });
    }
  });
});
