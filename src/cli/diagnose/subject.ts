/** What `possync diagnose` looks at: put together from flags, settings and the credential, however broken those are. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { normalizeHqUrl } from '../../config/codecs.ts';
import { fileKey, OPTION_NAMES, OPTIONS } from '../../config/options.ts';
import { proxyFor, targetOf } from '../../core/proxy.ts';
import { parseCredential, Secret } from '../../core/secret.ts';
import type { Subject } from '../../diagnose/subject.ts';
import type { Context } from '../context.ts';
import { socketPath } from '../daemon-socket.ts';
import { proxySettings } from '../hq-connection.ts';

/** As much of a credential file as is readable; the checks say what is wrong with the rest. */
const credentialSchema = z.object({
  token: z.string().max(1_000).optional().catch(undefined),
  hq_url: z.string().max(1_000).optional().catch(undefined),
  hq_id: z.uuid().optional().catch(undefined),
  store_id: z.int().positive().optional().catch(undefined),
  code: z.string().max(200).optional().catch(undefined),
  name: z.string().max(1_000).optional().catch(undefined),
  ca_file: z.string().max(4_000).optional().catch(undefined),
});

export async function makeSubject(context: Context, hq: string | undefined): Promise<Subject> {
  const { config, loaded, env } = context;
  const credentialFile = join(config.stateDir, 'credential');
  const bare = hq !== undefined;
  const file = bare ? {} : await readCredentialFile(credentialFile);
  const fromSettings = loaded.sources.hqUrl === 'default' ? undefined : (env.SYNC_HQ_URL ?? config.hqUrl);
  const hqUrl = hq ?? fromSettings ?? file.hq_url;
  return {
    hqUrl,
    hqUrlSource: bare
      ? '--hq'
      : fromSettings !== undefined
        ? `hq_url, ${loaded.sources.hqUrl}`
        : 'credential',
    bare,
    config: {
      file: loaded.file,
      faults: loaded.faults,
      given: OPTION_NAMES.flatMap((name) => {
        const source = loaded.sources[name];
        return source === 'default' ? [] : [{ name: fileKey(name), source }];
      }),
      overridden: await overridden(context),
      warnings: loaded.warnings,
    },
    stateDir: config.stateDir,
    logDir: config.logDir,
    socketPath: socketPath(config.stateDir, env),
    databaseUrl: config.databaseUrl,
    caFile: config.tlsCaFile ?? file.ca_file,
    proxy: proxyOf(hqUrl, context),
    env,
    credentialFile,
    credential: credentialOf(file.token),
    store:
      file.store_id === undefined || file.code === undefined
        ? undefined
        : { id: file.store_id, code: file.code, name: file.name ?? file.code },
    hqId: file.hq_id,
  };
}

async function readCredentialFile(path: string): Promise<z.infer<typeof credentialSchema>> {
  try {
    return credentialSchema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch {
    return {}; // token.file says what is wrong with it
  }
}

function credentialOf(text: string | undefined): Subject['credential'] {
  if (text === undefined) return undefined;
  try {
    const { kid } = parseCredential(text);
    return { kid, token: new Secret(text.trim(), `kid:${kid}`) };
  } catch {
    return undefined; // damaged, as token.file says
  }
}

/** The same decision as the daemon's own; an address of HQ that is none has no way there. */
function proxyOf(hqUrl: string | undefined, context: Context): string | undefined {
  const { config } = context;
  const address = hqUrl === undefined ? undefined : normalizeHqUrl(hqUrl);
  if (address === undefined) return config.proxy;
  return proxyFor(targetOf(address), proxySettings(context))?.href;
}

/** Settings that the environment and the config file both give. */
async function overridden({ loaded, env }: Context): Promise<string[]> {
  if (loaded.file === undefined) return [];
  const text = await readFile(loaded.file, 'utf8').catch(() => '');
  return OPTION_NAMES.map((name) => ({ key: fileKey(name), variable: OPTIONS[name].env }))
    .filter(({ key, variable }) => (env[variable] ?? '') !== '' && text.includes(`"${key}"`))
    .map(({ variable }) => variable);
}
