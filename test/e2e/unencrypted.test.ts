/** Plain HTTP that leaves the machine is called unencrypted wherever it shows; on loopback, and under TLS, nothing is. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hqDatabase, storeDatabase, type TestDatabase } from '../support/postgres.ts';
import { runPossync, startPossync, type TestProcess } from '../support/process.ts';
import { until } from '../support/until.ts';

/** What each place said: the name of the place, then its text. */
type Said = Map<string, string>;

/** Every address of this machine and none of its loopback: a connection there needs no network. */
const EVERYWHERE = '0.0.0.0';

describe('plain HTTP', function () {
  this.timeout(240_000);

  async function play(host: string): Promise<Said> {
    const said: Said = new Map();
    const dir = await mkdtemp(join(tmpdir(), 'possync-plain-'));
    const databases: TestDatabase[] = [
      await hqDatabase(`plain hq ${host}`),
      await storeDatabase(`plain ${host}`),
    ];
    const [hqDb, storeDb] = databases as [TestDatabase, TestDatabase];
    const hqEnv = {
      DATABASE_URL: hqDb.url,
      LOG_DIR: join(dir, 'hq'),
      SYNC_LISTEN_HOST: host,
      SYNC_LISTEN_PORT: '0',
      SYNC_ALLOW_PLAINTEXT: '1',
      POSSYNC_METRICS_LISTEN: 'off',
    };
    const running: TestProcess[] = [];
    const hq = await startPossync(['hq', 'serve'], { cwd: dir, env: hqEnv });
    running.push(hq);
    try {
      const ready = await hq.line(/"event":"ready"/, 60_000);
      said.set('hq serve', ready);
      const { port } = new URL((JSON.parse(ready) as { url: string }).url);
      await runPossync(['stores', 'add', 'P-1', '--name', 'Plain', '--time-zone', 'UTC'], { env: hqEnv });
      const token = join(dir, 'token');
      const hqUrl = `http://${host}:${port}`;
      await runPossync(['token', 'issue', 'P-1', '--hq-url', hqUrl, '--out', token], { env: hqEnv });
      const storeEnv = {
        DATABASE_URL: storeDb.url,
        POSSYNC_STATE_DIR: join(dir, 'state'),
        LOG_DIR: join(dir, 'store'),
        SYNC_ALLOW_PLAINTEXT: '1',
        POSSYNC_STATUS_LISTEN: 'off',
        POSSYNC_METRICS_LISTEN: 'off',
      };
      const init = await runPossync(['store', 'init', '--token-file', token], { env: storeEnv });
      assert.equal(init.code, 0, init.stderr);
      said.set('store init', init.stdout);
      const daemon = await startPossync(['store', 'daemon'], { cwd: dir, env: storeEnv });
      running.push(daemon);
      await daemon.line(/"event":"ready"/, 60_000);
      const asked = async (what: string, args: string[], env: Record<string, string>): Promise<void> => {
        said.set(what, (await runPossync(args, { env })).stdout);
      };
      await asked('store waits', ['status', '--wait', 'green', '--timeout', '60s'], storeEnv);
      await until(
        async () => (await readFile(join(dir, 'hq', 'hq-server.log'), 'utf8')).includes('"store connected"'),
        { what: 'HQ has logged the connection' },
      );
      await asked('status of the store', ['status'], storeEnv);
      await asked('status of the store as JSON', ['status', '--json'], storeEnv);
      await asked('diagnose', ['diagnose', 'cfg', '--verbose'], storeEnv);
      await asked('status of HQ', ['status'], hqEnv);
      await asked('status of HQ as JSON', ['status', '--json'], hqEnv);
      const logs = {
        hq: await readFile(join(dir, 'hq', 'hq-server.log'), 'utf8'),
        store: await readFile(join(dir, 'store', 'store-server.log'), 'utf8'),
      };
      const line = (log: keyof typeof logs, pattern: RegExp): void => {
        const found = logs[log].split('\n').filter((text) => pattern.test(text));
        assert.ok(found.length > 0, `${pattern} is in the log of ${log}:\n${logs[log]}`);
        // `"unencrypted":false` says the opposite.
        said.set(`log of ${log} ${pattern.source}`, found.join('\n').replaceAll('"unencrypted":false', ''));
      };
      line('hq', /"event":"start"/);
      line('hq', /"store connected"/);
      line('store', /"event":"config.reloaded".*"hq":/);
      line('store', /"event":"link.up"/);
    } finally {
      for (const process of running.reverse()) await process.stop();
      for (const database of databases) await database.drop();
      await rm(dir, { recursive: true, force: true });
    }
    return said;
  }

  it('beyond loopback is unencrypted in every status, log line and diagnosis', async () => {
    const said = await play(EVERYWHERE);
    const silent = [...said]
      .filter(([, text]) => !text.includes('unencrypted'))
      .map(([place, text]) => `${place}: ${text}`);
    assert.deepEqual(silent, []);
    assert.equal(
      (JSON.parse(said.get('status of the store as JSON') ?? '') as { hq: { unencrypted: boolean } }).hq
        .unencrypted,
      true,
    );
    assert.match(said.get('status of the store') ?? '', /→ ws:\/\/0\.0\.0\.0:\d+ \(unencrypted\)/);
    assert.match(said.get('status of HQ') ?? '', /unencrypted: .*\(PS-CFG-PLAINTEXT\)/);
  });

  it('on loopback is called so nowhere', async () => {
    const said = await play('127.0.0.1');
    const told = [...said]
      .map(([place, text]) => [place, text.replaceAll('"unencrypted":false', '')] as const)
      .filter(([, text]) => text.includes('unencrypted'));
    assert.deepEqual(told, []);
  });
});
