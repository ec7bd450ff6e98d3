/** The client of HQ that a credential and the settings make: one place for address, authority and proxy. */
import type { ProxySettings } from '../../core/proxy.ts';
import { SOFTWARE } from '../../core/version.ts';
import type { StoreCredential } from '../credential.ts';
import { HqClient } from './hq-client.ts';

export interface WayToHq {
  /** In place of the address in the credential. */
  readonly hqUrl?: string | undefined;
  /** In place of the authority in the credential. */
  readonly caFile?: string | undefined;
  readonly proxies?: ProxySettings | undefined;
}

/** The caller closes it. */
export function clientFor(credential: StoreCredential, { hqUrl, caFile, proxies }: WayToHq): HqClient {
  const ca = caFile ?? credential.caFile;
  return new HqClient({
    url: hqUrl ?? credential.hqUrl,
    credential: credential.token,
    hqId: credential.hqId,
    software: SOFTWARE,
    proxies,
    ...(ca === undefined ? {} : { caFile: ca }),
  });
}
