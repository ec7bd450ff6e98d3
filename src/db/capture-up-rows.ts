/** SQL that turns rows of a synced table into lines of possync.raw: used by the triggers and by `store reexport`. */
import type { RelayEntity, TableSpec, UpEntity } from '../protocol/entities.ts';
import { layoutOf, rowColumns } from '../protocol/row-text.ts';
import { dollarQuoted, columnsOf, ident, literal, publicTable } from './sql.ts';

export type StoreEntity = UpEntity | RelayEntity;

/** A key as text: the column itself, or a JSON array where there are several. */
export function keyText(alias: string, columns: readonly string[]): string {
  const [first] = columns;
  if (columns.length === 1 && first !== undefined) return `${alias}.${ident(first)}::text`;
  return `json_build_array(${columns.map((column) => `${alias}.${ident(column)}::text`).join(', ')})::text`;
}

/** The columns that hold the root's key in a row of this table. */
export function rootKey(entity: StoreEntity, table: TableSpec): readonly string[] {
  return entity.children.find((child) => child.table === table.table)?.parentKey ?? entity.root.key;
}

/** Pushed at once? A predicate over the root row decides for the whole transaction; children add nothing to it. */
function highExpression(entity: StoreEntity, table: TableSpec): string {
  const { priority } = entity.up;
  if (priority === 'high') return 'true';
  if (priority === 'normal' || table !== entity.root) return 'false';
  return `coalesce(${priority.highWhen}, false)`;
}

/** As the heads of sections have it. */
function layoutName(table: TableSpec): string {
  return `${layoutOf(table).id} ${table.table}`;
}

/**
 * Settings under which a row's text is the same whoever writes it: without them it would follow the till's session,
 * and 3.4.2026 is another day to a till that reads months first.
 */
export const ROW_TEXT_SETTINGS = `set timezone = 'UTC' set datestyle = 'ISO, YMD' set intervalstyle = 'postgres'
  set bytea_output = 'hex' set extra_float_digits = 1`;

/**
 * An INSERT into possync.raw of the rows `r` that `from` gives. No JSON, no work per column: PostgreSQL's own text of a
 * row goes into the body as it is, and COPY at HQ reads it. The alias is long because a column of the same name would
 * hide it.
 */
export function captureRows(
  entity: StoreEntity,
  table: TableSpec,
  { from, op, xid }: { readonly from: string; readonly op: string; readonly xid?: string },
): string {
  return `insert into possync.raw (${xid === undefined ? '' : 'xid, '}type, tbl, op, pk, root, high, layout, doc)
  select ${xid === undefined ? '' : `${xid}, `}${literal(entity.type)}, ${literal(table.table)}, ${op},
         ${keyText('r', table.key)}, ${keyText('r', rootKey(entity, table))}, ${highExpression(entity, table)},
         ${literal(layoutName(table))}, possync_doc::text
    from (${from}) r cross join lateral (select ${columnsOf('r', rowColumns(table))}) possync_doc`;
}

/**
 * possync.recapture(from date): captures again what the store holds since that day, one invented transaction per
 * record, so that bodies stay small. Partitioned records (sales, adjustments) by date; the rest is small and goes
 * whole, because what is newer may refer to any of it.
 *
 * The caller holds the sealing lock and has sealed everything visible: no real transaction id can meet an invented one.
 */
export function recaptureFunction(up: readonly StoreEntity[]): string {
  const statements = up.flatMap((entity) => {
    const { root } = entity;
    const order = columnsOf('r', root.key);
    const date = entity.up.partitionColumn;
    const since = date === null ? 'true' : `r.${ident(date)} >= p_from`;
    const roots = `select ${keyText('r', root.key)} as root, row_number() over (order by ${order}) + v_base as n
        from ${publicTable(root.table)} r where ${since} and ${ownRow(entity, up)}`;
    return [
      `  create temp table possync_recapture on commit drop as ${roots};`,
      ...[root, ...entity.children].map(
        (table) =>
          `  ${captureRows(entity, table, {
            from: `select x.*, w.n as possync_n from ${publicTable(table.table)} x
                join pg_temp.possync_recapture w on w.root = ${keyText('x', rootKey(entity, table))}
               order by w.n`,
            op: `'I'`,
            xid: 'r.possync_n::text::xid8',
          })};`,
      ),
      `  select v_base + count(*) into v_base from pg_temp.possync_recapture;
  drop table pg_temp.possync_recapture;`,
    ];
  });
  return `create or replace function possync.recapture(p_from date) returns bigint language plpgsql
  set search_path = pg_catalog, pg_temp ${ROW_TEXT_SETTINGS} as ${dollarQuoted(`declare
  v_base bigint := 0;
  v_me integer;
begin
  select s.store_id into v_me from possync.state s;
${statements.join('\n')}
  return v_base;
end`)};`;
}

/** Which rows `r` of the root this store writes itself; drafts stay here. */
function ownRow(entity: StoreEntity, up: readonly StoreEntity[]): string {
  switch (entity.up.change.kind) {
    case 'transfer':
      return `r.${ident(entity.up.storeColumn ?? 'from_store_id')} = v_me and r.status <> 'draft'`;
    case 'receipt': {
      const transfer = transferOf(up);
      return `exists (select from ${publicTable(transfer.table)} t
                where t.${ident(transfer.key)} = r.${ident(entity.root.key[0] ?? 'transfer_id')}
                  and t.${ident(transfer.to)} = v_me)`;
    }
    default:
      return 'true';
  }
}

export interface TransferTable {
  readonly table: string;
  readonly key: string;
  readonly from: string;
  readonly to: string;
}

/** The table whose rows receipts refer to. */
export function transferOf(up: readonly StoreEntity[]): TransferTable {
  const entity = up.find((candidate) => candidate.up.change.kind === 'transfer');
  if (entity?.direction !== 'relay' || entity.down.audience.kind !== 'column') {
    throw new Error('the entity table has receipts, but no transfers that they could belong to');
  }
  return {
    table: entity.root.table,
    key: entity.root.key[0] ?? 'id',
    from: entity.up.storeColumn ?? 'from_store_id',
    to: entity.down.audience.column,
  };
}
