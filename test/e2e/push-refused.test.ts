/** What HQ refuses or parks is a line in the log of either side, read from the files of real processes; trouble that stays is one. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type pg from 'pg';
import { addRegister, openSession, sell } from '../support/pos.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';
import { runPossync, startPossync, type TestProcess } from '../support/process.ts';
import { until } from '../support/until.ts';

interface Line {
  readonly level: string;
  readonly event?: string;
  readonly code?: string;
  readonly store?: string;
  readonly entries?: number;
  readonly times?: number;
}

/** A machine with much else to do. */
const LONG_MS = 60_000;
/** HQ stops a store after more than twenty refusals in a row. */
const TOO_MANY = 21;

describe('what HQ does not take', function () {
  this.timeout(6 * LONG_MS);
  let dir: string;
  let hqDb: TestDatabase;
  let storeDb: TestDatabase;
  let hq: pg.Client;
  let till: pg.Client;
  let server: TestProcess;
  let daemon: TestProcess;
  let session: string;

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'possync-refused-'));
    hqDb = await createDatabase('refused hq');
    storeDb = await createDatabase('refused store');
    hq = await hqDb.connect();
    const atHq = { DATABASE_URL: hqDb.url, LOG_DIR: dir };
    const inStore = {
      DATABASE_URL: storeDb.url,
      POSSYNC_STATE_DIR: join(dir, 'state'),
      LOG_DIR: dir,
      POSSYNC_STATUS_LISTEN: 'off',
      SYNC_PUSH_INTERVAL: '1s',
    };
    const works = async (env: Record<string, string>, args: string[], input = ''): Promise<string> => {
      const { code, stdout, stderr } = await runPossync(args, { cwd: dir, env, input });
      assert.equal(code, 0, stdout + stderr);
      return stdout;
    };
    await works(atHq, ['hq', 'init']);
    server = await startPossync(['hq', 'serve', '--port', '0'], { cwd: dir, env: atHq });
    const { url } = JSON.parse(await server.line(/"event":"ready"/, LONG_MS)) as { url: string };
    await works(atHq, ['stores', 'add', 'ODD-1', '--name', 'Odd', '--time-zone', 'UTC']);
    const token = await works(atHq, ['token', 'issue', 'ODD-1', '--hq-url', url]);
    await works(inStore, ['store', 'init', '--token-file', '-'], token);
    daemon = await startPossync(['store', 'daemon'], { cwd: dir, env: inStore });
    await daemon.line(/"event":"ready"/, LONG_MS);
    till = await storeDb.connect();
    session = await openSession(till, await addRegister(till, 1), 1);
    await sold('GOOD');
    await until(async () => (await hq.query('select from public.sales')).rowCount === 1, {
      what: 'what is good arrives',
      timeoutMs: LONG_MS,
    });
    await hq.query(`alter table public.sales add constraint odd check (receipt_number !~ '^ODD')`);
  });
  after(async () => {
    await daemon.kill();
    await server.kill();
    await hqDb.drop();
    await storeDb.drop();
    await rm(dir, { recursive: true, force: true });
  });

  const sold = (receipt: string): Promise<string> => sell(till, session, { storeId: 1, receipt });
  const told = async (side: 'hq' | 'store', event: string): Promise<Line[]> =>
    (await readFile(join(dir, `${side}-server.log`), 'utf8'))
      .split('\n')
      .filter((line) => line.endsWith('}'))
      .map((line) => JSON.parse(line) as Line)
      .filter((line) => line.event === event);
  const untilTold = (side: 'hq' | 'store', event: string): Promise<Line> =>
    until(async () => (await told(side, event))[0], {
      what: `${event} is in the log of the ${side} side`,
      timeoutMs: LONG_MS,
    });

  it('an entry that is parked is a warning in both logs, with its number of entries and without what is in them', async () => {
    assert.deepEqual([await told('hq', 'queue.parked'), await told('store', 'queue.parked')], [[], []]);
    await sold('ODD-SECRET');
    const [atHq, inStore] = [await untilTold('hq', 'queue.parked'), await untilTold('store', 'queue.parked')];
    assert.deepEqual(
      [atHq.level, atHq.code, atHq.store, atHq.entries],
      ['warn', 'PS-QUEUE-PARKED', 'ODD-1', 1],
    );
    assert.deepEqual([inStore.level, inStore.code, inStore.entries], ['warn', 'PS-QUEUE-PARKED', 1]);
    for (const side of ['hq', 'store'])
      assert.doesNotMatch(await readFile(join(dir, `${side}-server.log`), 'utf8'), /ODD-SECRET/);
  });

  it('a batch that HQ refuses is one in both, however often it is sent again', async () => {
    assert.deepEqual([await told('hq', 'push.rejected'), await told('store', 'push.rejected')], [[], []]);
    for (let n = 0; n < TOO_MANY; n += 1) await sold(`ODD-${n}`);
    const [atHq, inStore] = [
      await untilTold('hq', 'push.rejected'),
      await untilTold('store', 'push.rejected'),
    ];
    assert.deepEqual([atHq.level, atHq.code, atHq.store, atHq.times], ['warn', 'PS-UP-BREAKER', 'ODD-1', 1]);
    assert.deepEqual([inStore.level, inStore.code, inStore.times], ['warn', 'PS-UP-BREAKER', 1]);
    for (let again = 0; again < 5; again += 1) assert.equal(await pushNow(), 'PS-UP-BREAKER');
    assert.equal((await told('hq', 'push.rejected')).length, 1);
    assert.equal((await told('store', 'push.rejected')).length, 1);
  });

  /** A round of the daemon, now; the code that it ended with. */
  const pushNow = (): Promise<string | undefined> =>
    new Promise((resolve, reject) => {
      const asked = request(
        { socketPath: join(dir, 'state', 'store.sock'), path: '/api/v1/push', method: 'POST' },
        (response) => {
          let text = '';
          response.setEncoding('utf8');
          response.on('data', (part: string) => (text += part));
          response.on('end', () => {
            resolve((JSON.parse(text) as { error?: { code: string } }).error?.code);
          });
        },
      );
      asked.on('error', reject);
      asked.end();
    });
});
