/**
 * Writes the statements for records that left this store: staged with no document.
 *
 *   delete                 link rows go
 *   deactivate, revoke     the row stays, inactive, and gives up its unique values: `anna` becomes `anna~0190…`
 *   delete-or-deactivate   goes unless any foreign key of this database points at it, local tables included
 *   transfer               goes if it was only announced; cancelled or received, it stays
 *   keep                   stays as it is
 *
 * A row that stays is listed in possync.kept, so that its removal happens once. Without giving up unique values a
 * store gets stuck for good: HQ renames a user it no longer hears of, a new user takes the old name, and no apply
 * ever passes the unique constraint again.
 */
import type { ColumnTypes } from '../../db/column-types.ts';
import { keyMatches, recordKey } from '../../db/record-key.ts';
import { ident, literal, publicTable } from '../../db/sql.ts';
import type { MirroredEntity } from './apply-sql.ts';

/** A foreign key of any table of this database to a mirrored one. */
export interface Reference {
  /** Schema-qualified and quoted. */
  readonly table: string;
  readonly columns: readonly string[];
  /** The columns of the mirrored table, in the same order. */
  readonly target: readonly string[];
}

function gone(type: string): string {
  return `s.entity = ${literal(type)} and s.doc is null`;
}

function notYetKept(): string {
  return 'not exists (select from possync.kept k where k.entity = s.entity and k.pk = s.pk)';
}

function remember({ type, root }: MirroredEntity, types: ColumnTypes): string {
  return `insert into possync.kept (entity, pk)
select s.entity, s.pk from possync.staging s
 where ${gone(type)} and ${notYetKept()}
   and exists (select from ${publicTable(root.table)} t where ${keyMatches('t', root.table, root.key, 's.pk', types)})`;
}

function deactivate(entity: MirroredEntity, types: ColumnTypes): string[] {
  const { type, root, down } = entity;
  const id = root.key.map((column) => `t.${ident(column)}::text`).join(` || '~' || `);
  const set = [
    `"active" = false`,
    ...down.unique.map((column) => `${ident(column)} = t.${ident(column)} || '~' || ${id}`),
    ...(down.removal === 'revoke' ? [`"pin_hash" = ''`] : []),
  ];
  return [
    `update ${publicTable(root.table)} t set ${set.join(', ')}
  from possync.staging s
 where ${gone(type)} and ${keyMatches('t', root.table, root.key, 's.pk', types)} and ${notYetKept()}`,
    remember(entity, types),
  ];
}

function deleteRows(entity: MirroredEntity, types: ColumnTypes, unless = 'true'): string[] {
  const { type, root } = entity;
  const table = publicTable(root.table);
  const doomed = `${keyMatches('t', root.table, root.key, 's.pk', types)} and ${unless}`;
  return [
    ...entity.children.map(
      (child) => `delete from ${publicTable(child.table)} c using possync.staging s
 where ${gone(type)} and ${keyMatches('c', child.table, child.parentKey, 's.pk', types)}
   and exists (select from ${table} t where ${doomed})`,
    ),
    `delete from ${table} t using possync.staging s where ${gone(type)} and ${doomed}`,
    // It was kept once, came back and left again before this store heard of it: now it is not kept any more.
    `delete from possync.kept k using possync.staging s
 where ${gone(type)} and k.entity = s.entity and k.pk = s.pk
   and not exists (select from ${table} t where ${keyMatches('t', root.table, root.key, 's.pk', types)})`,
  ];
}

/** A transfer somebody here has counted in is history of this store; so is one that was cancelled. */
function onlyAnnounced(receipts: MirroredEntity | undefined): string {
  const [reference] = receipts?.root.key ?? [];
  if (receipts === undefined || reference === undefined) return `t."status" <> 'cancelled'`;
  return `t."status" <> 'cancelled' and not exists (
     select from ${publicTable(receipts.root.table)} r where r.${ident(reference)} = t."id")`;
}

/** True where nothing points at row `t`; a row that points at itself does not count. */
export function unreferenced(entity: MirroredEntity, references: readonly Reference[]): string {
  const own = publicTable(entity.root.table);
  const conditions = references.map(({ table, columns, target }) => {
    const points = columns.map((column, i) => `x.${ident(column)} = t.${ident(target[i] ?? column)}`);
    const itself =
      table === own
        ? [
            `not (${entity.root.key.map((column) => `x.${ident(column)} = t.${ident(column)}`).join(' and ')})`,
          ]
        : [];
    return `not exists (select from ${table} x where ${[...points, ...itself].join(' and ')})`;
  });
  return conditions.length === 0 ? 'true' : conditions.join(' and ');
}

export interface RemovalPlan {
  /** Repeated while they remove anything: a parent goes only after its children. */
  readonly repeat: readonly string[];
  /** Then once. */
  readonly once: readonly string[];
}

/** What to run for the removed records of one type. */
export function removalPlan(
  entity: MirroredEntity,
  types: ColumnTypes,
  references: readonly Reference[],
  receipts: MirroredEntity | undefined,
): RemovalPlan {
  switch (entity.down.removal) {
    case 'delete':
      return { repeat: [], once: deleteRows(entity, types) };
    case 'deactivate':
    case 'revoke':
      return { repeat: [], once: deactivate(entity, types) };
    case 'delete-or-deactivate':
      return {
        repeat: deleteRows(entity, types, unreferenced(entity, references)),
        once: deactivate(entity, types),
      };
    case 'transfer':
      return {
        repeat: [],
        once: [...deleteRows(entity, types, onlyAnnounced(receipts)), remember(entity, types)],
      };
    case 'keep':
      return { repeat: [], once: [remember(entity, types)] };
  }
}

/** Rows `r` of a relay table that the other party wrote; a store's own are never swept. */
function otherParty(entity: MirroredEntity, transfers: MirroredEntity | undefined): string {
  if (entity.direction !== 'relay') return 'true';
  const me = '(select m.store_id from possync.state m)';
  if (entity.up.storeColumn !== null) return `r.${ident(entity.up.storeColumn)} is distinct from ${me}`;
  const [reference] = entity.root.key;
  const [id] = transfers?.root.key ?? [];
  if (transfers?.direction !== 'relay' || reference === undefined || id === undefined) return 'false';
  return `exists (select from ${publicTable(transfers.root.table)} x
                   where x.${ident(id)} = r.${ident(reference)} and x.${ident(transfers.up.storeColumn ?? id)} = ${me})`;
}

/** After everything was pulled again: what is here and was not sent is removed like anything else that left. */
export function sweepStatement(entity: MirroredEntity, transfers: MirroredEntity | undefined): string {
  const { type, root } = entity;
  return `insert into possync.staging (entity, pk, pos, doc)
select ${literal(type)}, k.pk, 0, null
  from ${publicTable(root.table)} r cross join lateral (select ${recordKey('r', root.key)} as pk) k
 where ${otherParty(entity, transfers)}
   and not exists (select from possync.staging s where s.entity = ${literal(type)} and s.pk = k.pk)
   and not exists (select from possync.kept e where e.entity = ${literal(type)} and e.pk = k.pk)`;
}
