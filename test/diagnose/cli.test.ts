/** `possync diagnose` as a command: formats, exit codes, no escapes in a pipe, no secret in any output; and the daemon's socket. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import net from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runCli } from '../../src/cli/run.ts';
import { formatCredential, newSecret } from '../../src/core/secret.ts';
import { runPossync } from '../support/process.ts';
import { HQ_ID, startHq, STORE, type RunningHq } from './support/hq.ts';
import { closedPort } from './support/raw.ts';

interface Ran {
  readonly exit: number;
  readonly out: string;
  readonly err: string;
}

async function possync(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ran> {
  let out = '';
  let err = '';
  const exit = await runCli({
    argv: args,
    env,
    stdout: { write: (text) => ((out += text), true) },
    stderr: { write: (text) => ((err += text), true) },
    signal: new AbortController().signal,
    root: false,
    readStdin: () => Promise.resolve(''),
    serviceStarts: () => undefined,
  });
  return { exit, out, err };
}

describe('possync diagnose', () => {
  let hq: RunningHq;
  let folder: string;
  const secret = formatCredential({ kid: 'ABCDEFGH', secret: newSecret('ABCDEFGH') });
  before(async () => {
    hq = await startHq();
    folder = await mkdtemp(join(tmpdir(), 'possync-diagnose-'));
    await mkdir(join(folder, 'state'), { mode: 0o700 });
    await writeFile(
      join(folder, 'state', 'credential'),
      JSON.stringify({
        token: secret.reveal(),
        hq_url: `http://127.0.0.1:${hq.port}`,
        hq_id: HQ_ID,
        store_id: STORE.id,
        code: STORE.code,
        name: STORE.name,
      }),
      { mode: 0o600 },
    );
  });
  after(async () => {
    await hq.close();
    await rm(folder, { recursive: true });
  });
  const env = (): Record<string, string> => ({ POSSYNC_STATE_DIR: join(folder, 'state'), LOG_DIR: folder });

  it('works before a store is installed, and exits 0 when all is well', async () => {
    const { exit, out } = await possync(['diagnose', '--quick', '--hq', `ws://127.0.0.1:${hq.port}`]);
    assert.equal(exit, 0, out);
    assert.match(out, /^VERDICT {3}Everything works\./m);
    assert.doesNotMatch(out, /Token|Daemon|Local database/);
  });

  it('exits 1 when something failed, and says what', async () => {
    const { exit, out } = await possync(['diagnose', '--hq', `ws://127.0.0.1:${await closedPort()}`]);
    assert.equal(exit, 1);
    assert.match(out, /PS-TCP-REFUSED/);
    assert.match(out, /^DO THIS {3}ask HQ/m);
    assert.match(out, /need tcp\.connect/);
  });

  it('takes address, store and token from the credential, and shows no secret in any format', async () => {
    for (const format of ['text', 'json', 'jsonl', 'nagios', 'junit', 'prom']) {
      const { exit, out, err } = await possync(
        ['diagnose', 'token', 'ws.echo', '--skip', 'token.daemon', '--format', format, '--verbose'],
        env(),
      );
      assert.equal(exit, 0, out);
      assert.ok(out.length > 0);
      assert.ok(!`${out}${err}`.includes(secret.reveal().slice(4)), format);

      assert.doesNotMatch(out, /\u001b/);
    }
  });

  it('prints one JSON document, and JSON Lines one a check', async () => {
    const one = await possync(['diagnose', 'token', '--json'], env());
    const document = JSON.parse(one.out) as {
      schema: string;
      exit_code: number;
      verdict: { code: null };
      checks: { id: string }[];
    };
    assert.equal(document.schema, 'possync.diagnose/1');
    assert.equal(document.exit_code, one.exit);
    assert.equal(document.verdict.code, null);
    assert.ok(document.checks.some(({ id }) => id === 'token.valid'));
    const lines = (await possync(['diagnose', 'token', '--format', 'jsonl'], env())).out.trim().split('\n');
    for (const line of lines) JSON.parse(line);
    assert.ok(lines.length > document.checks.length);
  });

  it('answers a monitoring system in its own words and numbers', async () => {
    const good = await possync([
      'diagnose',
      '--hq',
      `ws://127.0.0.1:${hq.port}`,
      '--quick',
      '--format',
      'nagios',
    ]);
    assert.match(good.out, /^POSSYNC OK - /);
    const bad = await possync(['diagnose', '--hq', 'htp:/x', '--format', 'nagios']);
    assert.equal(bad.exit, 2);
    assert.match(bad.out, /^POSSYNC CRITICAL - PS-CFG-URL /);
  });

  it('explains wrong settings in place of stopping at them', async () => {
    const { exit, out } = await possync(['diagnose', 'cfg'], { ...env(), SYNC_PUSH_INTERVAL: 'soon' });
    assert.equal(exit, 1);
    assert.match(out, /PS-CFG-INVALID/);
    assert.match(out, /SYNC_PUSH_INTERVAL: 'soon'/);
  });

  it('refuses a check that does not exist with the nearest that does', async () => {
    const { code, stderr } = await runPossync(['diagnose', 'tls.expirx']);
    assert.equal(code, 64);
    assert.match(stderr, /did you mean tls\.expiry/);
  });

  describe('the daemon', () => {
    const socket = (): string => join(folder, 'state', 'store.sock');
    const look = (): Promise<Ran> => possync(['diagnose', 'daemon.running'], env());

    it('that does not run is PS-DAEMON-DOWN', async () => {
      assert.match((await look()).out, /PS-DAEMON-DOWN/);
    });

    it('that answers is well', async () => {
      const server = http.createServer((_request, response) => {
        response.end(JSON.stringify({ connection: { indicator: 'green' }, daemon: { pid: 812 } }));
      });
      await once(server.listen(socket()), 'listening');
      try {
        const { exit, out } = await look();
        assert.equal(exit, 0, out);
        assert.match(out, /pid 812/);
      } finally {
        server.close();
        server.closeAllConnections();
        await once(server, 'close');
      }
    });

    it('that takes questions and answers none is PS-DAEMON-HUNG', async () => {
      const open = new Set<net.Socket>();
      const server = net.createServer((client) => open.add(client));
      await once(server.listen(socket()), 'listening');
      try {
        assert.match((await look()).out, /PS-DAEMON-HUNG/);
      } finally {
        for (const client of open) client.destroy();
        server.close();
        await once(server, 'close');
      }
    });

    it('that died and left its socket is PS-DAEMON-STALE', async () => {
      await writeFile(socket(), '');
      assert.match((await look()).out, /PS-DAEMON-STALE/);
      await rm(socket());
    });
  });
});
