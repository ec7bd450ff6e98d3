/** The part of possync.apply_batch that takes one table: made per table from its entity and the way it may change. */
import type { ChildSpec, TableSpec } from '../protocol/entities.ts';
import type { ColumnTypes } from './apply-up.ts';
import { repairBlock } from './apply-up-repair.ts';
import { keyText, transferOf, type StoreEntity, type TransferTable } from './capture-up-rows.ts';
import { columnsOf, ident, literal, publicTable } from './sql.ts';

/** What the block of a table needs to know; `r` is always an incoming row, `s` the stored one. */
interface Block {
  readonly entity: StoreEntity;
  readonly table: TableSpec;
  readonly target: string;
  /** The incoming rows with the seq of their transaction. */
  readonly source: string;
  readonly columns: readonly string[];
  /** `s` and `r` are the same row. */
  readonly same: string;
}

export function applyBlock(
  entity: StoreEntity,
  table: TableSpec,
  up: readonly StoreEntity[],
  types: ColumnTypes,
): string {
  const block = blockOf(entity, table, types);
  const child = childOf(entity, table);
  const { columns } = block;
  const { change } = entity.up;
  const repair = repairBlock({
    ...block,
    child,
    differ: differ(columns),
    assignments: assignments(columns, table),
    rank: (alias) =>
      change.kind === 'states'
        ? rankOf(`${alias}.${ident(change.column)}`, change.order)
        : transferRank(alias),
  });
  return `${repair}
${takeBlock(block, child, up)}`;
}

function childOf(entity: StoreEntity, table: TableSpec): ChildSpec | undefined {
  return entity.children.find((candidate) => candidate.table === table.table);
}

function blockOf(entity: StoreEntity, table: TableSpec, types: ColumnTypes): Block {
  const columns = [...table.columns, ...(table.stamped ? ['updated_at'] : [])];
  const definition = columns
    .map((column) => `${ident(column)} ${types.get(column)?.type ?? 'text'}`)
    .join(', ');
  // The null of JSON is a value, but comes out of a record as none: where there must be one, it was that.
  const values = columns.map((column) => {
    const { type, required } = types.get(column) ?? { type: 'text', required: false };
    const name = ident(column);
    return required && /^jsonb?$/.test(type) ? `coalesce(x.${name}, 'null') as ${name}` : `x.${name}`;
  });
  const relay = entity.direction === 'relay';
  const ownKey = table.key.map((column) => `s.${ident(column)} = r.${ident(column)}`);
  const date = entity.up.partitionColumn;
  return {
    entity,
    table,
    columns,
    target: publicTable(table.table),
    source: `(select p.seq as possync_seq, ${values.join(', ')} from unnest(part.seqs, part.rows) as p(seq, rows)
                cross join lateral json_to_recordset(p.rows) as x(${definition}))`,
    same: [
      ...(relay ? [] : ['s.store_id = p_store']),
      ...(date === null ? [] : [`s.${ident(date)} = r.${ident(date)}`]),
      ...ownKey,
    ].join(' and '),
  };
}

function takeBlock(base: Block, child: ChildSpec | undefined, up: readonly StoreEntity[]): string {
  const { entity } = base;
  if (child !== undefined) {
    switch (entity.up.change.kind) {
      case 'transfer':
        return transferLines(base, child);
      case 'receipt':
        return receiptLines(base, child);
      default:
        return plainChild(base, child);
    }
  }
  switch (entity.up.change.kind) {
    case 'transfer':
      return transfers(base);
    case 'receipt':
      return receipts(base, transferOf(up));
    default:
      return plainRoot(base);
  }
}

