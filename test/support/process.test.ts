/** The helpers for other programs: what they report must be what happened. */
import assert from 'node:assert/strict';
import { startNode } from './process.ts';

describe('programs under test', () => {
  it('report what they wrote and how they ended', async () => {
    const child = await startNode(['-e', 'console.log("out"); console.error("err"); process.exitCode = 3']);
    assert.deepEqual(await child.ended(), { code: 3, signal: null, stdout: 'out\n', stderr: 'err\n' });
  });

  it('are waited for by a line that they write', async () => {
    const child = await startNode(['-e', 'console.log("port 1234"); setInterval(() => {}, 1000)']);
    assert.equal(await child.line(/^port \d+$/), 'port 1234');
    assert.equal(child.running, true);
    assert.equal((await child.kill()).signal, 'SIGKILL');
    assert.equal(child.running, false);
  });

  it('fail at once, with all they said, when they end before the awaited line', async () => {
    const child = await startNode(['-e', 'console.error("no such store")']);
    await assert.rejects(child.line(/ready/), /ended before it wrote [^]*no such store/);
  });

  it('do not see the settings of whoever runs the tests', async () => {
    process.env.POSSYNC_LEAK = 'yes';
    try {
      const child = await startNode(['-p', '[process.env.POSSYNC_LEAK, process.env.GIVEN].join()'], {
        env: { GIVEN: 'yes' },
      });
      assert.equal((await child.ended()).stdout, ',yes\n');
    } finally {
      delete process.env.POSSYNC_LEAK;
    }
  });

  it('read what they are given', async () => {
    const child = await startNode(['-e', 'process.stdin.pipe(process.stdout)'], { input: 'a token' });
    assert.equal((await child.ended()).stdout, 'a token');
  });
});
