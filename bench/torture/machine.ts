/** One machine of the chain: its own durable PostgreSQL, which can crash, go back to a copy, run out of disk, or have another time. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, open, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type pg from 'pg';
import { connect, createPool } from '../../src/db/pool.ts';
import { startPostgres, type PostgresServer } from '../../src/demo/postgres.ts';
import { postgresIdentity } from '../../src/demo/postgres/identity.ts';

const execute = promisify(execFile);

const DATABASE = 'pos';
/** A store's server: small, and what is committed is on disk. A checkpoint a minute makes crash recovery short. */
const SETTINGS = {
  fsync: 'on',
  shared_buffers: '32MB',
  max_wal_size: '96MB',
  min_wal_size: '32MB',
  checkpoint_timeout: '60s',
  autovacuum_naptime: '5s',
  log_min_messages: 'warning',
  lc_messages: 'C',
};
/** Big enough for a run of an hour, small enough that filling it takes no time. */
const SMALL_DISK_MIB = 640;

/** libfaketime, where the system has it: whole processes get another wall clock; the monotonic one stays right. */
const FAKETIME = [
  '/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1',
  '/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1',
  '/usr/lib/faketime/libfaketime.so.1',
].find((file) => existsSync(file));

export const canStepClock = FAKETIME !== undefined;

export class Machine {
  readonly name: string;
  readonly server: PostgresServer;
  readonly url: string;
  /** For the bench's own questions; the tills have connections of their own. */
  readonly pool: pg.Pool;
  /** Environment of every process of this machine. */
  readonly environment: Readonly<Record<string, string>>;
  /** The bench itself has taken its PostgreSQL or its disk away, until then (performance.now()). */
  #downUntil = 0;
  #downs = 0;
  readonly #clockFile: string;
  hasSmallDisk = false;

  private constructor(
    name: string,
    server: PostgresServer,
    url: string,
    clockFile: string,
    environment: Record<string, string>,
  ) {
    this.name = name;
    this.server = server;
    this.url = url;
    this.pool = createPool({
      url: this.url,
      applicationName: 'torture watch',
      max: 3,
      statementTimeoutMs: 20_000,
    });
    this.#clockFile = clockFile;
    this.environment = environment;
  }

  /** `copy`: a clone, on the files of another machine: same history, same identity, same password. */
  static async start(name: string, runDir: string, copy?: { dir: string; of: Machine }): Promise<Machine> {
    const clockFile = join(runDir, `clock-${name}`);
    await writeFile(clockFile, '+0\n', { mode: 0o644 });
    const environment: Record<string, string> =
      FAKETIME === undefined
        ? {}
        : {
            LD_PRELOAD: FAKETIME,
            FAKETIME_TIMESTAMP_FILE: clockFile,
            FAKETIME_CACHE_DURATION: '1',
            FAKETIME_DONT_FAKE_MONOTONIC: '1',
            FAKETIME_DISABLE_SHM: '1',
          };
    const server = await startPostgres({
      durable: true,
      prefer: 'npm',
      maxConnections: 60,
      settings: SETTINGS,
      serverEnvironment: environment,
    });
    if (copy === undefined) {
      const admin = createPool({ url: server.url('postgres'), applicationName: 'torture', max: 1 });
      await admin.query(`create database ${DATABASE}`);
      await admin.end();
      return new Machine(name, server, server.url(DATABASE), clockFile, environment);
    }
    await server.shutdown();
    await emptyDir(server.dataDir);
    await copyTree(copy.dir, server.dataDir);
    await server.restart();
    const url = new URL(copy.of.url);
    url.port = String(server.port);
    return new Machine(name, server, url.href, clockFile, environment);
  }

  /** Whether a till may fail now for no fault of possync's. A crashed server needs a moment to come back. */
  get isDown(): boolean {
    return this.#downs > 0 || performance.now() < this.#downUntil;
  }

  /** While `work` runs, and a moment longer, this machine's own PostgreSQL may be away. */
  async whileDown<T>(work: () => Promise<T>): Promise<T> {
    this.#downs += 1;
    try {
      return await work();
    } finally {
      this.#downs -= 1;
      this.#downUntil = performance.now() + 3_000;
    }
  }

