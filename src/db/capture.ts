/**
 * Everything in the database that is made from the entity table, put in place again after each migration: roles
 * and is_apply() first (the triggers below ask it), then capture for both directions, then guards, then rights.
 *
 * Runs under migrate()'s lock; repeatable, and brings back triggers that somebody has dropped or disabled.
 */
import { ENTITIES, type Entity } from '../protocol/entities.ts';
import { installUpCapture } from './capture-up.ts';
import type { Role } from './migrations.ts';
import { installGrants, installRoles } from './roles.ts';
import type { Queryable } from './transaction.ts';

export async function installTriggers(
  db: Queryable,
  role: Role,
  entities: readonly Entity[] = ENTITIES,
): Promise<void> {
  await installRoles(db);
  await installUpCapture(db, role, entities);
  await installGrants(db, role, entities);
}
