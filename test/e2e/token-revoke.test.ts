/** Revocation: one command at HQ, and no server serves the store any more; what it keeps, and how it comes back. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseCredential } from '../../src/core/secret.ts';
import type { RunningHq } from '../../src/hq/options.ts';
import { startHq } from '../../src/hq/serve.ts';
import { readCredential } from '../../src/store/credential.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { memoryLog } from '../support/memory-log.ts';
import { possync, type CliResult } from '../support/cli.ts';
import { addRegister, openSession, sell } from '../support/pos.ts';
import { until } from '../support/until.ts';

describe('token revoke', function () {
  this.timeout(120_000);
  let hq: TestHq;
  let other: RunningHq;
  const otherLog = memoryLog({ side: 'other hq' });
  let store: TestStore;
  let dir: string;

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'possync-revoke-'));
    hq = await TestHq.open('revoke');
    other = await startHq({ databaseUrl: hq.database.url, port: 0, log: otherLog });
    store = await TestStore.open(hq, 'REV-1', { hqUrl: other.url });
    await store.untilLight('green');
  });
  after(async () => {
    await store.close();
    await other.stop();
    await hq.close();
    await rm(dir, { recursive: true, force: true });
  });

  const atHq = (...args: string[]): Promise<CliResult> =>
    possync(args, { env: { DATABASE_URL: hq.database.url, LOG_DIR: join(dir, 'logs') } });
  const inStore = (...args: string[]): Promise<CliResult> =>
    possync(args, { env: { DATABASE_URL: store.database.url, POSSYNC_STATE_DIR: store.stateDir } });
  const token = async (): Promise<string> =>
    (JSON.parse(await readFile(join(store.stateDir, 'credential'), 'utf8')) as { token: string }).token;
  const ask = async (url: string, bearer: string): Promise<{ status: number; text: string }> => {
    const answer = await fetch(`${url}/api/v1/whoami`, { headers: { authorization: `Bearer ${bearer}` } });
    return { status: answer.status, text: await answer.text() };
  };
  const stateOf = async (kid: string): Promise<string | undefined> =>
    (
      await hq.pool.query<{ state: string }>('select t.state from possync.tokens t where t.kid = $1::text', [
        kid,
      ])
    ).rows[0]?.state;
  const salesAtHq = async (): Promise<number> =>
    (await hq.pool.query<{ n: number }>('select count(*) as n from public.sales')).rows[0]?.n ?? 0;

  it('cuts the live link and every request on every HQ process, and returns when that is so', async () => {
    const bearer = await token();
    const { kid } = parseCredential(bearer);
    // Both servers have just looked the credential up.
    assert.equal((await ask(hq.running.url, bearer)).status, 200);
    assert.equal((await ask(other.url, bearer)).status, 200);
    const { code, stdout, stderr } = await atHq(
      'token',
      'revoke',
      'REV-1',
      '--reason',
      'server stolen',
      '--json',
    );
    assert.equal(code, 0, stdout + stderr);
    assert.deepEqual((JSON.parse(stdout) as { revoked: unknown }).revoked, [{ code: 'REV-1', kids: [kid] }]);
    for (const url of [hq.running.url, other.url]) {
      const refused = await ask(url, bearer);
      assert.equal(refused.status, 401);
      assert.match(refused.text, /PS-TOKEN-REVOKED/);
    }
    assert.equal(await hq.light(store.id), 'red');
    assert.equal(await stateOf(kid), 'revoked');
  });

  it('keeps who, what and why in the audit, and as a line in the log of every server', async () => {
    const { rows } = await hq.pool.query<{ kid: string; reason: string; actor: string }>(
      `select a.details -> 'kids' ->> 0 as kid, a.details ->> 'reason' as reason, a.actor
         from possync.audit a where a.action = 'token revoke'`,
    );
    const [row] = rows;
    assert.ok(row !== undefined && rows.length === 1);
    assert.equal(row.reason, 'server stolen');
    for (const log of [hq.log, otherLog]) {
      const line = log.lines.find(({ event }) => event === 'token.revoked');
      assert.deepEqual(
        { store: line?.store, kids: line?.kids, reason: line?.reason, actor: line?.actor },
        { store: 'REV-1', kids: [row.kid], reason: 'server stolen', actor: row.actor },
      );
    }
  });

  it('ends with 75 while a server still holds the connection', async () => {
    // A server that neither hears nor looks: its row stays fresh and connected.
    const kid = (await readCredential(store.stateDir))?.kid ?? '';
    await hq.pool.query(
      `insert into possync.live_links (store_id, server, connection, daemon, kid, remote, software, connected, since,
              last_frame_at, written_at)
       select l.store_id, gen_random_uuid(), gen_random_uuid(), l.daemon, $2::text, l.remote, l.software, true,
              now() + interval '1 hour', now(), now() + interval '1 hour'
         from possync.live_links l where l.store_id = $1::integer
       on conflict (store_id) do update set connected = true, kid = excluded.kid, written_at = excluded.written_at`,
      [store.id, kid],
    );
    const held = await atHq('token', 'revoke', 'REV-1', '--timeout', '3s');
    assert.equal(held.code, 75, held.stdout);
    assert.match(held.stderr, /PS-TOKEN-LIVE/);
    await hq.pool.query('update possync.live_links set connected = false where store_id = $1::integer', [
      store.id,
    ]);
  });

  it('is told in words in the store, which keeps its queue', async () => {
    await until(async () => (await store.link()).code === 'PS-TOKEN-REVOKED', {
      what: 'the store knows why',
    });
    const told = (): number =>
      store.log.lines.filter(({ event, code }) => event === 'token.revoked' && code === 'PS-TOKEN-REVOKED')
        .length;
    assert.equal(told(), 1, 'its log says so');
    store.running.reconnect();
    await until(() => store.log.lines.filter(({ message }) => message === 'not connected').length >= 2, {
      what: 'HQ has refused it again',
    });
    assert.equal(told(), 1, 'and says it once');
    const till = await store.database.connect();
    const session = await openSession(till, await addRegister(till, store.id), store.id);
    await sell(till, session, { storeId: store.id, lines: 1 });
    const { code, stdout } = await inStore('status');
    assert.equal(code, 1);
    assert.match(stdout, /revoked.*PS-TOKEN-REVOKED/);
    assert.match(stdout, /Upstream +[1-9]/);
    const own = await inStore('token', 'status');
    assert.equal(own.code, 77, own.stdout + own.stderr);
    assert.equal((await inStore('token', 'rotate')).code, 77);
    assert.equal(await salesAtHq(), 0);
  });

  it('finds nothing to revoke a second time, and no token that is not there', async () => {
    const again = await atHq('token', 'revoke', 'REV-1');
    assert.equal(again.code, 0, again.stderr);
    assert.match(again.stdout, /no token in force/);
    assert.equal((await atHq('token', 'revoke', 'REV-1', '--kid', 'NOSUCHKD')).code, 77);
    assert.equal((await atHq('token', 'revoke', 'REV-9')).code, 1);
    assert.equal((await atHq('token', 'revoke')).code, 64);
  });

  it('after a new enrolment the queue flows again, with the same daemon', async () => {
    await store.enrol(hq, { hqUrl: other.url });
    await store.untilLight('green');
    await until(async () => (await salesAtHq()) === 1, { what: 'the sale that waited is at HQ' });
  });

  it('is done again from the log, for an HQ that was restored from a backup', async () => {
    const bearer = await token();
    const { kid } = parseCredential(bearer);
    assert.equal((await atHq('token', 'revoke', 'REV-1', '--kid', kid)).code, 0);
    const lines = hq.log.lines.filter(({ event }) => event === 'token.revoked');
    const log = join(dir, 'hq-server.log');
    await writeFile(
      log,
      `not JSON\n${lines.map((line) => JSON.stringify(line)).join('\n')}\n{"event":"token.revo`,
    );
    // What a restore does: the database no longer knows.
    await hq.pool.query(
      `update possync.tokens set state = 'active', ended_at = null, ended_why = null where kid = $1::text`,
      [kid],
    );
    await until(async () => (await ask(hq.running.url, bearer)).status === 200, {
      what: 'the backup takes it again',
    });
    const { code, stdout, stderr } = await atHq('token', 'revoke', '--replay', log);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /1 token revoked again/);
    assert.equal(await stateOf(kid), 'revoked');
    await until(async () => (await ask(hq.running.url, bearer)).status === 401, {
      what: 'it is refused again',
    });
    assert.match((await atHq('token', 'revoke', '--replay', log)).stdout, /0 tokens revoked again/);
  });

  it('with --kid leaves the others of the store alone', async () => {
    await store.enrol(hq, { hqUrl: other.url });
    await store.untilLight('green');
    const before = (await readCredential(store.stateDir))?.kid ?? '';
    assert.equal((await inStore('token', 'rotate')).code, 0);
    assert.equal(await stateOf(before), 'retiring');
    assert.equal((await atHq('token', 'revoke', 'REV-1', '--kid', before)).code, 0);
    assert.equal(await stateOf(before), 'revoked');
    assert.equal((await inStore('token', 'status')).code, 0);
    assert.equal((await store.link()).indicator, 'green');
  });
});
