/** `possync diagnose` through the running daemon: its process, its environment; and on its own when the daemon is frozen or dead. */
import assert from 'node:assert/strict';
import { TestHq, TestStore } from '../support/chain.ts';
import { runPossync, startPossync, type Ended, type TestProcess } from '../support/process.ts';
import { until } from '../support/until.ts';

interface Document {
  readonly ran: 'daemon' | 'local';
  readonly exit_code: number;
  readonly verdict: { readonly code: string | null };
  readonly checks: readonly { readonly id: string; readonly status: string; readonly message: string }[];
}

function messageOf({ checks }: Document, wanted: string): string | undefined {
  return checks.find(({ id }) => id === wanted)?.message;
}

describe('diagnose and the daemon', function () {
  this.timeout(60_000);
  let hq: TestHq;
  let store: TestStore;
  let daemon: TestProcess;

  before(async () => {
    hq = await TestHq.open('diagnose_daemon');
    store = await TestStore.enrolled(hq, 'D1');
    daemon = await startPossync(['store', 'daemon'], {
      env: {
        ...env(),
        POSSYNC_STATUS_LISTEN: 'off',
        POSSYNC_METRICS_LISTEN: 'off',
        HTTPS_PROXY: 'http://127.0.0.1:9',
      },
    });
    await daemon.line(/"event":"ready"/);
    await store.untilLight('green');
  });
  after(async () => {
    await daemon.kill();
    await store.close();
    await hq.close();
  });

  function env(): Record<string, string> {
    return { DATABASE_URL: store.database.url, POSSYNC_STATE_DIR: store.stateDir, LOG_DIR: store.stateDir };
  }

  async function look(...args: string[]): Promise<{ document: Document; ended: Ended }> {
    const ended = await runPossync(['diagnose', ...args, '--json'], { env: env() });
    return { document: JSON.parse(ended.stdout) as Document, ended };
  }

  it('asks the daemon, and what is checked is the world of the daemon', async () => {
    const { document } = await look('host.proxyenv', 'daemon', 'db', 'queue', 'http', 'token', 'ws');
    assert.equal(document.ran, 'daemon');
    assert.equal(messageOf(document, 'host.proxyenv'), 'HTTPS_PROXY does not apply to HQ');
    const odd = document.checks.filter(({ status }) => status !== 'pass');
    assert.deepEqual(odd, []);
    for (const id of ['daemon.restarts', 'daemon.loop', 'db.auth', 'ws.hqview'])
      assert.ok(
        document.checks.some((check) => check.id === id),
        id,
      );
  });

  it('looks from its own process with --local', async () => {
    const { document } = await look('host.proxyenv', 'daemon', '--local');
    assert.equal(document.ran, 'local');
    assert.equal(messageOf(document, 'host.proxyenv'), 'no proxy in the environment');
  });

  it('says where it ran, and hands on what the daemon refuses', async () => {
    const text = await runPossync(['diagnose', 'token'], { env: env() });
    assert.match(text.stdout, /run as \S+ inside the daemon/);
    const { code, stderr } = await runPossync(['diagnose', 'tls.expirx'], { env: env() });
    assert.equal(code, 64);
    assert.match(stderr, /did you mean tls\.expiry/);
  });

  it('writes each check as it ends, with --format jsonl', async () => {
    const { stdout } = await runPossync(['diagnose', 'token', '--format', 'jsonl'], { env: env() });
    const lines = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { id?: string; ran?: string });
    assert.ok(lines.some(({ id }) => id === 'token.valid'));
    assert.equal(lines.at(-1)?.ran, 'daemon');
  });

  it('does not wait for a daemon that is frozen', async () => {
    process.kill(daemon.pid, 'SIGSTOP');
    try {
      const { document } = await look('daemon.running');
      assert.equal(document.ran, 'local');
      assert.equal(document.verdict.code, 'PS-DAEMON-HUNG');
    } finally {
      process.kill(daemon.pid, 'SIGCONT');
    }
  });

  it('finds a daemon that keeps restarting, by the starts it left in the database', async () => {
    const { document: before } = await look('daemon.restarts');
    assert.equal(before.verdict.code, null);
    await store.pool.query(
      `insert into possync.link_history (at, event, pid) select clock_timestamp(), 'start', 1 from generate_series(1, 4)`,
    );
    const { document } = await look('daemon.restarts');
    assert.equal(document.verdict.code, 'PS-DAEMON-FLAPPING');
  });

  it('finds a link that is cut after the same time again and again', async () => {
    const drop = `insert into possync.link_history (at, event, code, lasted_ms, pid)
                  select clock_timestamp(), 'down', 'PS-WS-CLOSED', ms, 1 from unnest($1::bigint[]) as ms`;
    await store.pool.query(drop, [[8_000, 31_000, 300_000, 125_000]]);
    assert.equal((await look('daemon.events')).document.verdict.code, null, 'a line that is merely bad');
    await store.pool.query(drop, [[60_100, 60_400, 60_020, 60_900, 61_000]]);
    assert.equal((await look('daemon.events')).document.verdict.code, 'PS-LINK-PERIODIC');
  });

  it('keeps the history of starts and lights, each change once', async () => {
    await hq.stop();
    await store.untilLight('red');
    await hq.start();
    await store.untilLight('green');
    await daemon.stop();
    const { rows } = await store.pool.query<{ event: string; code: string | null; lasted: boolean }>(
      `select h.event, h.code, h.lasted_ms is not null as lasted from possync.link_history h
        where h.pid = $1::integer order by h.id`,
      [daemon.pid],
    );
    assert.deepEqual(
      rows.map(({ event }) => event),
      ['start', 'up', 'down', 'up', 'stop'],
    );
    assert.ok(rows[2]?.code?.startsWith('PS-'), 'a drop has its reason');
    assert.ok(rows.slice(1).every(({ lasted }) => lasted));
  });

  it('looks for itself once the daemon is gone', async () => {
    const { document } = await look('daemon.running');
    assert.deepEqual([document.ran, document.verdict.code], ['local', 'PS-DAEMON-DOWN']);
    await until(() => !daemon.running, { what: 'the daemon ended' });
  });
});
