/** `possync logs`: filters, both forms, no escapes from what others said, and not a line lost while the log rotates. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../src/core/clock.ts';
import { follow } from '../../src/cli/logs/files.ts';
import { jsonLine, openLog } from '../../src/core/log-output.ts';
import { possync } from '../support/cli.ts';
import { startPossync } from '../support/process.ts';
import { until } from '../support/until.ts';

describe('possync logs', () => {
  let dir: string;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'possync-logs-'));
  });
  afterEach(async () => {
    await rm(dir, { recursive: true });
  });

  const at = (minutesAgo: number, level: string, msg: string, more: object = {}): string =>
    `${JSON.stringify({ ...JSON.parse(jsonLine(level, msg, { role: 'store', ...more })), ts: new Date(Date.now() - minutesAgo * 60_000).toISOString() })}\n`;

  const logs = async (...args: string[]): Promise<{ msg: string }[]> => {
    const { code, stdout } = await possync(['logs', '--log-dir', dir, '--json', ...args]);
    assert.equal(code, 0, stdout);
    return (JSON.parse(stdout) as { lines: { msg: string }[] }).lines;
  };

  it('reads the rotated files first, and filters by level, age and text', async () => {
    await writeFile(join(dir, 'store-server.10.log'), at(300, 'info', 'oldest'));
    await writeFile(join(dir, 'store-server.2.log'), at(200, 'warn', 'older', { code: 'PS-TCP-DROPPED' }));
    await writeFile(join(dir, 'store-server.1.log'), at(30, 'info', 'old'));
    await writeFile(join(dir, 'store-server.log'), `${at(1, 'error', 'new')}{"half a li`);
    await writeFile(join(dir, 'store-serverX.log'), at(1, 'error', 'of another program'));
    const words = async (...args: string[]): Promise<string[]> => (await logs(...args)).map(({ msg }) => msg);
    assert.deepEqual(await words(), ['oldest', 'older', 'old', 'new']);
    assert.deepEqual(await words('--level', 'warn'), ['older', 'new']);
    assert.deepEqual(await words('--since', '1h'), ['old', 'new']);
    assert.deepEqual(await words('--grep', 'ps-tcp'), ['older']);
    assert.deepEqual(await words('--lines', '1'), ['new']);
  });

  it('shows people when, how bad, what and its code, and lets nothing move the cursor', async () => {
    const said = at(1, 'warn', 'HQ said \u001b[2Jhello', { code: 'PS-HQ-ERROR', title: 'a\u001b]0;b\u0007' });
    await writeFile(join(dir, 'hq-server.log'), said);
    const { stdout } = await possync(['logs', '--log-dir', dir], { columns: 100, env: { NO_COLOR: '1' } });
    assert.match(stdout, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d {2}WARN {3}HQ said .*hello \(PS-HQ-ERROR\)/);
    assert.doesNotMatch(stdout, /[\u0000-\u0009\u000b-\u001f]/);
  });

  it('says where it looked when there is no log, and asks which when there are two', async () => {
    const none = await possync(['logs', '--log-dir', dir]);
    assert.equal(none.code, 66);
    await writeFile(join(dir, 'hq-server.log'), at(1, 'info', 'of HQ'));
    await writeFile(join(dir, 'store-server.log'), at(1, 'info', 'of the store'));
    const two = await possync(['logs', '--log-dir', dir]);
    assert.equal(two.code, 64);
    assert.match(two.stderr, /--role hq or --role store/);
    assert.equal((await logs('--role', 'hq'))[0]?.msg, 'of HQ');
  });

  it('follows a log that rotates again and again without losing or repeating a line', async () => {
    const files = { dir, name: 'store-server' };
    const { log, close } = openLog({
      file: { path: join(dir, 'store-server.log'), maxBytes: 20_000, keep: 500 },
      level: 'info',
      fields: {},
    });
    const before = 500;
    const after = 3_000;
    for (let n = 0; n < before; n += 1) log.info('before', { n });
    const seen: number[] = [];
    const done = new AbortController();
    let written: Promise<void> | undefined;
    for await (const text of follow(files, systemClock, done.signal)) {
      if (text === undefined) {
        written = (async () => {
          for (let n = before; n < before + after; n += 1) {
            log.info('after', { n });
            if (n % 100 === 0) await systemClock.sleep(5); // several rotations between two looks
          }
          await close();
        })();
        continue;
      }
      const { n } = JSON.parse(text) as { n?: number };
      if (n !== undefined) seen.push(n);
      if (n === before + after - 1) done.abort();
    }
    await written;
    assert.deepEqual(seen, [...Array(before + after).keys()]);
  });

  it('as a process prints what is there, then each new line, and ends with Ctrl-C', async () => {
    const { log, close } = openLog({
      file: { path: join(dir, 'store-server.log') },
      level: 'info',
      fields: {},
    });
    log.info('first');
    await until(
      () => readFile(join(dir, 'store-server.log'), 'utf8').then((text) => text.includes('first')),
      {
        what: 'the line was written',
      },
    );
    const child = await startPossync(['logs', '-f', '--log-dir', dir]);
    await child.line(/first/);
    log.warn('second', { code: 'PS-WS-SILENT' });
    await child.line(/WARN {3}second \(PS-WS-SILENT\)/);
    const { code } = await child.stop('SIGINT');
    assert.equal(code, 130);
    await close();
  });
});
