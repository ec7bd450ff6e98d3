/** The set-up that `npm start` and `npm test` run first: it builds when it must, and only then. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { startNode, type Ended } from '../support/process.ts';

const ROOT = resolve(import.meta.dirname, '../..');

const LOCK_OF_ANOTHER_TIME = JSON.stringify({
  packages: { 'node_modules/typescript': { version: '1.0.0' } },
});

/** One file that is always loaded, one on demand, a package that goes into dist and one that does not. */
const MAIN_OF_TWO = `
import { Chalk } from 'chalk';
import { one } from '../one.ts';
if (process.argv[2] === 'pg') console.log(typeof (await import('pg')).default.Pool);
else if (process.argv[2] === 'throw') throw new Error('thrown on purpose');
else console.log(new Chalk({ level: 0 }).red(String(one)), (await import('../two.ts')).two);
`;

describe('bin/setup.js', () => {
  let clone: string;

  /** What the built program prints. */
  const printed = async (...args: string[]): Promise<Ended> =>
    (await startNode(['--enable-source-maps', join(clone, 'dist/src/cli/main.js'), ...args])).ended();
  const inDist = async (text: string): Promise<string[]> => {
    const files = await readdir(join(clone, 'dist'), { recursive: true });
    const scripts = files.filter((file) => file.endsWith('.js'));
    const texts = await Promise.all(scripts.map((file) => readFile(join(clone, 'dist', file), 'utf8')));
    return scripts.filter((_, n) => texts[n]?.includes(text) === true);
  };

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
    await mkdir(source('cli'));
    await writeFile(source('cli/main.ts'), MAIN_OF_TWO);
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
    assert.equal((await printed()).stdout, '1 2\n');
    assert.ok(existsSync(join(clone, 'dist/knexfile.js')));
    assert.ok(existsSync(join(clone, 'dist/src/hq/page.css')));
    assert.equal(existsSync(join(clone, 'dist/src/hq/NOTES.md')), false);
    assert.deepEqual(await setup(), { code: 0, signal: null, stdout: '', stderr: '' });
  });

  it('builds again when a source has changed, also to an older one', async () => {
    await setup();
    await writeFile(source('one.ts'), 'export const one: number = 11;\n');
    await utimes(source('one.ts'), 1e9, 1e9);
    assert.match((await setup()).stderr, /building dist/);
    assert.equal((await printed()).stdout, '11 2\n');
  });

  it('removes from dist what is no longer in the sources', async () => {
    await setup();
    assert.equal((await inDist('two = 2')).length, 1, 'it is there before');
    await rm(source('two.ts'));
    await writeFile(source('cli/main.ts'), `import '../one.ts';\n`);
    await setup();
    assert.deepEqual(await inDist('two = 2'), []);
  });

  it('takes the small packages into dist with their licences, and leaves the large ones outside', async () => {
    await setup();
    const bundled = await inDist('ansiStyles');
    assert.notDeepEqual(bundled, [], 'chalk is in the bundle');
    assert.match(
      await readFile(join(clone, 'dist/LICENSES.txt'), 'utf8'),
      /^chalk 5\.6\.2 \(MIT\)\n\nMIT License/,
    );
    await rm(join(clone, 'node_modules'));
    assert.equal((await printed()).stdout, '1 2\n', 'it needs no package at run time');
    assert.match((await printed('pg')).stderr, /Cannot find package 'pg'/);
  });

  it('loads what is not needed at once when it is needed, and tells where in the sources an error was thrown', async () => {
    await setup();
    assert.match((await printed('throw')).stderr, /src\/cli\/main\.ts:5/);
    const [main = '', ...others] = await inDist('two = 2');
    assert.deepEqual([main.startsWith('src/lib/two-'), others], [true, []]);
  });

  it('fails with the words of the compiler, and keeps the dist that worked', async () => {
    await setup();
    await writeFile(source('one.ts'), 'export const one: number = "one";\n');
    const failed = await setup();
    assert.equal(failed.code, 1);
    assert.match(failed.stderr, /one\.ts.*TS2322/);
    assert.equal((await printed()).stdout, '1 2\n');
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