function plainRoot(block: Block): string {
  const { entity, source, columns, target } = block;
  const { storeColumn, change } = entity.up;
  const store = storeColumn === null ? 'p_store' : `r.${ident(storeColumn)}`;
  const rank = change.kind === 'states' ? rankOf(`r.${ident(change.column)}`, change.order) : '0';
  return `      with incoming as materialized (select r.* from ${source} r),
      fresh as (
        insert into ${target} (${names(columns)})
        select ${columnsOf('r', columns)} from incoming r order by r.possync_seq
        on conflict do nothing returning 1)
      select count(*) as n, (select count(*) from fresh) as fresh,
             bool_or(${store} is distinct from p_store) as foreign_store, bool_or(${rank} is null) as odd_state
        into v from incoming r;
      if v.foreign_store then ${raise('PS403', `${entity.root.table} of another store`)} end if;
      if v.odd_state then ${raise('PS411', `unknown state of a ${entity.title}`)} end if;
${rememberHeaders(block)}
${refuseRedated(block)}
      if v.fresh < v.n then
${existing(block)}
      end if;`;
}

/** Only a row that is new can be there under another date as well. */
function refuseRedated({ entity, table, source }: Block): string {
  const date = entity.up.partitionColumn;
  if (date === null || table.key.length > 1) return '';
  return `      if v.fresh > 0 then
        perform possync.refuse_redated(p_store, array_agg(${literal(table.table)}::text),
                  array_agg(${keyText('r', table.key)}), array_agg(r.${ident(date)}::text)) from ${source} r;
      end if;`;
}

/** Keys (and dates) of the headers in this batch, for their children; one per key, or lines would double. */
function rememberHeaders({ entity, source }: Block): string {
  if (entity.children.length === 0) return '';
  const [key] = entity.root.key;
  const date = entity.up.partitionColumn;
  return `      select array_agg(h.k), array_agg(h.d) into ${ident(`keys_${entity.root.table}`)}, ${ident(`dates_${entity.root.table}`)}
        from (select distinct on (r.${ident(key ?? 'id')}) r.${ident(key ?? 'id')} as k,
                     ${date === null ? 'null::date' : `r.${ident(date)}`} as d
                from ${source} r order by r.${ident(key ?? 'id')}, r.possync_seq) h;`;
}

/** Some rows were there before (sent again, or changed). */
function existing(block: Block): string {
  const { entity, table, columns, source, target, same } = block;
  const { change } = entity.up;
  const key = columnsOf('r', table.key);
  switch (change.kind) {
    case 'replace':
      return `        update ${target} s set ${assignments(columns, table)}
          from (select distinct on (${key}) r.* from ${source} r order by ${key}, r.possync_seq desc) r
         where ${same} and ${differ(columns)};`;
    case 'states': {
      const rank = (alias: string): string => rankOf(`${alias}.${ident(change.column)}`, change.order);
      const moved = change.mutable ?? columns;
      const frozen = change.mutable === null ? [] : table.columns.filter((c) => !moved.includes(c));
      const forward =
        change.mutable === null
          ? `(${rank('r')} > ${rank('s')} or (${rank('r')} = ${rank('s')} and ${differ(columns)}))`
          : `${rank('r')} > ${rank('s')}`;
      return `${olderStates(block, rank, change.order)}
        update ${target} s set ${assignments(moved, table)}
          from (select distinct on (${key}) r.* from ${source} r order by ${key}, ${rank('r')} desc, r.possync_seq desc) r
         where ${same} and ${forward};
${caughtUp(block, rank)}
${
  frozen.length === 0
    ? ''
    : otherContent(block, `${differ(frozen)} or (${rank('r')} = ${rank('s')} and ${differ(table.columns)})`)
}`;
    }
    default:
      return otherContent(block, differ(table.columns));
  }
}

