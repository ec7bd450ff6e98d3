/** How fast the program starts depends on what it loads: help must not wait for the database driver. */
import assert from 'node:assert/strict';
import { HEAVY, loadedBy } from './support/loaded.ts';
import { POSSYNC, runPossync } from './support/process.ts';

describe('the start of possync', () => {
  it('loads none of the heavy packages for help', async () => {
    const { code } = await runPossync(['--help']); // builds dist if it must
    assert.equal(code, 0);
    assert.deepEqual(await loadedBy([POSSYNC, '--help']), []);
    assert.deepEqual(await loadedBy([POSSYNC, 'store', 'daemon', '--help']), []);
  });

  it('would be caught if it did', async () => {
    const imports = HEAVY.map((name) => `import '${name}';`).join('');
    assert.deepEqual(await loadedBy(['--input-type=module', '-e', imports]), HEAVY);
  });

  it('loads them where they are used: none of them is hidden in the bundle', async () => {
    const env = { DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none' };
    assert.deepEqual(await loadedBy([POSSYNC, 'queue', 'ls'], env), ['pg']);
    assert.deepEqual(await loadedBy([POSSYNC, 'hq', 'serve'], env), HEAVY);
  });
});
