/**
 * Database roles and the question every trigger asks: is this session applying what the other side wrote?
 *
 *   possync_owner  schema and migrations        possync_apply  may set possync.applying and be believed
 *   possync_hq     `possync hq serve`   ─┐
 *   possync_store  `possync store daemon` ┴─▶ members of possync_apply
 *   possync_pos    the tills: write what a store owns, read the rest
 *
 * None of them can log in; an operator grants them to logins. Where the installing user may not create roles,
 * everything works with one user, the owner of the schema possync, in place of possync_apply.
 */
import { PossyncError } from '../core/errors.ts';
import { sqlstateOf } from '../core/classify.ts';
import type { Entity } from '../protocol/entities.ts';
import { tablesOf } from '../protocol/entities.ts';
import type { Role } from './migrations.ts';
import { dollarQuoted, publicTable } from './sql.ts';
import type { Queryable } from './transaction.ts';

/** Roles belong to the cluster, advisory locks to one database: only a lock on the shared catalogue holds for all. */
const CREATE_ROLES = `
declare
  wanted text;
begin
  begin
    lock table pg_catalog.pg_authid in share row exclusive mode;
  exception when insufficient_privilege then
    null; -- not a superuser: two installers at once meet as a duplicate, and the caller tries again
  end;
  begin
    foreach wanted in array array['possync_owner', 'possync_hq', 'possync_store', 'possync_pos', 'possync_apply'] loop
      if not exists (select from pg_catalog.pg_roles where rolname = wanted) then
        execute format('create role %I nologin', wanted);
      end if;
    end loop;
    foreach wanted in array array['possync_hq', 'possync_store'] loop
      if not pg_catalog.pg_has_role(wanted, 'possync_apply', 'member') then
        execute format('grant possync_apply to %I', wanted);
      end if;
    end loop;
    -- A plain user who installs is most likely the one the daemon logs in as; the schema's own role never applies.
    if session_user <> 'possync_owner' and not pg_catalog.pg_has_role(session_user, 'possync_apply', 'member') then
      execute format('grant possync_apply to %I', session_user);
    end if;
  exception when insufficient_privilege then
    raise debug 'possync: no right to create roles; the owner of the schema applies';
  end;
end`;

/** Two installers that may not lock the catalogue: duplicate role, duplicate membership, tuple updated meanwhile. */
const MET_ANOTHER_INSTALLER = ['42710', '23505', 'XX000'];
const ATTEMPTS = 10;

const IS_APPLY = (believed: string): string => `
create or replace function possync.is_apply() returns boolean language plpgsql stable as ${dollarQuoted(`
begin
  -- The setting alone proves nothing: any session may set it, and its sales would never be captured.
  if pg_catalog.current_setting('possync.applying', true) is distinct from 'on' then return false; end if;
  return ${believed};
end`)}`;

const BY_ROLE = `coalesce((select pg_catalog.pg_has_role(session_user, a.oid, 'member')
                     from pg_catalog.pg_roles a where a.rolname = 'possync_apply'), false)`;

const BY_OWNER = `coalesce((select o.rolname = session_user
                     from pg_catalog.pg_namespace n join pg_catalog.pg_roles o on o.oid = n.nspowner
                    where n.nspname = 'possync'), false)`;

/** Creates the roles if that is allowed, and possync.is_apply() to fit. */
export async function installRoles(db: Queryable): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await db.query(`do ${dollarQuoted(CREATE_ROLES)}`);
      break;
    } catch (error) {
      const met = MET_ANOTHER_INSTALLER.includes(sqlstateOf(error) ?? '');
      if (!met || attempt === ATTEMPTS) throw error;
    }
  }
  await db.query(IS_APPLY((await rolesAreUsable(db)) ? BY_ROLE : BY_OWNER));
}

/** Whether is_apply() goes by role: somebody here can be a member. */
async function rolesAreUsable(db: Queryable): Promise<boolean> {
  const { rows } = await db.query<{ usable: boolean }>(
    `select coalesce((select session_user = 'possync_owner'
                             or pg_catalog.pg_has_role(session_user, a.oid, 'member')
                        from pg_catalog.pg_roles a where a.rolname = 'possync_apply'), false) as usable`,
  );
  const row = rows[0];
  if (row === undefined) throw new PossyncError('PS-INTERNAL', 'PostgreSQL did not say whether roles exist');
  return row.usable;
}

/**
 * Rights of the roles. Tills read what HQ owns and write what the store owns; the programs of possync reach
 * everything of possync, and the synced tables. Does nothing where the roles do not exist.
 */
export async function installGrants(db: Queryable, role: Role, entities: readonly Entity[]): Promise<void> {
  if (!(await rolesAreUsable(db))) return;
  const program = role === 'hq' ? 'possync_hq' : 'possync_store';
  const hqOwned = entities.filter((entity) => entity.direction === 'down').flatMap(tableNames);
  const storeOwned = entities.filter((entity) => entity.direction !== 'down').flatMap(tableNames);
  const synced = [...hqOwned, ...storeOwned].join(', ');
  const grants = [
    `grant usage on schema possync to possync_owner, ${program}, possync_pos`,
    `grant select, insert, update, delete, truncate on all tables in schema possync to ${program}`,
    `grant usage, select on all sequences in schema possync to ${program}`,
    ...(synced === '' ? [] : [`grant select, insert, update, delete on ${synced} to ${program}`]),
  ];
  if (role === 'store') {
    if (hqOwned.length > 0) grants.push(`grant select on ${hqOwned.join(', ')} to possync_pos`);
    if (storeOwned.length > 0)
      grants.push(`grant select, insert, update, delete on ${storeOwned.join(', ')} to possync_pos`);
  }
  await db.query(grants.join(';\n'));
  if (role === 'hq') await letServerMakePartitions(db);
}

/**
 * Only the owner of a table may add a partition, and reading the rows that met the default one needs a right on that
 * partition itself. Without both, a server that is no superuser never makes a month, and all of them land in there.
 */
async function letServerMakePartitions(db: Queryable): Promise<void> {
  const { rows } = await db.query<{ grants: string }>(
    `select format('grant select on public.%I to possync_hq', m.default_name) as grants from possync.monthly_tables m`,
  );
  const statements = [
    'alter function possync.ensure_month(text, date) security definer',
    'revoke execute on function possync.ensure_month(text, date) from public',
    'grant execute on function possync.ensure_month(text, date) to possync_hq',
    ...rows.map((row) => row.grants),
  ];
  await db.query(statements.join(';\n'));
}

function tableNames(entity: Entity): string[] {
  return tablesOf(entity).map((spec) => publicTable(spec.table));
}
