/** b.10 The credential: on disk, in its permissions, and as HQ sees it. The token goes over verified connections only. */
import { readFile } from 'node:fs/promises';
import { codeOf } from '../../core/classify.ts';
import { isErrorCode, type ErrorCode } from '../../core/errors.ts';
import { parseCredential } from '../../core/secret.ts';
import { whoamiSchema } from '../../protocol/diag.ts';
import { ROUTES } from '../../protocol/http.ts';
import { errorBodySchema } from '../../protocol/messages.ts';
import { fail, pass, warn, type Check, type Finding, type Probe } from '../check.ts';
import { requestHq, targetOf, titleOf, type HttpAnswer } from '../dial.ts';
import { isFromHq, parseJson, requestFailure } from './http.ts';

export const TOKEN: readonly Check[] = [
  { id: 'token.file', layer: 'token', title: 'the credential is there and whole', run: checkFile },
  {
    id: 'token.perms',
    layer: 'token',
    title: 'only its owner can read the credential',
    dependsOn: ['token.file'],
    run: checkPermissions,
  },
  {
    id: 'token.valid',
    layer: 'token',
    title: 'HQ accepts the credential',
    dependsOn: ['token.file', 'http.identity'],
    run: checkValid,
  },
  {
    id: 'token.expiry',
    layer: 'token',
    title: 'the credential lasts',
    dependsOn: ['token.valid'],
    run: checkExpiry,
  },
  {
    id: 'token.rotation',
    layer: 'token',
    title: 'no rotation was left half done',
    dependsOn: ['token.file'],
    run: checkRotation,
  },
  {
    id: 'token.daemon',
    layer: 'token',
    title: 'the daemon uses this credential',
    dependsOn: ['token.file'],
    after: ['daemon.running'],
    run: checkDaemon,
  },
];

async function checkFile({ subject }: Probe): Promise<Finding> {
  const { credentialFile } = subject;
  const detail = { target: credentialFile };
  let text: string;
  try {
    text = await readFile(credentialFile, 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT')
      return fail('PS-TOKEN-MISSING', `there is no credential at ${credentialFile}`, detail);
    return fail('PS-CFG-PERM', `${credentialFile} cannot be read (${codeOf(error) ?? 'unknown'})`, detail);
  }
  const [token] = /pst_[A-Za-z0-9_-]*/.exec(text) ?? [];
  try {
    const { kid } = parseCredential(token ?? '');
    return pass(`kid ${kid}`);
  } catch {
    return fail('PS-TOKEN-GARBLED', 'the token is damaged: its checksum does not match', detail);
  }
}

async function checkPermissions({ subject, machine }: Probe): Promise<Finding> {
  const { credentialFile } = subject;
  const mode = ((await machine.stat(credentialFile))?.mode ?? 0) & 0o777;
  if ((mode & 0o077) === 0) return pass(mode.toString(8).padStart(4, '0'));
  return warn(
    'PS-TOKEN-PERMS',
    `other users can read the token (mode ${mode.toString(8).padStart(4, '0')})`,
    {
      target: credentialFile,
      hint: `take the right away: chmod 0600 ${credentialFile}`,
    },
  );
}

/** What HQ may say about a credential, in words; any other of its codes is told as it comes. */
const REFUSALS: Readonly<Partial<Record<ErrorCode, string>>> = {
  'PS-TOKEN-UNKNOWN': 'HQ does not know this token',
  'PS-TOKEN-EXPIRED': 'this token has expired',
  'PS-TOKEN-REVOKED': 'this token was revoked at HQ',
  'PS-TOKEN-STORE': 'this token belongs to another store',
  'PS-STORE-DISABLED': 'this store was deactivated at HQ',
};

async function checkValid(probe: Probe): Promise<Finding> {
  const { subject, facts } = probe;
  if (subject.credential === undefined) return pass('no credential to show');
  const { kid, token } = subject.credential;
  const target = targetOf(probe);
  const name = `${target.host}:${target.port}`;
  let answer: HttpAnswer;
  try {
    answer = await requestHq(probe, {
      path: ROUTES.whoami,
      headers: { authorization: `Bearer ${token.reveal()}` },
    });
  } catch (error) {
    return requestFailure(error, name);
  }
  const { status } = answer;
  const detail = { target: `kid ${kid}`, evidence: { status } };
  if (!isFromHq(answer)) {
    // A filter's 403 must not look like a revoked token.
    return fail(
      'PS-HTTP-BLOCKED',
      `something other than HQ answers ${status} as soon as a token is sent (${titleOf(answer)})`,
      {
        target: name,
        evidence: { status },
      },
    );
  }
  if (status === 200) {
    const parsed = whoamiSchema.safeParse(parseJson(answer.text));
    if (!parsed.success) return fail('PS-PROTOCOL', "HQ's answer about this token cannot be read", detail);
    facts.whoami = parsed.data;
    const { store } = parsed.data;
    if (subject.store !== undefined && subject.store.code !== store.code)
      return fail(
        'PS-TOKEN-STORE',
        `this token belongs to store ${store.code}, but this is ${subject.store.code}`,
        detail,
      );
    return pass(`kid ${kid}, store ${store.code}`);
  }
  const body = errorBodySchema.safeParse(parseJson(answer.text));
  const code = body.success ? body.data.error.code : '';
  const said = body.success ? body.data.error.message : `HTTP ${status}`;
  if (isErrorCode(code)) return fail(code, `${REFUSALS[code] ?? 'HQ refuses'} (kid ${kid}): ${said}`, detail);
  return fail('PS-HQ-ERROR', `HQ answers ${status} when shown the token`, detail);
}

const DAY_MS = 86_400_000;
const EXPIRY_WARN_MS = 14 * DAY_MS;

function checkExpiry({ facts, machine }: Probe): Finding {
  const text = facts.whoami?.expires_at;
  if (text === undefined || text === null) return pass('it does not expire');
  const left = Date.parse(text) - machine.clock.now();
  const days = Math.floor(left / DAY_MS);
  const evidence = { expires_at: text, days_left: days };
  return left < EXPIRY_WARN_MS
    ? warn('PS-TOKEN-EXPIRING', `the token expires in ${days} days`, { evidence })
    : pass(`${days} days left`, evidence);
}

/** A rotation takes seconds; its files may be there while one runs. */
const ROTATION_MS = 600_000;

async function checkRotation({ subject, machine }: Probe): Promise<Finding> {
  const left: string[] = [];
  for (const suffix of ['next', 'lock']) {
    const path = `${subject.credentialFile}.${suffix}`;
    const found = await machine.stat(path);
    if (found !== undefined && machine.clock.now() - found.mtimeMs > ROTATION_MS) left.push(path);
  }
  const [first] = left;
  if (first === undefined) return pass('none');
  return warn('PS-TOKEN-HALFWAY', `a rotation was interrupted (${first} is left)`, { target: first });
}

function checkDaemon({ subject, facts }: Probe): Finding {
  const token = facts.daemon?.token;
  const used =
    typeof token === 'object' && token !== null && 'kid' in token && typeof token.kid === 'string'
      ? token.kid
      : undefined;
  const mine = subject.credential?.kid;
  if (used === undefined || mine === undefined) return pass('the daemon did not say');
  return used === mine
    ? pass(`kid ${used}`)
    : warn('PS-TOKEN-NOTLOADED', `the daemon uses the token ${used}; the file has ${mine}`);
}