/** An older state that comes late (a restored store): nothing changes, and it is kept as a finding. */
function olderStates(block: Block, rank: (alias: string) => string, order: readonly string[]): string {
  const { entity, table, source, target, same } = block;
  const column = entity.up.change.kind === 'states' ? entity.up.change.column : 'status';
  return `        perform possync.note_finding(p_store, 'older_state', ${literal(entity.type)}, ${keyText('r', table.key)},
                  jsonb_build_object('state', r.${ident(column)}, 'seq', r.possync_seq, 'order', ${literal(order.join(' '))},
                    'text', format('%s %s came as %s in entry %s, and HQ has it as %s', ${literal(entity.type)},
                      ${keyText('r', table.key)}, r.${ident(column)}, r.possync_seq, s.${ident(column)})))
           from (select r.*, max(${rank('r')}) over (partition by ${columnsOf('r', table.key)} order by r.possync_seq
                               rows between unbounded preceding and 1 preceding) as possync_before
                   from ${source} r) r
           join ${target} s on ${same}
          where ${rank('r')} < greatest(r.possync_before, ${rank('s')});`;
}

/** The last that came of a record is as new as what HQ has: the store has caught up with itself. */
function caughtUp(block: Block, rank: (alias: string) => string): string {
  const { entity, table, source, target, same } = block;
  const key = columnsOf('r', table.key);
  return `        if exists (select from possync.findings f
                    where f.store_id = p_store and f.kind = 'older_state' and f.closed_at is null) then
          update possync.findings f set closed_at = now()
            from (select distinct on (${key}) r.* from ${source} r order by ${key}, r.possync_seq desc) r
            join ${target} s on ${same}
           where f.store_id = p_store and f.kind = 'older_state' and f.type = ${literal(entity.type)}
             and f.closed_at is null and f.key = ${keyText('r', table.key)} and ${rank('r')} >= ${rank('s')};
        end if;`;
}

function otherContent({ entity, table, source, target, same }: Block, condition: string): string {
  return `        select ${keyText('r', table.key)} as key into v from ${source} r join ${target} s on ${same}
          where ${condition} limit 1;
        if found then ${raise('PS410', `${entity.title}: ${table.table} is there with other content`, 'v.key')} end if;`;
}

/** Children take store and partition from their header: in this batch, else HQ's. */
function plainChild(block: Block, child: ChildSpec): string {
  const { entity, table, columns, source, target } = block;
  const root = entity.root;
  const key = ident(root.key[0] ?? 'id');
  const parent = `r.${ident(child.parentKey[0] ?? 'id')}`;
  const date = entity.up.partitionColumn;
  const header = `select ${parent} as possync_parent, coalesce(h.k is not null, false) or f.found is not null as possync_found,
               coalesce(h.d, f.d) as possync_date`;
  const extra = ['store_id', ...(date === null ? [] : [date])];
  const values = ['p_store', ...(date === null ? [] : ['r.possync_date'])];
  // The sub-select is a one-time filter where the header is in the batch: no look-up in every partition.
  return `      with incoming as materialized (
        ${header}, r.*
          from ${source} r
          left join unnest(${ident(`keys_${root.table}`)}, ${ident(`dates_${root.table}`)}) as h(k, d) on h.k = ${parent}
          left join lateral (select true as found, ${date === null ? 'null::date' : `t.${ident(date)}`} as d
                               from ${publicTable(root.table)} t
                              where h.k is null and t.store_id = p_store and t.${key} = ${parent} limit 1) f on true),
      fresh as (
        insert into ${target} (${names([...extra, ...columns])})
        select ${values.join(', ')}, ${columnsOf('r', columns)} from incoming r where r.possync_found order by r.possync_seq
        on conflict do nothing returning 1)
      select count(*) as n, (select count(*) from fresh) as fresh,
             min(r.possync_parent::text) filter (where not r.possync_found) as orphan
        into v from incoming r;
      if v.orphan is not null then ${raise('PS409', `${table.table} without its ${entity.title}`, 'v.orphan')} end if;
      if v.fresh < v.n then
${otherContent({ ...block, same: `s.store_id = p_store and ${block.table.key.map((c) => `s.${ident(c)} = r.${ident(c)}`).join(' and ')}` }, differ(table.columns))}
      end if;`;
}

/**
 * Transfers: pending, then in_transit or cancelled, which are final. Drafts never travel. The first final state wins;
 * the same again is a no-op, an older state a finding, anything else illegal.
 */
