/**
 * What the capture triggers of a store do, table by table: the rules a till keeps to, then the rows that are kept.
 *
 * A rule about content spares rows that the same transaction has captured as new: a till may write a sale and complete
 * its totals before it commits, because nobody could have seen the earlier version and only the last one is sealed.
 */
import type { TableSpec } from '../protocol/entities.ts';
import { captureRows, keyText, rootKey, transferOf, type StoreEntity } from './capture-up-rows.ts';
import { columnsOf, ident, literal, publicTable } from './sql.ts';

export interface CaptureBody {
  readonly insert: string;
  readonly update: string;
  readonly delete: string;
}

export function captureBody(entity: StoreEntity, table: TableSpec, up: readonly StoreEntity[]): CaptureBody {
  const isRoot = table === entity.root;
  switch (entity.up.change.kind) {
    case 'transfer':
      return isRoot ? transferBody(entity, table) : transferLineBody(entity, table);
    case 'receipt':
      return receiptBody(entity, table, up);
    default:
      return plainBody(entity, table);
  }
}

/** Registers, sessions, sales, adjustments, reports. */
function plainBody(entity: StoreEntity, table: TableSpec): CaptureBody {
  return {
    insert: captureAll(entity, table),
    update: [
      refuse(updatedRows(table, frozenChanged(entity, table)), 'PS003', frozenMessage(entity, table)),
      ...contentRule(entity, table),
      captureChanged(entity, table),
    ].join('\n'),
    delete: captureDeleted(entity, table),
  };
}

/** What may not change after the transaction that wrote the row; '' where anything may. */
function contentRule(entity: StoreEntity, table: TableSpec): string[] {
  const { change } = entity.up;
  const changed = differs('o', 'r', table.columns);
  if (table === entity.root) {
    if (change.kind === 'replace') return [];
    if (change.kind === 'states') {
      const rank = (alias: string): string => rankOf(`${alias}.${ident(change.column)}`, change.order);
      const back = `${rank('r')} < ${rank('o')}`;
      const { mutable } = change;
      const forbidden =
        mutable === null
          ? back
          : `${back} or (${rank('r')} = ${rank('o')} and ${changed})
              or ${differs(
                'o',
                'r',
                table.columns.filter((column) => !mutable.includes(column)),
              )}`;
      const message = `a ${entity.title} only moves forward: ${change.order.join(', ')}`;
      return [refuse(updatedRows(table, `(${forbidden}) and ${notNew(table)}`), 'PS004', message)];
    }
  }
  return [
    refuse(
      updatedRows(table, `${changed} and ${notNew(table)}`),
      'PS004',
      `${table.table} does not change once it is committed`,
    ),
  ];
}

/**
 * Transfers. A draft stays here; the statement that submits it captures the header and all its lines, read at that
 * moment: capturing only the changed header would lose every line written while it was a draft.
 */
function transferBody(entity: StoreEntity, table: TableSpec): CaptureBody {
  const from = ident(entity.up.storeColumn ?? 'from_store_id');
  const lines = entity.children.map(
    (child) =>
      `  ${captureRows(entity, child, {
        from: `select x.* from ${publicTable(child.table)} x
            join possync_new n on ${keyText('n', table.key)} = ${keyText('x', child.parentKey)}
            join possync_old o on ${sameKey('o', 'n', table)}
           where o.status = 'draft' and n.status <> 'draft'`,
        op: `'S'`,
      })};`,
  );
  const backwards = `r.status <> o.status and o.status <> 'draft'
      and not (o.status = 'pending' and r.status in ('in_transit', 'cancelled'))`;
  const final = `o.status in ('in_transit', 'cancelled') and ${differs('o', 'r', table.columns)}`;
  const foreign = `r.${from} is distinct from ${myStore}`;
  return {
    insert: `${refuse(`select from possync_new r where ${foreign}`, 'PS002', NOT_YOURS)}
  ${captureRows(entity, table, { from: `select n.* from possync_new n where n.status <> 'draft'`, op: `'I'` })};
${notifyIfHigh(entity, `select from possync_new r where r.status <> 'draft'`)}`,
    update: `${refuse(`select from possync_old r where ${foreign}`, 'PS002', NOT_YOURS)}
${refuse(updatedRows(table, frozenChanged(entity, table)), 'PS003', frozenMessage(entity, table))}
${refuse(
  updatedRows(table, `((${backwards}) or (${final})) and ${notNew(table)}`),
  'PS004',
  'a transfer goes from draft to pending to in_transit, or is cancelled before it is shipped',
)}
  ${captureRows(entity, table, {
    from: `select n.*, o.status as possync_was from possync_new n join possync_old o on ${sameKey('o', 'n', table)}
     where n.status <> 'draft' and ${differs('o', 'n', table.columns)}`,
    op: `(case when r.possync_was = 'draft' then 'S' else 'U' end)::"char"`,
  })};
${lines.join('\n')}
${notifyIfHigh(entity, `select from possync_new r where r.status <> 'draft'`)}`,
    delete: `${refuse(`select from possync_old r where ${foreign}`, 'PS002', NOT_YOURS)}
${captureDeleted(entity, table)}`,
  };
}

