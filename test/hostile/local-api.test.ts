/** The daemon's own port and socket, asked by something hostile on the same machine: refused, and the daemon goes on. */
import assert from 'node:assert/strict';
import http from 'node:http';
import { join } from 'node:path';
import { TestHq, TestStore } from '../support/chain.ts';
import { startPossync, type TestProcess } from '../support/process.ts';
import { randomFor } from '../support/random.ts';
import { until } from '../support/until.ts';
import { attackLocal, READ, WRITE } from './support/local-fuzzer.ts';
import { exchange, rawRequest, Wire } from './support/raw.ts';

/** `npm run fuzz` asks more. */
const ROUNDS = Number(process.env.POSSYNC_TEST_FUZZ ?? 150);

describe("the daemon's local API", function () {
  this.timeout(300_000 + ROUNDS * 1_000);
  let hq: TestHq;
  let store: TestStore;
  let daemon: TestProcess;
  let port: number;
  let socket: string;

  before(async () => {
    hq = await TestHq.open('hostile local');
    store = await TestStore.enrolled(hq, 'LOCAL-1');
    daemon = await startPossync(['store', 'daemon'], {
      env: {
        DATABASE_URL: store.database.url,
        POSSYNC_STATE_DIR: store.stateDir,
        LOG_DIR: join(store.stateDir, 'log'),
        POSSYNC_STATUS_LISTEN: '127.0.0.1:0',
      },
    });
    const ready = JSON.parse(await daemon.line(/"event":"ready"/, 60_000)) as {
      socket: string;
      status_url: string;
    };
    ({ socket } = ready);
    port = Number(new URL(ready.status_url).port);
    await store.untilLight('green');
  });
  after(async () => {
    const { code, stderr } = await daemon.stop();
    assert.deepEqual([code, stderr], [0, ''], 'the daemon ends in order after all that');
    await store.close();
    await hq.close();
  });

  /** What HQ has of this store's epochs: a re-enrolment would show. */
  const epochs = async (): Promise<unknown> =>
    (await hq.pool.query('select store_id, epoch from possync.inbox')).rows;

  it('changes nothing over the port, whatever is asked', async () => {
    const before = await epochs();
    for (const path of WRITE) {
      const answer = await exchange(port, rawRequest({ method: 'POST', path, body: Buffer.from('{}') }));
      assert.equal(answer?.status, 404, path);
    }
    assert.deepEqual(await epochs(), before);
  });

  it('answers over the port only who names this machine: no web page whose name was made to point here', async () => {
    for (const path of READ)
      for (const host of ['evil.example', '127.0.0.1.evil.example', '']) {
        const answer = await exchange(port, rawRequest({ path, headers: [['host', host]] }));
        assert.ok(answer?.status === 421 || answer?.status === 400, `${path} ${host}: ${answer?.status}`);
        assert.doesNotMatch(answer.body, /LOCAL-1/);
      }
    // The same request with this machine's name is answered.
    const status = await exchange(port, rawRequest({ path: '/api/v1/status' }));
    assert.match(status?.body ?? '', /LOCAL-1/);
  });

  it('refuses nonsense on both listeners, and is alive and green afterwards', async () => {
    await attackLocal({ port, socket }, ROUNDS, randomFor('local api'));
    await store.untilLight('green');
    assert.equal(daemon.running, true);
  });

  it('refuses a day that is none before HQ opens a new epoch for it', async () => {
    const before = await epochs();
    for (const day of ['yesterday', '2026-02-31', "2026-01-01';--", '']) {
      const answer = await exchange(
        socket,
        rawRequest({ method: 'POST', path: `/api/v1/re-enrol?from=${encodeURIComponent(day)}` }),
      );
      assert.equal(answer?.status, 400, day);
    }
    assert.deepEqual(await epochs(), before);
  });

  it('answers again as soon as too many connections are gone', async () => {
    const wires = await Promise.all(
      Array.from({ length: 300 }, () => Wire.open(port).catch(() => undefined)),
    );
    for (const wire of wires) wire?.destroy();
    // The daemon learns of their end a moment later than we; until then it may refuse.
    const status = await until(
      async () =>
        await new Promise<number>((resolve, reject) => {
          http
            .get(`http://127.0.0.1:${port}/livez`, (response) => {
              response.resume();
              resolve(response.statusCode ?? 0);
            })
            .on('error', reject);
        }),
      { what: 'the port answers again' },
    );
    assert.equal(status, 200);
  });
});
