/** b.3 The daemon: does it run, does it answer, is it the installed version, can it write its log. */
import { once } from 'node:events';
import { access, constants } from 'node:fs/promises';
import http from 'node:http';
import { codeOf } from '../../core/classify.ts';
import { VERSION } from '../../core/version.ts';
import { queryMaybe } from '../../db/transaction.ts';
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
  const fresh = row.age < FRESH_SECONDS;
  facts.connected ??= fresh && row.indicator === 'green';
  const evidence = { ...row, fresh };
  if (!fresh) return pass(`last known: ${row.indicator} since ${row.since}`, evidence);
  if (row.indicator === 'green') return pass(`connected since ${row.since}`, evidence);
  return pass(
    `disconnected since ${row.since}, attempt ${row.attempt}: ${row.reason_code ?? 'unknown'}`,
    evidence,
  );
}
