/**
 * The part of possync.apply_batch that repairs: rows of a record for which a repair is open replace HQ's, whatever the
 * type allows otherwise, because HQ's differ from what their owner has and nobody but the owner writes them.
 *
 * What HQ had goes to possync.repaired_rows in the same transaction. A state never moves backwards: where HQ is
 * further than the store, its row stays, and the usual way notes the finding. Nothing is deleted.
 */
import type { ChildSpec, TableSpec } from '../protocol/entities.ts';
import type { StoreEntity } from './capture-up-rows.ts';
import { recordKey } from './record-key.ts';
import { columnsOf, ident, literal, publicTable } from './sql.ts';

/** A repair that nothing answered within this time is over: a store that returns later compares itself again. */
const OPEN_FOR = `interval '7 days'`;

export const REPAIR_DECLARED = `  v_repairing boolean; v_repaired bigint[] := '{}'; v_seen bigint[];`;

/** One look at an index that is empty but for minutes; every other batch pays no more than that. */
export const REPAIR_BEGIN = `  v_repairing := exists (select from possync.repairs p where p.store_id = p_store and p.state = 'open');`;

export const REPAIR_END = `  if v_repairing then
    update possync.repairs p set state = 'done', done_at = clock_timestamp() where p.id = any (v_repaired);
  end if;`;

export interface RepairBlock {
  readonly entity: StoreEntity;
  readonly table: TableSpec;
  readonly child: ChildSpec | undefined;
  readonly target: string;
  readonly source: string;
  readonly columns: readonly string[];
  /** `r` is an incoming row, `s` the stored one. */
  readonly differ: string;
  readonly assignments: string;
  readonly rank: (alias: string) => string;
}

export function repairBlock(block: RepairBlock): string {
  const { entity, table, child, target, source, differ, assignments, rank } = block;
  const key = columnsOf('r', table.key);
  const states = child === undefined && ['states', 'transfer'].includes(entity.up.change.kind);
  const forward = states ? ` and ${rank('r')} >= ${rank('s')}` : '';
  const found = `incoming r join ${target} s on ${sameOwned(block)}
            where ${differ}${forward}`;
  // A record is repaired when its last part has come: its children are in the same entry, behind the root.
  const last = entity.children.length === 0 || child !== undefined;
  return `      if v_repairing then
        with incoming as materialized (
          select distinct on (${key}) p.id as possync_repair, r.*
            from ${source} r
            join possync.repairs p on p.store_id = p_store and p.state = 'open' and p.type = ${literal(entity.type)}
                 and p.at > now() - ${OPEN_FOR} and p.key = ${recordKey('r', child?.parentKey ?? table.key)}
           order by ${key}, r.possync_seq desc),
        replaced as (
          insert into possync.repaired_rows (repair, tbl, before)
          select r.possync_repair, ${literal(table.table)}, to_jsonb(s) from ${found}),
        written as (
          update ${target} s set ${assignments}
            from incoming r where ${sameOwned(block)} and ${differ}${forward})
        select array_agg(r.possync_repair) into v_seen from incoming r;
${childDates(block)}${last ? '        v_repaired := v_repaired || v_seen;' : ''}
      end if;`;
}

/** The children of a header whose date the repair has changed follow it: the date is in their keys. */
function childDates({ entity, child, source, target }: RepairBlock): string {
  const date = entity.up.partitionColumn;
  const [key] = entity.root.key;
  if (date === null || child !== undefined || key === undefined) return '';
  return entity.children
    .map(
      ({ table, parentKey }) => `        update ${publicTable(table)} c set ${ident(date)} = s.${ident(date)}
          from ${target} s join ${source} r on r.${ident(key)} = s.${ident(key)}
         where s.store_id = p_store and c.store_id = p_store and c.${ident(parentKey[0] ?? 'id')} = s.${ident(key)}
           and c.${ident(date)} <> s.${ident(date)};
`,
    )
    .join('');
}

/** The same row, and this store's at both ends: a repair reaches nothing that the store does not own. */
function sameOwned({ entity, table, child, columns }: RepairBlock): string {
  const same = table.key.map((column) => `s.${ident(column)} = r.${ident(column)}`);
  const { root, up } = entity;
  const owner = ident(up.storeColumn ?? 'store_id');
  if (child !== undefined && entity.direction === 'relay') {
    const toRoot = root.key.map(
      (column, i) => `h.${ident(column)} = s.${ident(child.parentKey[i] ?? column)}`,
    );
    same.push(
      `exists (select from ${publicTable(root.table)} h where ${toRoot.join(' and ')} and h.${owner} = p_store)`,
    );
  } else {
    same.push(child === undefined ? `s.${owner} = p_store` : 's.store_id = p_store');
  }
  if (child === undefined && up.storeColumn !== null && columns.includes(up.storeColumn))
    same.push(`r.${owner} = p_store`);
  return same.join(' and ');
}
