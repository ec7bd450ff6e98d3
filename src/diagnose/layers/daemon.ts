/** b.3 The daemon: does it run, answer and keep running, is it the installed version, can it write its log. */
import { once } from 'node:events';
import { access, constants } from 'node:fs/promises';
import http from 'node:http';
import { codeOf } from '../../core/classify.ts';
import { VERSION } from '../../core/version.ts';
import { queryMaybe, queryOne, type Queryable } from '../../db/transaction.ts';
import { fail, pass, warn, type Check, type Finding, type Probe } from '../check.ts';
import { StepTimeout, within } from '../dial.ts';
import { parseJson } from './http.ts';

export const DAEMON: readonly Check[] = [
  { id: 'daemon.running', layer: 'daemon', title: 'the daemon answers', run: checkRunning },
  {
    id: 'daemon.version',
    layer: 'daemon',
    title: 'the daemon is the installed version',
    dependsOn: ['daemon.running'],
    run: checkVersion,
  },
  {
    id: 'daemon.restarts',
    layer: 'daemon',
    title: 'the daemon keeps running',
    dependsOn: ['db.migrated'],
    run: checkRestarts,
  },
  {
    id: 'daemon.loop',
    layer: 'daemon',
    title: 'the daemon reacts at once',
    dependsOn: ['daemon.running'],
    run: checkLoop,
  },
  { id: 'daemon.logs', layer: 'daemon', title: 'the log can be written', run: checkLogs },
  {
    id: 'daemon.events',
    layer: 'daemon',
    title: 'the link to HQ holds',
    dependsOn: ['db.migrated'],
    after: ['daemon.running'],
    run: checkLink,
  },
];

/** A daemon that is not frozen answers from memory. */
const STATUS_MS = 1_500;

async function checkRunning(probe: Probe): Promise<Finding> {
  const { socketPath } = probe.subject;
  const detail = { target: socketPath };
  try {
    const text = await within(probe, 'daemon', STATUS_MS, ask(probe, socketPath, '/api/v1/status'));
    const document = parseJson(text);
    if (typeof document === 'object' && document !== null) {
      probe.facts.daemon = document as Record<string, unknown>;
      const { indicator } = part(document, 'connection');
      if (indicator === 'green' || indicator === 'red') probe.facts.connected = indicator === 'green';
      const { pid } = part(document, 'daemon');
      return pass(typeof pid === 'number' ? `pid ${pid}` : 'answers');
    }
    return fail('PS-DAEMON-HUNG', 'the daemon answers with something that is no status', detail);
  } catch (error) {
    const code = codeOf(error);
    if (error instanceof StepTimeout)
      return fail('PS-DAEMON-HUNG', 'the daemon does not answer (frozen)', detail);
    if (code === 'ENOENT') return fail('PS-DAEMON-DOWN', 'the daemon is not running', detail);
    if (code === 'ECONNREFUSED')
      return fail('PS-DAEMON-STALE', 'the daemon is gone and left its socket', detail);
    if (code === 'EACCES' || code === 'EPERM')
      return fail('PS-DAEMON-PERM', `user ${probe.machine.user} may not ask the daemon`, detail);
    return fail('PS-DAEMON-HUNG', `the daemon cannot be asked (${code ?? 'unknown'})`, detail);
  }
}

