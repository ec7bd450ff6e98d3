/** b.4 Local PostgreSQL: is it there, is it ours, does it capture, can it write, is it quick. */
import type pg from 'pg';
import { codeOf, databaseError, sqlstateOf } from '../../core/classify.ts';
import { schemaState } from '../../db/migrations.ts';
import { readEntities } from '../../db/own-types.ts';
import { createPool } from '../../db/pool.ts';
import { queryMaybe, queryOne } from '../../db/transaction.ts';
import { triggerFaults } from '../../db/triggers.ts';
import { tablesOf, upEntities } from '../../protocol/entities.ts';
import { fail, pass, warn, type Check, type Finding, type Probe } from '../check.ts';
import { StepTimeout, within } from '../dial.ts';

const CONNECTED = { layer: 'db', dependsOn: ['db.auth'] } as const;
const MIGRATED = { layer: 'db', dependsOn: ['db.migrated'] } as const;

export const DATABASE: readonly Check[] = [
  { id: 'db.connect', layer: 'db', title: 'PostgreSQL answers', run: checkConnect },
  {
    id: 'db.auth',
    layer: 'db',
    title: 'PostgreSQL lets possync into its database',
    dependsOn: ['db.connect'],
    run: checkAuth,
  },
  { id: 'db.version', ...CONNECTED, title: 'PostgreSQL is new enough', run: checkVersion },
  { id: 'db.migrated', ...CONNECTED, title: 'the schema is the one of this program', run: checkMigrated },
  { id: 'db.triggers', ...MIGRATED, title: 'every table is captured', run: checkTriggers },
  { id: 'db.privileges', ...MIGRATED, title: 'possync may do what it must', run: checkPrivileges },
  { id: 'db.writable', ...CONNECTED, title: 'PostgreSQL can write', run: checkWritable },
  {
    id: 'db.latency',
    layer: 'db',
    dependsOn: ['db.writable'],
    title: 'commits are quick',
    slow: true,
    run: checkLatency,
  },
  { id: 'db.bloat', ...CONNECTED, title: 'no transaction is open for hours', run: checkLongTransactions },
  { id: 'db.clock', ...CONNECTED, title: 'the clock of PostgreSQL agrees', run: checkClock },
];

const CONNECT_MS = 3_000;

async function checkConnect(probe: Probe): Promise<Finding> {
  const options = {
    url: probe.subject.databaseUrl,
    applicationName: 'possync diagnose',
    statementTimeoutMs: 4_000,
    max: 4,
  };
  const detail = { target: addressOf(probe.subject.databaseUrl) };
  const pool = createPool(options);
  try {
    const asked = queryOne<{ name: string }>(pool, 'select current_database() as name');
    const { name } = await within(probe, 'PostgreSQL', CONNECT_MS, asked);
    probe.facts.db = pool;
    return pass(`${name} at ${detail.target}`);
  } catch (error) {
    // A connection that comes late ends with its pool; nobody waits for it.
    pool.end().catch(() => undefined);
    if (error instanceof StepTimeout)
      return fail('PS-DB-UNREACHABLE', `PostgreSQL at ${detail.target} does not answer at all`, detail);
    const why = sqlstateOf(error) ?? codeOf(error);
    if (why === '57P03') return fail('PS-DB-STARTING', 'PostgreSQL is starting or stopping', detail);
    if (why === '53300') return fail('PS-DB-FULL-CONN', 'PostgreSQL has no connection left', detail);
    if (why === 'ETIMEDOUT' || why === 'EHOSTUNREACH' || why === 'ENOTFOUND')
      return fail('PS-DB-UNREACHABLE', `PostgreSQL at ${detail.target} cannot be reached (${why})`, detail);
    const named = databaseError(error);
    const message = `${named.message}${named.why === undefined ? '' : `: ${named.why}`}`;
    if (why === '3D000')
      probe.facts.dbRefused = { code: 'PS-DB-NODB', message: 'the database does not exist' };
    else if (named.code === 'PS-DB-AUTH') probe.facts.dbRefused = { code: named.code, message };
    if (probe.facts.dbRefused !== undefined) return pass(`answers at ${detail.target}`);
    return fail(named.code, message, detail);
  }
}

