/** Which machine and process speaks to HQ: tells a restart of the same daemon from a clone. */
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { queryMaybe, type Queryable } from '../db/transaction.ts';
import type { Instance } from '../protocol/messages.ts';

/** A new one at every call: `daemon` names this start of this process. */
export async function readInstance(db: Queryable): Promise<Instance> {
  const system = await queryMaybe<{ id: string }>(
    db,
    `select system_identifier::text as id from pg_catalog.pg_control_system()`,
  );
  return { boot: await bootId(), daemon: randomUUID(), pgSysid: system?.id ?? 'unknown' };
}

async function bootId(): Promise<string> {
  try {
    return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  } catch {
    return 'unknown'; // not Linux: the daemon's own id still tells two processes apart
  }
}