/**
 * Lines of a transfer. The header is locked against its submission by somebody else: without that a line written
 * at the same moment would be neither among the lines that the submission read nor captured by itself.
 */
function transferLineBody(entity: StoreEntity, table: TableSpec): CaptureBody {
  const header = publicTable(entity.root.table);
  const from = ident(entity.up.storeColumn ?? 'from_store_id');
  const parent = rootKey(entity, table);
  const headers = (rows: string): string =>
    `select t.status, t.${from} as owner, ${keyText('t', entity.root.key)} as root
        from ${header} t where ${entity.root.key
          .map((column, i) => `t.${ident(column)} = r.${ident(parent[i] ?? column)}`)
          .join(' and ')}${rows}`;
  const submittedHere = `exists (select from possync.raw w where w.xid = pg_current_xact_id()
        and w.tbl = ${literal(entity.root.table)} and w.pk = h.root and w.op in ('I', 'S'))`;
  const rules = (source: string, closed: string): string => `  perform 1 from ${header} t
    where ${keyText('t', entity.root.key)} in (select ${keyText('r', parent)} from ${source} r)
    order by ${columnsOf('t', entity.root.key)} for share;
${refuse(
  `select from ${source} r cross join lateral (${headers('')}) h where h.owner is distinct from ${myStore}`,
  'PS002',
  NOT_YOURS,
)}
${refuse(
  `select from ${source} r cross join lateral (${headers('')}) h where ${closed} and not ${submittedHere}`,
  'PS004',
  'the lines of a transfer do not change after it was submitted',
)}`;
  const submitted = (source: string): string =>
    `select x.* from ${source} x where exists (select from ${header} t
        where ${keyText('t', entity.root.key)} = ${keyText('x', parent)} and t.status <> 'draft')`;
  return {
    insert: `${rules('possync_new', `h.status <> 'draft'`)}
  ${captureRows(entity, table, { from: submitted('possync_new'), op: `'I'` })};`,
    update: `${refuse(updatedRows(table, frozenChanged(entity, table)), 'PS003', frozenMessage(entity, table))}
${rules('possync_new', `h.status <> 'draft'`)}
  ${captureRows(entity, table, { from: submitted('possync_new'), op: `'U'` })};`,
    // Old transfers may be purged, lines first; one that is still on its way may not lose them.
    delete: `${rules('possync_old', `h.status = 'pending'`)}
${captureDeleted(entity, table)}`,
  };
}

/** Receipts and their lines: written only where the transfer goes to, once it is in transit. */
function receiptBody(entity: StoreEntity, table: TableSpec, up: readonly StoreEntity[]): CaptureBody {
  const transfer = transferOf(up);
  const parent = ident(rootKey(entity, table)[0] ?? 'transfer_id');
  const matching = (condition: string): string =>
    `exists (select from ${publicTable(transfer.table)} t where t.${ident(transfer.key)} = r.${parent} and ${condition})`;
  const mine = matching(`t.${ident(transfer.to)} = ${myStore}`);
  const notMine = (source: string): string =>
    refuse(
      `select from ${source} r where not ${mine}`,
      'PS002',
      'only the destination writes the receipt of a transfer',
    );
  return {
    insert: `${notMine('possync_new')}
${refuse(
  `select from possync_new r where not ${matching(`t.status = 'in_transit'`)}`,
  'PS004',
  'a transfer can be received once it is in transit',
)}
${captureAll(entity, table)}`,
    update: `${notMine('possync_old')}
${plainBody(entity, table).update}`,
    delete: `${notMine('possync_old')}
${captureDeleted(entity, table)}`,
  };
}

