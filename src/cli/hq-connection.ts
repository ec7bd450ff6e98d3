/** A command's own connection from a store to HQ: the saved credential, and what the settings say instead of it. */
import { PossyncError } from '../core/errors.ts';
import { SOFTWARE } from '../core/version.ts';
import { readCredential, type StoreCredential } from '../store/credential.ts';
import { HqClient } from '../store/link/hq-client.ts';
import type { Context } from './context.ts';

export interface HqConnection {
  readonly credential: StoreCredential;
  /** The caller closes it. */
  readonly client: HqClient;
}

/** Throws PS-NOT-ENROLLED where there is no credential. */
export async function connectToHq({ config }: Context): Promise<HqConnection> {
  const credential = await readCredential(config.stateDir);
  if (credential === undefined)
    throw new PossyncError('PS-NOT-ENROLLED', 'this store has no credential', {
      why: `there is none in ${config.stateDir}`,
    });
  const caFile = config.tlsCaFile ?? credential.caFile;
  const client = new HqClient({
    url: config.hqUrl ?? credential.hqUrl,
    credential: credential.token,
    hqId: credential.hqId,
    software: SOFTWARE,
    ...(caFile === undefined ? {} : { caFile }),
  });
  return { credential, client };
}