function transfers(block: Block): string {
  const { entity, table, source, target, columns, same } = block;
  const from = ident(entity.up.storeColumn ?? 'from_store_id');
  const rank = transferRank;
  const key = columnsOf('r', table.key);
  const id = ident(table.key[0] ?? 'id');
  return `      with incoming as materialized (select r.* from ${source} r),
      fresh as (
        insert into ${target} (${names(columns)})
        select ${columnsOf('r', columns)} from incoming r order by r.possync_seq
        on conflict do nothing returning ${id} as id),
      first_seen as (
        select f.id, min(i.possync_seq) as seq from fresh f join incoming i on i.${id} = f.id group by f.id)
      select count(*) as n, (select count(*) from fresh) as fresh,
             bool_or(r.${from} is distinct from p_store) as foreign_store, bool_or(${rank('r')} is null) as odd_state,
             (select array_agg(x.id order by x.id) from first_seen x) as new_ids,
             (select array_agg(x.seq order by x.id) from first_seen x) as new_seqs
        into v from incoming r;
      ${ident(`keys_${table.table}`)} := v.new_ids; ${ident(`seqs_${table.table}`)} := v.new_seqs;
      if v.foreign_store then ${raise('PS403', 'a transfer of another store')} end if;
      if v.odd_state then ${raise('PS411', 'a transfer that travels is pending, in transit or cancelled')} end if;
      if v.fresh < v.n then
        if exists (select from ${source} r join ${target} s on ${same} where s.${from} <> p_store) then
          ${raise('PS403', 'the transfer belongs to another store')}
        end if;
${olderStates(block, rank, ['pending', 'in_transit|cancelled'])}
        update ${target} s set ${assignments(columns, table)}
          from (select distinct on (${key}) r.* from ${source} r
                 order by ${key}, ${rank('r')} desc, case when ${rank('r')} = 2 then r.possync_seq end, r.possync_seq desc) r
         where ${same} and s.status = 'pending' and ${differ(columns)};
${caughtUp(block, rank)}
        select ${keyText('r', table.key)} as key into v from ${source} r join ${target} s on ${same}
         where ${rank('r')} = 2 and ${differ(table.columns)} limit 1;
        if found then ${raise('PS411', 'the transfer is final: shipped or cancelled', 'v.key')} end if;
      end if;`;
}

/** Lines come with the header in one transaction, or are the same again. */
function transferLines(block: Block, child: ChildSpec): string {
  const { entity, table, source, target, columns, same } = block;
  const root = entity.root;
  const parent = ident(child.parentKey[0] ?? 'transfer_id');
  const from = ident(entity.up.storeColumn ?? 'from_store_id');
  return `      with incoming as materialized (
        select t.${from} as possync_owner, r.*
          from ${source} r left join ${publicTable(root.table)} t on t.${ident(root.key[0] ?? 'id')} = r.${parent}),
      fresh as (
        insert into ${target} (${names(columns)})
        select ${columnsOf('r', columns)} from incoming r where r.possync_owner is not null order by r.possync_seq
        on conflict do nothing returning ${names(table.key)})
      select count(*) as n, (select count(*) from fresh) as fresh,
             min(r.${parent}::text) filter (where r.possync_owner is null) as orphan,
             bool_or(r.possync_owner is distinct from p_store) as foreign_store,
             (select min(s.${parent}::text) from fresh s
                where not exists (select from incoming r
                        join unnest(${ident(`keys_${root.table}`)}, ${ident(`seqs_${root.table}`)}) as h(id, seq)
                          on h.id = r.${parent} and h.seq = r.possync_seq
                       where ${same})) as late
        into v from incoming r;
      if v.orphan is not null then ${raise('PS409', `${table.table} without its ${entity.title}`, 'v.orphan')} end if;
      if v.foreign_store then ${raise('PS403', 'lines of another store’s transfer')} end if;
      if v.late is not null then ${raise('PS410', 'the lines of a transfer do not change', 'v.late')} end if;
      if v.fresh < v.n then
${otherContent(block, differ(table.columns))}
      end if;`;
}

