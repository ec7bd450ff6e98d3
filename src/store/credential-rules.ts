/** Which credential a daemon may not use: one of another store, and one that would cross a network in the clear. */
import type pg from 'pg';
import { PossyncError } from '../core/errors.ts';
import { isUnencrypted } from '../core/loopback.ts';
import type { StoreCredential } from './credential.ts';
import { readStoreIdentity } from './outbox/identity.ts';

/** Throws PS-TOKEN-STORE. */
export async function refuseForeign(pool: pg.Pool, { storeId, code }: StoreCredential): Promise<void> {
  const bound = await readStoreIdentity(pool);
  if (bound?.id !== storeId)
    throw new PossyncError('PS-TOKEN-STORE', `the credential is of store ${code}`, {
      why:
        bound === undefined ? 'this database is bound to no store' : `this database is that of ${bound.code}`,
    });
}

/** Throws PS-CFG-PLAINTEXT unless the credential, or who started the daemon, allows it. */
export function refusePlaintext(url: string, { allowPlaintext }: StoreCredential, allowed: boolean): void {
  if (!isUnencrypted(url) || allowPlaintext === true || allowed) return;
  throw new PossyncError('PS-CFG-PLAINTEXT', `HQ's address ${url} is not encrypted`, {
    why: 'the credential and every sale would cross the network in the clear',
  });
}