  /** SIGKILL of one backend: PostgreSQL ends all others and recovers. */
  async killBackend(): Promise<void> {
    await this.whileDown(async () => {
      const { rows } = await this.pool.query<{ pid: number }>(
        `select a.pid from pg_stat_activity a
          where a.backend_type = 'client backend' and a.pid <> pg_backend_pid()
          order by (a.state = 'active') desc, random() limit 1`,
      );
      const witness = await connect({ url: this.url, applicationName: 'torture' });
      const over = new Promise((resolve) => witness.once('end', resolve));
      if (rows[0] !== undefined) process.kill(rows[0].pid, 'SIGKILL');
      // On a busy machine the server takes its time to notice, and ends everybody only then.
      await Promise.race([over, new Promise((resolve) => setTimeout(resolve, 10_000))]);
      await witness.end().catch(() => undefined);
      await this.untilUp();
    });
  }

  async restart(how: 'fast' | 'immediate' | 'power'): Promise<void> {
    await this.whileDown(async () => {
      if (how !== 'fast') await this.server.kill(how === 'power' ? 'SIGKILL' : 'SIGQUIT');
      await this.server.restart();
      await this.untilUp();
    });
  }

  async untilUp(): Promise<void> {
    for (const giveUp = performance.now() + 60_000; ;) {
      try {
        await this.pool.query('select 1');
        return;
      } catch (error) {
        if (performance.now() > giveUp) throw error;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }

  /** Stops the server, copies its files, starts it again. */
  async copyTo(dir: string): Promise<void> {
    await this.whileDown(async () => {
      await this.server.shutdown();
      await copyTree(this.server.dataDir, dir);
      await this.server.restart();
      await this.untilUp();
    });
  }

  /** The disk is replaced by an earlier copy; the server stays down until `restart`. */
  async goBackTo(dir: string): Promise<void> {
    await this.server.kill('SIGKILL');
    await emptyDir(this.server.dataDir);
    await copyTree(dir, this.server.dataDir);
    await this.server.restart();
    await this.untilUp();
  }

  async setClock(offsetSeconds: number): Promise<void> {
    await writeFile(this.#clockFile, `${offsetSeconds >= 0 ? '+' : ''}${offsetSeconds}\n`);
  }

  /** Moves the data to a small memory disk, so that it can be filled. False: not permitted here. */
  async useSmallDisk(): Promise<boolean> {
    const { dataDir } = this.server;
    const { spawnAs } = postgresIdentity();
    if (process.getuid?.() !== 0) return false;
    await this.server.shutdown();
    const aside = `${dataDir}.before`;
    await rename(dataDir, aside);
    await mkdir(dataDir, { mode: 0o700 });
    try {
      await execute('mount', [
        '-t',
        'tmpfs',
        '-o',
        `size=${SMALL_DISK_MIB}m,mode=0700,uid=${spawnAs.uid ?? 0},gid=${spawnAs.gid ?? 0}`,
        'tmpfs',
        dataDir,
      ]);
      this.hasSmallDisk = true;
    } catch {
      await rm(dataDir, { recursive: true });
      await rename(aside, dataDir);
      await this.server.restart();
      return false;
    }
    await copyTree(aside, dataDir);
    await rm(aside, { recursive: true });
    await this.server.restart();
    await this.untilUp();
    return true;
  }

  /** Takes every free byte of the small disk until the returned function gives it back. */
  async fillDisk(): Promise<() => Promise<void>> {
    const ballast = join(this.server.dataDir, 'ballast');
    const file = await open(ballast, 'w');
    const piece = Buffer.alloc(1 << 20);
    try {
      for (;;) await file.write(piece);
    } catch {
      // Full, as wanted; the last part of a piece may still fit.
      await file.write(piece.subarray(0, 4096)).catch(() => undefined);
    }
    await file.close();
    return async () => {
      await rm(ballast, { force: true });
      await this.ensureUp();
    };
  }

  /** A full disk may have ended the server for good. */
  async ensureUp(): Promise<void> {
    await this.whileDown(async () => {
      const up = await this.pool.query('select 1').then(
        () => true,
        () => false,
      );
      if (!up) {
        await this.server.kill('SIGQUIT');
        await this.server.restart();
      }
      await this.untilUp();
    });
  }

  async stop(): Promise<void> {
    await this.pool.end();
    await this.server.shutdown();
    if (this.hasSmallDisk) await execute('umount', [this.server.dataDir]).catch(() => undefined);
    await this.server.stop();
  }
}

/** `cp -a` keeps the owner, which PostgreSQL insists on; postmaster.pid of a killed server must not come along. */
export async function copyTree(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true });
  await execute('cp', ['-a', `${from}/.`, to]);
  await rm(join(to, 'postmaster.pid'), { force: true });
}

async function emptyDir(dir: string): Promise<void> {
  await execute('find', [dir, '-mindepth', '1', '-delete']);
}
