/** The one function behind `possync status` in a store, on a real database, with and without a daemon. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { uuidv7 } from '../../src/core/ids.ts';
import type { StoreStatusView } from '../../src/protocol/status.ts';
import { readStoreStatus } from '../../src/store/status.ts';
import { openStore, type TestSide } from '../support/pos.ts';

describe('the status of a store', () => {
  let store: TestSide;
  let dir: string;

  before(async () => {
    store = await openStore('store status', 7);
    dir = await mkdtemp(join(tmpdir(), 'possync-status-'));
  });
  after(async () => {
    await store.close();
    await rm(dir, { recursive: true });
  });
  beforeEach(async () => {
    await store.db.query('delete from possync.link');
  });

  const status = (source: StoreStatusView['source'] = 'database') =>
    readStoreStatus(store.pool, { stateDir: dir, source });

  async function link(facts: {
    indicator?: 'green' | 'red';
    state?: string;
    written?: string;
    code?: string;
    head?: number;
  }): Promise<void> {
    const { indicator = 'green', state = 'online', written = '1 second', code = null, head = null } = facts;
    await store.db.query(
      `insert into possync.link (indicator, state, session, since, last_frame_at, rtt_ms, reason_code, reason_message,
              attempt, next_attempt_at, hq_url, hq_version, hq_head, kid, pid, version, started_at, written_at)
       values ($1, $2, 'socket', now() - interval '1 hour', now() - interval '2 seconds', 41, $4, 'said so', 3,
               now() + interval '9 seconds', 'https://hq:3001', '1.4.0', $5, 'KKKK', 812, '1.4.0', now(), now() - $3::interval)`,
      [indicator, state, written, code, head],
    );
  }

  it('is red with PS-DAEMON-DOWN when no daemon ever ran', async () => {
    const { connection, daemon, store: self } = await status();
    assert.deepEqual(
      [connection.indicator, connection.reason?.code, daemon.running, self?.code, self?.status],
      ['red', 'PS-DAEMON-DOWN', false, 'S-7', 'offline'],
    );
  });

  for (const [title, facts, light, code, running] of [
    ['green while the daemon writes', {}, 'green', undefined, true],
    [
      'red when the daemon has not written for 10 s',
      { written: '11 seconds' },
      'red',
      'PS-DAEMON-DOWN',
      false,
    ],
    [
      'red at once after the daemon was stopped',
      { indicator: 'red', state: 'idle' },
      'red',
      'PS-DAEMON-DOWN',
      false,
    ],
    [
      "red with the daemon's reason",
      { indicator: 'red', state: 'waiting', code: 'PS-TCP-REFUSED' },
      'red',
      'PS-TCP-REFUSED',
      true,
    ],
  ] as const)
    it(`is ${title}`, async () => {
      await link(facts);
      const { connection, daemon } = await status();
      assert.deepEqual(
        [connection.indicator, connection.reason?.code, daemon.running],
        [light, code, running],
      );
      assert.equal(connection.attempt, light === 'red' && running ? 3 : null);
    });

  it('is deactivated when HQ said so as it cut the link', async () => {
    await link({ indicator: 'red', state: 'waiting', code: 'PS-STORE-DISABLED' });
    assert.equal((await status()).store?.status, 'deactivated');
  });

  it('says unknown of downloads while it is disconnected, and compares with HQ while it is not', async () => {
    await store.db.query(
      'update possync.cursor set pos = 5, paged = 5, nonce = gen_random_uuid(), applied_at = now()',
    );
    await link({ indicator: 'red', state: 'waiting', head: 9 });
    assert.deepEqual(
      [(await status()).downstream.state, (await status()).downstream.hq_cursor],
      ['unknown', null],
    );
    await store.db.query('delete from possync.link');
    await link({ head: 9 });
    assert.equal((await status()).downstream.state, 'behind');
    await store.db.query('update possync.link set hq_head = 5');
    assert.equal((await status()).downstream.state, 'up_to_date');
    await store.db.query(
      `update possync.cursor set error_code = 'PS-APPLY-FAILED', error = 'a unique key', error_at = now()`,
    );
    const { downstream } = await status();
    assert.deepEqual([downstream.state, downstream.error?.code], ['failing', 'PS-APPLY-FAILED']);
    await store.db.query('update possync.cursor set error_code = null, error = null, error_at = null');
  });

  it('counts what is queued, sealed or not, and says that the store keeps selling whatever else is wrong', async () => {
    await store.db.query(`insert into public.registers (id, store_id, code, name) values ($1, 7, 'R', 'R')`, [
      uuidv7(),
    ]);
    const { upstream } = await status();
    assert.deepEqual([upstream.state, upstream.queued, upstream.queued_high], ['backlog', 1, 1]);
    await store.db.query(
      `update possync.sending set halted = 'PS-UP-ROLLBACK', halted_why = 'restored', halted_at = now()`,
    );
    const halted = (await status()).upstream;
    assert.deepEqual([halted.state, halted.halted?.code], ['halted', 'PS-UP-ROLLBACK']);
    assert.match(halted.halted?.hint ?? '', /store re-enrol/);
  });

  it('has the same keys from the daemon as from the database', async () => {
    await link({});
    const [told, read] = [await status('daemon'), await status('database')];
    assert.deepEqual(Object.keys(told), Object.keys(read));
    assert.equal(told.source, 'daemon');
  });
});