function checkAuth({ facts, subject }: Probe): Finding {
  const { dbRefused } = facts;
  if (dbRefused === undefined) return pass('let in');
  return fail(dbRefused.code, dbRefused.message, { target: addressOf(subject.databaseUrl) });
}

/** Host and port alone: the rest of the URL is secret. */
function addressOf(url: string | undefined): string {
  if (url === undefined) return process.env.PGHOST ?? 'the local socket';
  try {
    const { hostname, port } = new URL(url);
    return `${hostname}:${port === '' ? '5432' : port}`;
  } catch {
    return 'DATABASE_URL';
  }
}

function db({ facts }: Probe): pg.Pool {
  if (facts.db === undefined) throw new Error('the database is not connected');
  return facts.db;
}

const OLDEST_SERVER = 150_000;

async function checkVersion(probe: Probe): Promise<Finding> {
  const { number, text } = await queryOne<{ number: number; text: string }>(
    db(probe),
    `select current_setting('server_version_num')::integer as number, current_setting('server_version') as text`,
  );
  return number >= OLDEST_SERVER
    ? pass(`PostgreSQL ${text}`)
    : fail('PS-DB-VERSION', `PostgreSQL ${text} is not supported; 15 or newer is`);
}

async function checkMigrated(probe: Probe): Promise<Finding> {
  const state = await schemaState(db(probe), 'store');
  switch (state.result) {
    case 'current':
      return pass('migrated');
    case 'missing':
      return fail('PS-DB-MIGRATE', 'the database has no possync schema yet', {
        hint: 'run: possync store init',
      });
    case 'behind':
      return fail(
        'PS-DB-MIGRATE',
        `${state.missing.length} migrations are missing: ${state.missing.join(', ')}`,
        {
          hint: 'run: possync store init',
        },
      );
    case 'newer':
      return fail('PS-DB-NEWER', `the database is newer than this program (${state.unknown.join(', ')})`);
    case 'other-role':
      return fail('PS-DB-ROLE', 'this database belongs to HQ');
  }
}

const EVENTS = ['insert', 'update', 'delete', 'truncate'] as const;

async function checkTriggers(probe: Probe): Promise<Finding> {
  const tables = upEntities(await readEntities(db(probe))).flatMap((entity) =>
    tablesOf(entity).map(({ table }) => table),
  );
  const wanted = tables.flatMap((table) => EVENTS.map((event) => ({ table, name: `possync_up_${event}` })));
  const { missing, disabled } = await triggerFaults(db(probe), wanted);
  const evidence = { expected: wanted.length, missing, disabled };
  const tableOf = (name: string): string => name.split('.')[0] ?? name;
  const hint = 'run: possync store init (it puts them back; rows written meanwhile: possync store reexport)';
  const [gone] = missing;
  if (gone !== undefined)
    return fail(
      'PS-DB-TRIGGER-MISSING',
      `changes of ${tableOf(gone)} are not captured: trigger ${gone} is missing`,
      {
        evidence,
        hint,
      },
    );
  const [off] = disabled;
  if (off !== undefined)
    return fail(
      'PS-DB-TRIGGER-DISABLED',
      `changes of ${tableOf(off)} are not captured: trigger ${off} is disabled`,
      {
        evidence,
        hint,
      },
    );
  return pass(`${wanted.length} of ${wanted.length} triggers enabled`, evidence);
}

const NEEDED = ['raw', 'outbox', 'state', 'sending', 'tally', 'cursor', 'staging', 'link'] as const;

