/** The set-up that `npm start` and `npm test` run first: it builds when it must, and only then. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { startNode, type Ended } from '../support/process.ts';

const ROOT = resolve(import.meta.dirname, '../..');

const LOCK_OF_ANOTHER_TIME = JSON.stringify({
  packages: { 'node_modules/typescript': { version: '1.0.0' } },
});

describe('bin/setup.js', () => {
  let clone: string;

  const setup = async (): Promise<Ended> => (await startNode([join(clone, 'bin/setup.js')])).ended(120_000);
  const source = (name: string): string => join(clone, 'src', name);

  /** A checkout with two small files in place of ours: the compiler is the real one, and the packages are there. */
  beforeEach(async () => {
    clone = await mkdtemp(join(tmpdir(), 'possync-setup-'));
    for (const file of [
      'bin/setup.js',
      'package.json',
      'package-lock.json',
      'tsconfig.json',
      'tsconfig.build.json',
    ])
      await cp(join(ROOT, file), join(clone, file));
    await symlink(join(ROOT, 'node_modules'), join(clone, 'node_modules'));
    await mkdir(source('hq'), { recursive: true });
    await mkdir(join(clone, 'migrations'));
    await writeFile(join(clone, 'knexfile.ts'), 'export default {};\n');
    await writeFile(source('one.ts'), 'export const one: number = 1;\n');
    await writeFile(source('two.ts'), 'export const two: number = 2;\n');
    await writeFile(source('hq/page.css'), 'body { margin: 0 }\n');
    await writeFile(source('hq/NOTES.md'), '# for readers of the source\n');
  });

  afterEach(async () => {
    await rm(clone, { recursive: true });
  });

  it('builds what is missing, with the files that the program reads, and then does nothing', async () => {
    const first = await setup();
    assert.equal(first.code, 0, first.stderr);
    assert.match(first.stderr, /building dist/);
    assert.equal(first.stdout, '', 'stdout belongs to the command that follows');
    assert.ok(existsSync(join(clone, 'dist/src/one.js')));
    assert.ok(existsSync(join(clone, 'dist/src/hq/page.css')));
    assert.equal(existsSync(join(clone, 'dist/src/hq/NOTES.md')), false);
    assert.deepEqual(await setup(), { code: 0, signal: null, stdout: '', stderr: '' });
  });

  it('builds again when a source has changed, also to an older one', async () => {
    await setup();
    await writeFile(source('one.ts'), 'export const one: number = 11;\n');
    await utimes(source('one.ts'), 1e9, 1e9);
    assert.match((await setup()).stderr, /building dist/);
    assert.match(await readFile(join(clone, 'dist/src/one.js'), 'utf8'), /11/);
  });

  it('removes from dist what is no longer in the sources', async () => {
    await setup();
    await rm(source('two.ts'));
    await setup();
    assert.equal(existsSync(join(clone, 'dist/src/two.js')), false);
    assert.ok(existsSync(join(clone, 'dist/src/one.js')));
  });

  it('fails with the words of the compiler, and keeps the dist that worked', async () => {
    await setup();
    await writeFile(source('one.ts'), 'export const one: number = "one";\n');
    const failed = await setup();
    assert.equal(failed.code, 1);
    assert.match(failed.stderr, /one\.ts.*TS2322/);
    assert.match(await readFile(join(clone, 'dist/src/one.js'), 'utf8'), /one = 1;/);
    assert.equal((await setup()).code, 1, 'it does not take the failed build for a good one');
  });

  it('never installs into packages that belong to another checkout', async () => {
    await writeFile(join(clone, 'package-lock.json'), LOCK_OF_ANOTHER_TIME);
    const { code, stderr } = await setup();
    assert.equal(code, 0, stderr);
    assert.match(stderr, /node_modules is a link .* left as it is/);
  });

  it('has nothing to do in an installed package, which has no sources', async () => {
    await rm(join(clone, 'src'), { recursive: true });
    assert.deepEqual(await setup(), { code: 0, signal: null, stdout: '', stderr: '' });
  });
});
