/** What systemd hears of the servers on a real datagram socket: ready, a pulse only while the database answers, stopping. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TestHq, TestStore } from '../support/chain.ts';
import { startPossync, startProgram, type TestProcess } from '../support/process.ts';
import { skip } from '../support/skip.ts';
import { until } from '../support/until.ts';

/** Node has no unix datagrams. */
const RECEIVER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print('listening', flush=True)
while True:
    print(s.recv(4096).decode().replace('\\n', ' '), flush=True)
`;
const WATCHDOG_MS = 900;

describe('a service of systemd', function () {
  this.timeout(60_000);
  let dir: string;
  let hq: TestHq;
  let store: TestStore;
  let receiver: TestProcess;
  const closers: (() => Promise<unknown>)[] = [];

  before(async function () {
    for (const [program, flag] of [
      ['python3', '--version'],
      ['systemd-notify', '--version'],
    ] as const)
      if (spawnSync(program, [flag]).status !== 0) skip(this, `${program} is not here`);
    dir = await mkdtemp(join(tmpdir(), 'possync-notify-'));
    closers.push(() => rm(dir, { recursive: true }));
    hq = await TestHq.open('systemd');
    closers.push(() => hq.close());
    store = await TestStore.enrolled(hq, 'SD');
    closers.push(() => store.close());
    receiver = await startProgram('python3', ['-c', RECEIVER, join(dir, 'notify')]);
    closers.push(() => receiver.kill());
    await receiver.line(/listening/, 30_000);
  });
  after(async () => {
    for (const close of closers.reverse()) await close();
  });

  const heard = (pattern: RegExp): number =>
    receiver.stdout.split('\n').filter((line) => pattern.test(line)).length;
  const env = (): Record<string, string> => ({
    DATABASE_URL: store.database.url,
    POSSYNC_STATE_DIR: store.stateDir,
    LOG_DIR: dir,
    POSSYNC_STATUS_LISTEN: 'off',
    POSSYNC_METRICS_LISTEN: 'off',
    NOTIFY_SOCKET: join(dir, 'notify'),
    WATCHDOG_USEC: String(WATCHDOG_MS * 1_000),
  });

  it('hears that a store is ready while HQ is away, its pulse, and that it stops', async () => {
    await hq.stop();
    const daemon = await startPossync(['store', 'daemon'], { env: env() });
    await receiver.line(/READY=1/, 30_000);
    await receiver.line(/STATUS=disconnected, 0 queued/, 30_000);
    await until(() => heard(/WATCHDOG=1/) >= 3, { what: 'three pings' });
    await hq.start();
    await receiver.line(/STATUS=connected, 0 queued.*WATCHDOG=1/, 30_000);

    // The loop turns, but the work stands: whoever pings now would hide it.
    const client = await store.database.connect();
    await client.query('begin; lock table possync.tally in access exclusive mode');
    const before = heard(/WATCHDOG=1/);
    await new Promise((resolve) => setTimeout(resolve, WATCHDOG_MS * 2));
    assert.ok(heard(/WATCHDOG=1/) <= before + 1, 'at most the ping that was on its way');
    await client.query('rollback');
    const after = heard(/WATCHDOG=1/);
    await until(() => heard(/WATCHDOG=1/) > after, { what: 'the pulse came back' });

    const { code } = await daemon.stop();
    assert.equal(code, 0);
    await receiver.line(/STOPPING=1/, 30_000);
  });

  it('hears the same of HQ', async () => {
    const before = heard(/READY=1/);
    const server = await startPossync(['hq', 'serve', '--port', '0'], {
      env: { ...env(), DATABASE_URL: hq.database.url },
    });
    await until(() => heard(/READY=1/) > before, { what: 'HQ said it is ready' });
    await receiver.line(/STATUS=\d+ stores connected here.*WATCHDOG=1/, 30_000);
    assert.equal((await server.stop()).code, 0);
  });
});
