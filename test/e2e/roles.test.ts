/** The whole product with the rights of its roles alone: HQ's server, the daemon and a till, none of them a superuser. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { uuidv7 } from '../../src/core/ids.ts';
import { connect, createPool } from '../../src/db/pool.ts';
import { queryOne } from '../../src/db/transaction.ts';
import { maintainFeed } from '../../src/hq/feed/maintenance.ts';
import { ensurePartitions } from '../../src/hq/inbox/partitions.ts';
import { startHq } from '../../src/hq/serve.ts';
import { readHqStatus } from '../../src/hq/status.ts';
import { addStore } from '../../src/hq/stores/stores.ts';
import { issueEnrolmentToken } from '../../src/hq/stores/tokens.ts';
import { startDaemon } from '../../src/store/daemon.ts';
import { initStore } from '../../src/store/init.ts';
import { OutboxRetention } from '../../src/store/outbox/retention.ts';
import { systemClock } from '../../src/core/clock.ts';
import { memoryLog } from '../support/memory-log.ts';
import { addRegister, openSession, sell } from '../support/pos.ts';
import { hqDatabase, storeDatabase, type TestDatabase } from '../support/postgres.ts';
import { until } from '../support/until.ts';

/** A login that has what `role` has and nothing else. */
async function loginAs(
  database: TestDatabase,
  role: string,
): Promise<{ url: string; drop: () => Promise<void> }> {
  const admin = await database.connect();
  const login = `${role}_${database.name}`.slice(0, 60);
  await admin.query(`create role ${login} login password 'plain' in role ${role}`);
  const url = new URL(database.url);
  url.username = login;
  url.password = 'plain';
  return {
    url: url.href,
    drop: async () => {
      await admin.query(`drop role ${login}`);
    },
  };
}

describe('the product with the rights of its roles', function () {
  this.timeout(60_000);

  it('sells, syncs both ways, makes partitions and tidies up without a superuser', async () => {
    const hqDb = await hqDatabase('roles hq');
    const storeDb = await storeDatabase('roles store');
    const stateDir = await mkdtemp(join(tmpdir(), 'possync-roles-'));
    const server = await loginAs(hqDb, 'possync_hq');
    const daemonLogin = await loginAs(storeDb, 'possync_store');
    const tillLogin = await loginAs(storeDb, 'possync_pos');
    const log = memoryLog();
    const atHq = createPool({ url: server.url, applicationName: 'possync test roles', max: 4 });
    const hq = await startHq({ databaseUrl: server.url, port: 0, log });
    const store = await addStore(atHq, { code: 'ROLE-1', name: 'Roles', timeZone: 'UTC' }, 'test');
    const { token } = await issueEnrolmentToken(atHq, { code: 'ROLE-1', hqUrl: hq.url, actor: 'test' });
    await initStore({ databaseUrl: storeDb.url, stateDir, tokenText: token.reveal() });
    const daemon = await startDaemon({
      databaseUrl: daemonLogin.url,
      stateDir,
      statusListen: null,
      pushIntervalMs: 500,
      pullIntervalMs: 500,
      log,
    });
    const till = await connect({ url: tillLogin.url, applicationName: 'possync test till' });
    try {
      const register = await addRegister(till, store.id);
      const session = await openSession(till, register, store.id);
      const sale = await sell(till, session, { storeId: store.id, businessDate: '2019-02-03' });
      await atHq.query(`insert into public.departments (id, code, name) values ($1::uuid, 'D', 'd')`, [
        uuidv7(),
      ]);
      await until(
        async () => {
          const sold = await atHq.query('select from public.sales where id = $1::uuid', [sale]);
          const down = await till.query('select from public.departments');
          return sold.rowCount === 1 && down.rowCount === 1;
        },
        { what: 'the sale at HQ and the department in the store', timeoutMs: 20_000 },
      );
      assert.ok((await ensurePartitions(atHq)).created > 0);
      const { part } = await queryOne<{ part: string }>(
        atHq,
        'select tableoid::regclass::text as part from public.sales where id = $1::uuid',
        [sale],
      );
      assert.match(part, /sales_2019_02/);
      await maintainFeed(atHq);
      assert.equal((await readHqStatus(atHq)).stores.length, 1);
      const asDaemon = createPool({ url: daemonLogin.url, applicationName: 'possync test daemon', max: 1 });
      await new OutboxRetention({ pool: asDaemon, clock: systemClock }).round();
      await asDaemon.end();
      const faults = log.lines.filter(({ level }) => level === 'error' || level === 'warn');
      assert.deepEqual(faults, []);
    } finally {
      await till.end();
      await daemon.stop();
      await hq.stop();
      await atHq.end();
      for (const login of [server, daemonLogin, tillLogin]) await login.drop();
      await hqDb.drop();
      await storeDb.drop();
      await rm(stateDir, { recursive: true, force: true });
    }
  });
});