/** Receipts: only by the destination, only once the transfer is in transit; before that they wait (PS409). */
function receipts(block: Block, transfer: TransferTable): string {
  const { entity, table, source, target, columns, same } = block;
  const key = ident(table.key[0] ?? 'transfer_id');
  return `      with incoming as materialized (
        select t.status as possync_status, t.${ident(transfer.to)} as possync_to, r.*
          from ${source} r left join ${publicTable(transfer.table)} t on t.${ident(transfer.key)} = r.${key}),
      fresh as (
        insert into ${target} (${names(['store_id', ...columns])})
        select p_store, ${columnsOf('r', columns)} from incoming r where r.possync_status = 'in_transit' order by r.possync_seq
        on conflict do nothing returning 1)
      select count(*) as n, (select count(*) from fresh) as fresh,
             bool_or(r.possync_to <> p_store) as foreign_store, bool_or(r.possync_status = 'cancelled') as cancelled,
             min(r.${key}::text) filter (where coalesce(r.possync_status, 'pending') = 'pending') as early
        into v from incoming r;
      if v.foreign_store then ${raise('PS403', 'a receipt by a store that the transfer does not go to')} end if;
      if v.cancelled then ${raise('PS411', 'a receipt of a cancelled transfer')} end if;
      if v.early is not null then ${raise('PS409', 'a receipt before its transfer is in transit', 'v.early')} end if;
${rememberHeaders({ ...block, entity })}
      if v.fresh < v.n then
${otherContent({ ...block, same }, `s.store_id <> p_store or ${differ(table.columns)}`)}
      end if;`;
}

function receiptLines(block: Block, child: ChildSpec): string {
  const { entity, table, source, target, columns } = block;
  const parent = ident(child.parentKey[0] ?? 'transfer_id');
  return `      with incoming as materialized (
        select h.store_id as possync_owner, r.*
          from ${source} r left join ${publicTable(entity.root.table)} h on h.${ident(entity.root.key[0] ?? 'transfer_id')} = r.${parent}),
      fresh as (
        insert into ${target} (${names(columns)})
        select ${columnsOf('r', columns)} from incoming r where r.possync_owner is not null order by r.possync_seq
        on conflict do nothing returning 1)
      select count(*) as n, (select count(*) from fresh) as fresh,
             min(r.${parent}::text) filter (where r.possync_owner is null) as orphan,
             bool_or(r.possync_owner <> p_store) as foreign_store
        into v from incoming r;
      if v.orphan is not null then ${raise('PS409', `${table.table} without its ${entity.title}`, 'v.orphan')} end if;
      if v.foreign_store then ${raise('PS403', 'lines of another store’s receipt')} end if;
      if v.fresh < v.n then
${otherContent(block, differ(table.columns))}
      end if;`;
}

function raise(code: string, message: string, detail?: string): string {
  return `raise exception using errcode = ${literal(code)}, message = ${literal(message)}${
    detail === undefined ? '' : `, detail = ${detail}`
  };`;
}

function names(columns: readonly string[]): string {
  return columns.map(ident).join(', ');
}

/** Keys are never assigned: an index entry per row would be written for nothing. */
function assignments(columns: readonly string[], table: TableSpec): string {
  return columns
    .filter((column) => !table.key.includes(column))
    .map((column) => `${ident(column)} = r.${ident(column)}`)
    .join(', ');
}

function differ(columns: readonly string[]): string {
  const compared = columns.filter((column) => column !== 'updated_at');
  return `(${columnsOf('r', compared)}) is distinct from (${columnsOf('s', compared)})`;
}

function transferRank(alias: string): string {
  return `(case ${alias}.status when 'pending' then 1 when 'in_transit' then 2 when 'cancelled' then 2 end)`;
}

function rankOf(expression: string, order: readonly string[]): string {
  return `array_position(array[${order.map(literal).join(', ')}]::text[], ${expression})`;
}