async function checkPrivileges(probe: Probe): Promise<Finding> {
  const { rows } = await db(probe).query<{ name: string }>(
    `select n.name from unnest($1::text[]) as n(name)
      where not has_table_privilege(format('possync.%I', n.name), 'select')`,
    [[...NEEDED]],
  );
  const denied = rows.map(({ name }) => `possync.${name}`);
  return denied.length === 0
    ? pass('all granted')
    : fail('PS-DB-PERM', `this user may not read ${denied.join(', ')}`, {
        hint: 'run `possync store init` as the owner of the database',
        evidence: { denied },
      });
}

async function checkWritable(probe: Probe): Promise<Finding> {
  const pool = db(probe);
  const { standby, only } = await queryOne<{ standby: boolean; only: string }>(
    pool,
    `select pg_is_in_recovery() as standby, current_setting('transaction_read_only') as only`,
  );
  if (standby) return fail('PS-DB-READONLY', 'this PostgreSQL is a read-only standby');
  if (only === 'on') return fail('PS-DB-READONLY', 'this database only allows reading');
  const client = await pool.connect();
  try {
    await client.query('begin');
    await client.query('create temporary table possync_probe (n integer) on commit drop');
    await client.query('insert into possync_probe values (1)');
    return pass('writes');
  } catch (error) {
    const state = sqlstateOf(error);
    if (state === '53100') return fail('PS-DB-DISK', 'PostgreSQL is out of disk space');
    if (state === '25006') return fail('PS-DB-READONLY', 'the database is read-only');
    if (state === '42501') return pass('not tried: this user may make no temporary table');
    throw error;
  } finally {
    await client.query('rollback');
    client.release();
  }
}

const COMMITS = 5;
const COMMIT_WARN_MS = 100;

/** Transactions that take an id are written to disk at their commit; an id is all that is needed. */
async function checkLatency(probe: Probe): Promise<Finding> {
  const times: number[] = [];
  for (let index = 0; index < COMMITS; index++) {
    const startedAt = performance.now();
    await db(probe).query('select pg_current_xact_id()');
    times.push(performance.now() - startedAt);
  }
  times.sort((a, b) => a - b);
  const median = Math.round(times[Math.floor(COMMITS / 2)] ?? 0);
  const evidence = { median_ms: median, commits: COMMITS };
  return median > COMMIT_WARN_MS
    ? warn('PS-DB-SLOW', `a local commit takes ${median} ms; the disk may be failing`, { evidence })
    : pass(`commit ${median} ms`, evidence);
}

async function checkLongTransactions(probe: Probe): Promise<Finding> {
  const row = await queryMaybe<{ pid: number; who: string; minutes: number }>(
    db(probe),
    `select pid, coalesce(usename, '?') as who, (extract(epoch from now() - xact_start) / 60)::integer as minutes
       from pg_stat_activity
      where xact_start < now() - interval '1 hour' and pid <> pg_backend_pid() and backend_type = 'client backend'
        and datname = current_database()
      order by xact_start limit 1`,
  );
  if (row === undefined) return pass('none');
  return warn(
    'PS-DB-LONGTX',
    `a transaction has been open for ${row.minutes} min (pid ${row.pid}, user ${row.who}); cleaning is blocked`,
    { evidence: { ...row } },
  );
}

const CLOCK_WARN_MS = 2_000;

async function checkClock(probe: Probe): Promise<Finding> {
  const before = probe.machine.clock.now();
  const { ms } = await queryOne<{ ms: number }>(
    db(probe),
    'select (extract(epoch from clock_timestamp()) * 1000)::float8 as ms',
  );
  const skew = Math.round(ms - (before + probe.machine.clock.now()) / 2);
  const evidence = { skew_ms: skew };
  return Math.abs(skew) > CLOCK_WARN_MS
    ? warn(
        'PS-DB-CLOCK',
        `the database clock differs by ${Math.round(Math.abs(skew) / 1_000)} s from this machine`,
        {
          evidence,
        },
      )
    : pass('agrees', evidence);
}
