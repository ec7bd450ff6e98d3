/** How fast the program starts depends on what it loads: help must not wait for the database driver. */
import assert from 'node:assert/strict';
import { POSSYNC, runPossync, startNode } from './support/process.ts';

/** Half a second together (knex 53 ms, ws 50, pg 42, winston 41 and what they bring along). */
const HEAVY = ['pg', 'knex', 'ws', 'winston', 'prom-client'];

/** All of them are CommonJS: at the end Node's module cache names each file of theirs that was loaded. */
const REPORT =
  'data:text/javascript,' +
  encodeURIComponent(`
    import { createRequire } from 'node:module';
    import { writeSync } from 'node:fs';
    process.on('exit', () => {
      const files = Object.keys(createRequire('/').cache).map((file) => file.replaceAll('\\\\', '/'));
      writeSync(2, 'LOADED ' + JSON.stringify(files) + '\\n');
    });`);

async function loadedBy(args: readonly string[]): Promise<string[]> {
  const { stderr } = await (await startNode(['--import', REPORT, ...args])).ended();
  const report = /^LOADED (.*)$/m.exec(stderr)?.[1];
  assert.ok(report, stderr);
  const files = JSON.parse(report) as string[];
  return HEAVY.filter((name) => files.some((file) => file.includes(`/node_modules/${name}/`)));
}

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
});
