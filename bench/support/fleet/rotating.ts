/** A simulated store with its credential in a folder: it rotates it by the daemon's own code, fsync and all. */
import { join } from 'node:path';
import { systemClock } from '../../../src/core/clock.ts';
import { silentLog } from '../../../src/core/log.ts';
import { parseCredential, Secret } from '../../../src/core/secret.ts';
import { readCredential, saveCredential } from '../../../src/store/credential.ts';
import { clientFor } from '../../../src/store/link/client-for.ts';
import { Renewal } from '../../../src/store/renewal.ts';
import type { FleetSpec } from './commands.ts';
import type { StoreIdentity } from './identity.ts';
import { FleetStore, type StoreEvents } from './store.ts';

export async function rotatingStore(
  identity: StoreIdentity,
  spec: Pick<FleetSpec, 'hq' | 'cursor'>,
  events: StoreEvents,
  dir: string,
): Promise<FleetStore> {
  const { storeId, code, token } = identity;
  const stateDir = join(dir, code);
  let { kid } = parseCredential(token);
  await saveCredential(stateDir, {
    token: new Secret(token, code),
    kid,
    hqUrl: spec.hq.url,
    hqId: spec.hq.id,
    storeId,
    code,
    name: code,
    enrolledWith: null,
  });
  const store = new FleetStore(identity, spec, events, (order) => {
    renewal.ordered(order);
  });
  const renewal = new Renewal({
    stateDir,
    clock: systemClock,
    log: silentLog,
    hqUrl: undefined,
    proxies: undefined,
    caFile: undefined,
    takeUp: async () => {
      const credential = await readCredential(stateDir);
      let inBand = false;
      if (credential !== undefined && credential.kid !== kid) {
        ({ kid } = credential);
        inBand = await store.swap(clientFor(credential, {}), credential.token);
      }
      return { kid, in_band: inBand, indicator: store.green ? 'green' : 'red' };
    },
    report: (report) => {
      store.tell(report);
    },
    certificate: () => null,
  });
  renewal.start();
  return store;
}
