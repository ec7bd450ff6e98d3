/** b.1 Configuration: is it there, can it be read, does it say where HQ is. */
import net from 'node:net';
import { fail, pass, warn, type Check, type Finding, type Probe } from '../check.ts';
import { DEFAULT_PORT } from '../../protocol/http.ts';
import { readMemory } from '../memory.ts';

export const CONFIGURATION: readonly Check[] = [
  { id: 'cfg.file', layer: 'cfg', title: 'the settings can be read', run: checkFile },
  { id: 'cfg.hq_url', layer: 'cfg', title: 'the address of HQ is one', run: checkUrl },
  { id: 'cfg.sources', layer: 'cfg', title: 'every setting has one source', run: checkSources },
  {
    id: 'cfg.perms',
    layer: 'cfg',
    title: 'only its owner can change the config file',
    run: checkPermissions,
  },
];

function checkFile({ subject, machine }: Probe): Finding {
  const { faults, file, given } = subject.config;
  const [first] = faults;
  if (first !== undefined) {
    const detail = { target: file ?? 'settings', evidence: { faults } };
    if (first.includes('no valid JSON')) return fail('PS-CFG-SYNTAX', first, detail);
    if (first.startsWith('cannot read'))
      return fail('PS-CFG-PERM', `${first} as user ${machine.user}`, detail);
    return fail('PS-CFG-INVALID', faults.join('; '), detail);
  }
  if (subject.hqUrl === undefined && subject.credential === undefined) {
    return fail('PS-CFG-MISSING', 'nothing says where HQ is: no credential, no SYNC_HQ_URL, no config file', {
      target: subject.credentialFile,
    });
  }
  return pass(
    file ??
      (subject.bare ? 'none needed' : given.length > 0 ? 'from the environment' : 'from the credential'),
  );
}

async function checkUrl({ subject, facts }: Probe): Promise<Finding> {
  const text = subject.hqUrl;
  if (text === undefined) return fail('PS-CFG-MISSING', 'the address of HQ is not known');
  if (/^[a-z]+:\/\/[^/]*@/i.test(text)) {
    return fail('PS-CFG-URL-SECRET', 'the address of HQ holds a user name or password', {
      target: text.replace(/\/\/[^@]*@/, '//…@'),
    });
  }
  let url: URL;
  try {
    url = new URL(text.replace(/^ws/i, 'http'));
  } catch {
    return fail('PS-CFG-URL', `"${text}" is no address`, { target: text });
  }
  if (!/^https?:$/.test(url.protocol) || url.hostname === '')
    return fail('PS-CFG-URL', `"${text}" is no address of HQ`, { target: text });
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const secure = url.protocol === 'https:';
  // Judged from the text: URL drops a port that is its scheme's default, and ":443" must stay what was asked for.
  const given = /:(\d{1,5})(?:\/.*)?$/.exec(text)?.[1];
  const port = given === undefined ? DEFAULT_PORT : Number(given);
  facts.target = { secure, host, port, literal: net.isIP(host) !== 0 };
  const memory = subject.bare ? undefined : await readMemory(subject.stateDir);
  facts.memory = memory?.host === host && memory.port === port ? memory : undefined;
  if (!secure && !isLoopbackName(host)) {
    return warn('PS-CFG-PLAINTEXT', 'http:// and ws:// send sales and the token unencrypted', {
      target: text,
      hint: 'use https:// and give HQ a certificate',
    });
  }
  return pass(`${host}:${port} (${subject.hqUrlSource})`);
}

/** A name or address that never leaves this machine. */
export function isLoopbackName(host: string): boolean {
  return host === 'localhost' || host.endsWith('.localhost') || host === '::1' || host.startsWith('127.');
}

function checkSources({ subject }: Probe): Finding {
  const { overridden, given, warnings } = subject.config;
  const [first] = overridden;
  if (first !== undefined) {
    return {
      ...pass(`${first} from the environment overrides ${subject.config.file ?? 'the config file'}`, {
        given,
      }),
      code: 'PS-CFG-OVERRIDE',
    };
  }
  if (warnings.length > 0) return pass(warnings.join('; '), { given });
  return pass(`${given.length} settings given`, { given });
}

async function checkPermissions({ subject, machine }: Probe): Promise<Finding> {
  const { file } = subject.config;
  if (file === undefined) return pass('no config file in use');
  const mode = (await machine.stat(file))?.mode ?? 0;
  if ((mode & 0o022) === 0) return pass(file);
  const octal = (mode & 0o7777).toString(8).padStart(4, '0');
  return warn('PS-CFG-WRITABLE', `${file} can be changed by other users (mode ${octal})`, {
    target: file,
    hint: `take the right away: chmod 0640 ${file}`,
  });
}
