/** A daemon that cannot connect finds out why by itself: on real sockets, as people run it. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { TestHq, TestStore } from '../support/chain.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { runPossync, startPossync, type TestProcess } from '../support/process.ts';
import { until } from '../support/until.ts';

interface Connection {
  readonly indicator: string;
  readonly reason: { readonly code: string; readonly message: string } | null;
  readonly diagnosed_at: string | null;
}

describe('a daemon that cannot connect', function () {
  this.timeout(180_000);
  let hq: TestHq;
  let line: FaultProxy;
  let store: TestStore;
  let daemon: TestProcess | undefined;

  before(async () => {
    hq = await TestHq.open('precheck');
    line = new FaultProxy({ host: '127.0.0.1', port: hq.port });
    await line.open();
  });

  after(async () => {
    await line.close();
    await hq.close();
  });

  afterEach(async () => {
    await daemon?.kill();
    await line.set('pass');
    await store.close();
  });

  const env = (): Record<string, string> => ({
    DATABASE_URL: store.database.url,
    POSSYNC_STATE_DIR: store.stateDir,
  });

  async function start(more: Record<string, string> = {}): Promise<void> {
    daemon = await startPossync(['store', 'daemon'], {
      env: {
        ...env(),
        LOG_DIR: join(store.stateDir, 'logs'),
        POSSYNC_STATUS_LISTEN: 'off',
        POSSYNC_METRICS_LISTEN: 'off',
        ...more,
      },
    });
    await daemon.line(/"event":"ready"/, 60_000);
  }

  async function connection(): Promise<Connection> {
    const { stdout } = await runPossync(['status', '--json'], { env: env() });
    return (JSON.parse(stdout) as { connection: Connection }).connection;
  }

  /** What status says when the daemon has found something; up to ten seconds pass before it looks. */
  async function diagnosed(): Promise<Connection> {
    return await until(
      async () => {
        const now = await connection();
        return now.diagnosed_at === null ? undefined : now;
      },
      { what: 'the daemon has found why', timeoutMs: 90_000 },
    );
  }

  async function lines(event: string): Promise<Record<string, unknown>[]> {
    const text = await readFile(join(store.stateDir, 'logs/store-server.log'), 'utf8');
    return text
      .split('\n')
      .filter((part) => part.includes(`"${event}"`))
      .map((part) => JSON.parse(part) as Record<string, unknown>);
  }

  it('at a port where nobody listens: the reason in status, one line in the log, and neither once it is green', async () => {
    store = await TestStore.enrolled(hq, 'PORT', { hqUrl: `http://127.0.0.1:${line.port}` });
    await line.set('refuse');
    await start();
    const { indicator, reason } = await diagnosed();
    assert.deepEqual([indicator, reason?.code], ['red', 'PS-TCP-REFUSED']);
    assert.match(reason?.message ?? '', new RegExp(`127\\.0\\.0\\.1:${line.port}`));
    const { stdout } = await runPossync(['status'], { env: env() });
    assert.match(stdout, /Why +.*\(PS-TCP-REFUSED\), found .+ ago\n/);
    const [said, ...more] = await lines('link.diagnosed');
    assert.deepEqual([said?.code, said?.level, more], ['PS-TCP-REFUSED', 'warn', []]);
    assert.ok(Number(said?.dur_ms) < 15_000);

    await line.set('pass');
    const green = await until(
      async () => {
        const now = await connection();
        return now.indicator === 'green' ? now : undefined;
      },
      { what: 'the light is green', timeoutMs: 60_000 },
    );
    assert.deepEqual([green.reason, green.diagnosed_at], [null, null]);
    assert.equal((await lines('link.diagnosed')).length, 1);
  });

  it('with a name that does not exist, whatever its machine calls that', async () => {
    store = await TestStore.enrolled(hq, 'NAME', { hqUrl: `http://127.0.0.1:${line.port}` });
    await start({ SYNC_HQ_URL: 'https://hq.possync.invalid:3001' });
    const { reason } = await diagnosed();
    assert.match(reason?.code ?? '', /^PS-(DNS|HOST)-/);
  });

  it('at a port that does not encrypt: the same code from the attempt and from the diagnosis', async () => {
    store = await TestStore.enrolled(hq, 'PLAIN', { hqUrl: `http://127.0.0.1:${line.port}` });
    await start({ SYNC_HQ_URL: `https://127.0.0.1:${line.port}` });
    assert.equal((await diagnosed()).reason?.code, 'PS-TLS-PLAINTEXT');
    assert.equal((await lines('link.down'))[0]?.code, 'PS-TLS-PLAINTEXT');
  });
});