const NOT_YOURS = 'this transfer belongs to another store and is read-only here';
const myStore = '(select s.store_id from possync.state s)';

function refuse(violations: string, code: string, message: string): string {
  return `  if exists (${violations}) then
    raise exception using errcode = ${literal(code)}, message = ${literal(message)};
  end if;`;
}

/** Rows `r` as they are now, with `o` as they were, for which the condition holds. */
function updatedRows(table: TableSpec, condition: string): string {
  return `select from possync_new r left join possync_old o on ${sameKey('o', 'r', table)} where ${condition}`;
}

/** No old row has this key: the key itself was changed. */
function frozenChanged(entity: StoreEntity, table: TableSpec): string {
  const frozen = table === entity.root ? frozenColumns(entity) : [];
  const [key] = table.key;
  const keyChanged = `o.${ident(key ?? 'id')} is null`;
  return frozen.length === 0 ? keyChanged : `${keyChanged} or ${differs('o', 'r', frozen)}`;
}

function frozenColumns(entity: StoreEntity): string[] {
  return [entity.up.storeColumn, entity.up.partitionColumn].filter((column) => column !== null);
}

function frozenMessage(entity: StoreEntity, table: TableSpec): string {
  const columns = [...table.key, ...(table === entity.root ? frozenColumns(entity) : [])];
  return `${columns.join(', ')} of ${table.table} never change`;
}

function notNew(table: TableSpec): string {
  return `not exists (select from possync.raw w where w.xid = pg_current_xact_id()
        and w.tbl = ${literal(table.table)} and w.pk = ${keyText('r', table.key)} and w.op in ('I', 'S'))`;
}

function captureAll(entity: StoreEntity, table: TableSpec): string {
  return `  ${captureRows(entity, table, { from: 'select n.* from possync_new n', op: `'I'` })};
${notifyIfHigh(entity, table === entity.root ? `select from possync_new r where ${highRow(entity)}` : undefined)}`;
}

/** A row whose synced columns are as before is not captured; updated_at is never the reason for a change. */
function captureChanged(entity: StoreEntity, table: TableSpec): string {
  const changed = `possync_new n join possync_old o on ${sameKey('o', 'n', table)} where ${differs('o', 'n', table.columns)}`;
  const high = table === entity.root ? `select from possync_new r where ${highRow(entity)}` : undefined;
  return `  ${captureRows(entity, table, { from: `select n.* from ${changed}`, op: `'U'` })};
${notifyIfHigh(entity, high)}`;
}

/**
 * Only where this transaction captured the row before: the deletion cancels that. Any other deletion is a local purge.
 * It is kept as a line of its own, so that the transaction keeps its place in the order.
 */
function captureDeleted(entity: StoreEntity, table: TableSpec): string {
  return `  insert into possync.raw (type, tbl, op, pk, root, high)
  select ${literal(entity.type)}, ${literal(table.table)}, 'D', ${keyText('r', table.key)},
         ${keyText('r', rootKey(entity, table))}, false
    from possync_old r
   where exists (select from possync.raw w where w.xid = pg_current_xact_id()
                    and w.tbl = ${literal(table.table)} and w.pk = ${keyText('r', table.key)});`;
}

function highRow(entity: StoreEntity): string {
  const { priority } = entity.up;
  if (priority === 'high') return 'true';
  return priority === 'normal' ? 'false' : priority.highWhen;
}

/** A hint for the daemon; PostgreSQL sends it at commit, once per transaction. */
function notifyIfHigh(entity: StoreEntity, high: string | undefined): string {
  if (high === undefined || entity.up.priority === 'normal') return '';
  return `  if exists (${high}) then perform pg_notify('possync_outbox', ''); end if;`;
}

function sameKey(a: string, b: string, table: TableSpec): string {
  return table.key.map((column) => `${a}.${ident(column)} = ${b}.${ident(column)}`).join(' and ');
}

function differs(a: string, b: string, columns: readonly string[]): string {
  return `(${columnsOf(a, columns)}) is distinct from (${columnsOf(b, columns)})`;
}

function rankOf(expression: string, order: readonly string[]): string {
  return `array_position(array[${order.map(literal).join(', ')}]::text[], ${expression})`;
}
