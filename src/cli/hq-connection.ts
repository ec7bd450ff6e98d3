/** A command's own connection from a store to HQ: the saved credential, and what the settings say instead of it. */
import { PossyncError } from '../core/errors.ts';
import type { ProxySettings } from '../core/proxy.ts';
import { readCredential, type StoreCredential } from '../store/credential.ts';
import { clientFor } from '../store/link/client-for.ts';
import { allowSlowAddresses } from '../store/link/http-exchange.ts';
import type { HqClient } from '../store/link/hq-client.ts';
import type { Context } from './context.ts';

export interface HqConnection {
  readonly credential: StoreCredential;
  /** The caller closes it. */
  readonly client: HqClient;
}

/** Throws PS-NOT-ENROLLED where there is no credential. */
export async function connectToHq(context: Context): Promise<HqConnection> {
  const { config } = context;
  const credential = await readCredential(config.stateDir);
  if (credential === undefined)
    throw new PossyncError('PS-NOT-ENROLLED', 'this store has no credential', {
      why: `there is none in ${config.stateDir}`,
    });
  allowSlowAddresses();
  const client = clientFor(credential, {
    hqUrl: config.hqUrl,
    caFile: config.tlsCaFile,
    proxies: proxySettings(context),
  });
  return { credential, client };
}

/** POSSYNC_PROXY and the proxies of the environment: what decides on the way to HQ. */
export function proxySettings({ config, env }: Pick<Context, 'config' | 'env'>): ProxySettings {
  return { explicit: config.proxy, env };
}
