/**
 * Everything in the database that is made from the entity table, put in place again after each migration: roles
 * and is_apply() first (the triggers below ask it), then capture for both directions, then guards, then rights.
 *
 * Runs under migrate()'s lock; repeatable, and brings back triggers that somebody has dropped or disabled. Works with
 * what the database says syncs here.
 */
import { installDownCapture } from './capture-down.ts';
import { installUpCapture } from './capture-up.ts';
import { readColumnTypes } from './column-types.ts';
import { installGuards } from './guards.ts';
import type { Role } from './migrations.ts';
import { readEntities } from './own-types.ts';
import { installReceived } from './received.ts';
import { installGrants, installRoles } from './roles.ts';
import { sealFunction } from './seal-function.ts';
import type { Queryable } from './transaction.ts';

export async function installTriggers(db: Queryable, role: Role): Promise<void> {
  const entities = await readEntities(db);
  const types = await readColumnTypes(db, entities);
  await installRoles(db);
  if (role === 'hq') {
    await installDownCapture(db, entities);
    await db.query(sealFunction(entities, types));
    await installReceived(db, entities);
  }
  await installUpCapture(db, role, entities);
  await installGuards(db, role, entities);
  await installGrants(db, role, entities);
}