/** One of the objects of a status document; a store's daemon may be older than this program. */
export function part(document: object, name: string): Record<string, unknown> {
  const value: unknown = name in document ? (document as Record<string, unknown>)[name] : undefined;
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

async function ask({ signal }: Probe, socketPath: string, path: string): Promise<string> {
  const request = http.request({ socketPath, path, headers: { host: 'daemon' }, signal });
  request.end();
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  let text = '';
  for await (const chunk of response) text += String(chunk);
  return text;
}

function checkVersion({ facts }: Probe): Finding {
  const { version } = part(facts.daemon ?? {}, 'daemon');
  if (typeof version !== 'string') return pass('the daemon did not say');
  return version === VERSION
    ? pass(version)
    : warn('PS-DAEMON-OLD', `the running daemon is ${version}, but ${VERSION} is installed`);
}

/** A restart after an update or two is work; more is a daemon that cannot stay up. */
const RESTARTS_AN_HOUR = 3;

async function checkRestarts({ facts }: Probe): Promise<Finding> {
  if (facts.db === undefined) return pass('the database was not asked');
  const { starts, code } = await queryOne<{ starts: number; code: string | null }>(
    facts.db,
    `select count(*) as starts,
            (select h.code from possync.link_history h where h.event in ('down', 'stop') and h.code is not null
              order by h.id desc limit 1) as code
       from possync.link_history s
      where s.event = 'start' and s.at > clock_timestamp() - interval '1 hour'`,
  );
  const evidence = { starts_last_hour: starts, last_reason: code };
  const last = code === null ? '' : `; the link was last down for ${code}`;
  return starts > RESTARTS_AN_HOUR
    ? warn('PS-DAEMON-FLAPPING', `the daemon started ${starts} times within an hour${last}`, { evidence })
    : pass(starts === 0 ? 'not started within the hour' : `${starts} starts within the hour`, evidence);
}

/** A heartbeat of 5 s and a till that waits for nobody bear less than this with ease. */
const LOOP_WARN_MS = 250;

function checkLoop({ facts }: Probe): Finding {
  const { loop_p99_ms: p99 } = part(facts.daemon ?? {}, 'daemon');
  if (typeof p99 !== 'number') return pass('the daemon did not say');
  return p99 > LOOP_WARN_MS
    ? warn('PS-DAEMON-LAG', `the daemon is slow to react (p99 ${p99} ms)`, { evidence: { p99_ms: p99 } })
    : pass(`p99 ${p99} ms`);
}

async function checkLogs({ subject, machine }: Probe): Promise<Finding> {
  const { logDir } = subject;
  if ((await machine.stat(logDir)) === undefined) return pass(`no ${logDir} yet`);
  try {
    await access(logDir, constants.W_OK);
    return pass(logDir);
  } catch (error) {
    return warn('PS-LOG-UNWRITABLE', `${logDir} cannot be written (${codeOf(error) ?? 'unknown'})`, {
      target: logDir,
    });
  }
}

interface DbLinkRow {
  readonly indicator: string;
  readonly reason_code: string | null;
  readonly attempt: number;
  readonly since: string;
  readonly age: number;
}

/** The daemon writes its link every five seconds; older than this it is history. */
const FRESH_SECONDS = 10;

async function checkLink({ facts }: Probe): Promise<Finding> {
  if (facts.db === undefined) return pass('the database was not asked');
  const row = await queryMaybe<DbLinkRow & Record<string, unknown>>(
    facts.db,
    `select indicator, reason_code, attempt, since::text as since,
            extract(epoch from clock_timestamp() - written_at)::float8 as age
       from possync.link`,
  );
  if (row === undefined) return pass('the daemon has never connected');
  const periodic = periodOf(await recentDrops(facts.db));
  const fresh = row.age < FRESH_SECONDS;
  facts.connected ??= fresh && row.indicator === 'green';
  const evidence = { ...row, fresh };
  if (periodic !== undefined)
    return warn(
      'PS-LINK-PERIODIC',
      `the connection drops every ${Math.round(periodic.everyMs / 1_000)} s (${periodic.times} times in a day): something on the path closes it`,
      { evidence: { ...evidence, every_ms: periodic.everyMs, times: periodic.times } },
    );
  if (!fresh) return pass(`last known: ${row.indicator} since ${row.since}`, evidence);
  if (row.indicator === 'green') return pass(`connected since ${row.since}`, evidence);
  return pass(
    `disconnected since ${row.since}, attempt ${row.attempt}: ${row.reason_code ?? 'unknown'}`,
    evidence,
  );
}

/** How long the green phases lasted that ended by themselves, newest first. */
async function recentDrops(db: Queryable): Promise<number[]> {
  const { rows } = await db.query<{ lasted: number }>(
    `select h.lasted_ms as lasted from possync.link_history h
      where h.event = 'down' and h.lasted_ms is not null and h.at > clock_timestamp() - interval '1 day'
      order by h.id desc limit 20`,
  );
  return rows.map(({ lasted }) => lasted);
}

/** What a box on the path cuts, it cuts on the second; shorter than this is a line that does not come up at all. */
const PERIOD_MIN_MS = 5_000;
const PERIOD_TIMES = 3;

/**
 * The time after which most of these phases ended, within five percent. Twenty drops of a bad line have three of about
 * the same length by chance; that most of them have it is no chance.
 */
export function periodOf(
  lastedMs: readonly number[],
): { readonly everyMs: number; readonly times: number } | undefined {
  const near = (period: number): number =>
    lastedMs.filter((ms) => Math.abs(ms - period) <= period * 0.05).length;
  const best = lastedMs
    .filter((ms) => ms >= PERIOD_MIN_MS)
    .map((everyMs) => ({ everyMs, times: near(everyMs) }))
    .sort((a, b) => b.times - a.times)[0];
  return best !== undefined && best.times >= PERIOD_TIMES && best.times * 2 > lastedMs.length
    ? best
    : undefined;
}
