/** What a database is: HQ or one store, as its one row in possync.identity says. */
import type { Role } from './migrations.ts';
import { queryMaybe, type Queryable } from './transaction.ts';

/** undefined = possync has never been set up here. */
export async function readRole(db: Queryable): Promise<Role | undefined> {
  const table = await queryMaybe<{ found: boolean }>(
    db,
    `select to_regclass('possync.identity') is not null as found`,
  );
  if (table?.found !== true) return undefined;
  return (await queryMaybe<{ role: Role }>(db, 'select role from possync.identity'))?.role;
}
