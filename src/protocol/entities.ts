/**
 * What syncs: one entry per data type. Capture triggers, projections, audiences, apply order, guards, priorities,
 * status lines and metrics are made from this table; adding a data type is one entry and its migration.
 *
 * A *record* (aggregate) is a root row with its children, and travels whole:
 *
 *   direction   who writes it   HQ → store (down)                    store → HQ (up)
 *   down        HQ              document per record and audience     –
 *   up          one store       –                                    rows per store transaction
 *   relay       one store       to the other party of the transfer   rows per store transaction
 *
 * The order of ENTITIES is the order of dependency: parents before children, so documents are written in this
 * order and removed in the reverse one.
 */

/** A table of a record. Column names are those of the store; all are in schema `public`. */
export interface TableSpec {
  readonly table: string;
  /** Primary key in the store. */
  readonly key: readonly string[];
  /** Every synced column, the key included; `updated_at` and HQ's `received_at` stamp are not listed. */
  readonly columns: readonly string[];
  /** The table has an `updated_at`, which travels with a change and is never the reason for one. */
  readonly stamped: boolean;
}

export interface ChildSpec extends TableSpec {
  /** The columns that hold the root's key, in the order of the root's key. */
  readonly parentKey: readonly string[];
  /** Rows with active = false count as deleted (link rows). */
  readonly link: boolean;
  /** Property of the document that holds these rows. */
  readonly field: string;
}

/** Which stores get a record. Scope 0 means all stores; a record has scope 0 or store scopes, never both at once. */
export type Audience =
  | { readonly kind: 'all' }
  /** The store named in a column; null = all stores. */
  | { readonly kind: 'column'; readonly column: string }
  /** Any number of stores: a SELECT of one integer column, in which `r` is the root row. */
  | { readonly kind: 'query'; readonly sql: string };

/**
 * What a store does with a record that leaves its audience:
 * `delete` link rows · `deactivate` keep the row with active = false · `revoke` the same, and wipe the PIN hash ·
 * `delete-or-deactivate` delete unless something refers to it · `transfer` delete if it was only announced, else
 * keep · `keep` leave it as it is.
 */
export type Removal = 'delete' | 'deactivate' | 'revoke' | 'delete-or-deactivate' | 'transfer' | 'keep';

export interface DownRule {
  readonly audience: Audience;
  /** A predicate over the root row `r`: only such rows are in anybody's audience. Link rows: `r.active`. */
  readonly when?: string;
  readonly removal: Removal;
  /** Unique text columns that a kept row gives up (gets `~<id>` appended), so that another record may take them. */
  readonly unique: readonly string[];
  /** Other tables whose change may change this record's audience or document, and the columns that hold its key. */
  readonly alsoMarkedBy: readonly { readonly table: string; readonly key: readonly string[] }[];
  /** `high` is hinted to the stores at once; a list of columns means: high if one of them changed. */
  readonly priority: 'high' | 'normal' | { readonly highColumns: readonly string[] };
}

/** How HQ takes a row that a store sends again, or changed. The first time it is always inserted. */
export type Change =
  /** Immutable: the same content is a no-op, other content a data error (dead letter). */
  | { readonly kind: 'append' }
  /** The last one wins. */
  | { readonly kind: 'replace' }
  /**
   * Moves forward through `order` of `column`, changing only `mutable` columns (null = any); an older state that
   * comes late is a no-op and a finding; a change of another column is a data error.
   */
  | {
      readonly kind: 'states';
      readonly column: string;
      readonly order: readonly string[];
      readonly mutable: readonly string[] | null;
    }
  /** The state machine of transfers: draft → pending → in_transit | cancelled. */
  | { readonly kind: 'transfer' }
  /** The receipt of a transfer, legal once it is in transit. */
  | { readonly kind: 'receipt' };

export interface UpRule {
  readonly change: Change;
  /** The root column that must hold the id of the store that sends it; null for receipts (their transfer tells). */
  readonly storeColumn: string | null;
  /** HQ partitions root and children by this root column, which is then in their keys. */
  readonly partitionColumn: string | null;
  /** `high` is pushed at once, with everything older; a predicate over the root row `r` decides per row. */
  readonly priority: 'high' | 'normal' | { readonly highWhen: string };
}

interface EntityBase {
  /** The name used in the feed, in queues, logs and JSON. */
  readonly type: string;
  /** Singular, for people. */
  readonly title: string;
  readonly root: TableSpec;
  readonly children: readonly ChildSpec[];
}

export interface DownEntity extends EntityBase {
  readonly direction: 'down';
  readonly down: DownRule;
}

export interface UpEntity extends EntityBase {
  readonly direction: 'up';
  readonly up: UpRule;
}

export interface RelayEntity extends EntityBase {
  readonly direction: 'relay';
  readonly up: UpRule;
  readonly down: DownRule;
}

export type Entity = DownEntity | UpEntity | RelayEntity;

const table = (name: string, key: string, columns: string): TableSpec => ({
  table: name,
  key: words(key),
  columns: [...words(key), ...words(columns)],
  stamped: false,
});

const child = (field: string, parentKey: string, spec: TableSpec): ChildSpec => ({
  ...spec,
  field,
  parentKey: words(parentKey),
  link: false,
});

const stamped = <T extends TableSpec>(spec: T): T => ({ ...spec, stamped: true });

function words(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '');
}

const TO_ALL: Audience = { kind: 'all' };

export const ENTITIES: readonly Entity[] = [
  {
    type: 'store',
    title: 'store',
    direction: 'down',
    root: stamped(table('stores', 'id', 'code name address phone time_zone active')),
    children: [],
    down: { audience: TO_ALL, removal: 'deactivate', unique: ['code'], alsoMarkedBy: [], priority: 'high' },
  },
  {
    type: 'department',
    title: 'department',
    direction: 'down',
    root: stamped(table('departments', 'id', 'code name parent_id active')),
    children: [],
    down: {
      audience: TO_ALL,
      removal: 'delete-or-deactivate',
      unique: ['code'],
      alsoMarkedBy: [],
      priority: 'normal',
    },
  },
  {
    type: 'tax_rate',
    title: 'tax rate',
    direction: 'down',
    root: stamped(table('tax_rates', 'id', 'code name rate_bp compound compounds_on active')),
    children: [],
    down: {
      audience: TO_ALL,
      removal: 'delete-or-deactivate',
      unique: ['code'],
      alsoMarkedBy: [],
      priority: 'high',
    },
  },
  {
    type: 'product',
    title: 'product',
    direction: 'down',
    root: stamped(
      table(
        'products',
        'id',
        'sku barcode name description price cost department_id tax_rate_id low_stock_threshold active',
      ),
    ),
    children: [],
    down: {
      audience: TO_ALL,
      removal: 'deactivate',
      unique: ['sku'],
      alsoMarkedBy: [],
      priority: { highColumns: ['price'] },
    },
  },
  {
    type: 'store_price',
    title: 'store price',
    direction: 'down',
    root: stamped(table('store_prices', 'store_id product_id', 'price active')),
    children: [],
    down: {
      audience: { kind: 'column', column: 'store_id' },
      when: 'r.active',
      removal: 'delete',
      unique: [],
      alsoMarkedBy: [],
      priority: 'high',
    },
  },
  {
    type: 'role',
    title: 'role',
    direction: 'down',
    root: stamped(table('roles', 'id', 'name active')),
    children: [
      {
        ...stamped(
          child('permissions', 'role_id', table('role_permissions', 'role_id permission', 'active')),
        ),
        link: true,
      },
    ],
    down: {
      audience: TO_ALL,
      removal: 'delete-or-deactivate',
      unique: ['name'],
      alsoMarkedBy: [],
      priority: 'high',
    },
  },
  {
    type: 'user',
    title: 'user',
    direction: 'down',
    root: stamped(table('users', 'id', 'username display_name pin_hash active')),
    children: [],
    down: {
      // A chain-wide assignment makes the user scope 0 and nothing else: never both kinds of scope at once.
      audience: {
        kind: 'query',
        sql: `select distinct case when bool_or(a.store_id is null) over () then 0 else a.store_id end
                from public.user_store_roles a
               where a.user_id = r.id and a.active`,
      },
      removal: 'revoke',
      unique: ['username'],
      alsoMarkedBy: [{ table: 'user_store_roles', key: ['user_id'] }],
      priority: 'high',
    },
  },
  {
    type: 'user_role',
    title: 'role assignment',
    direction: 'down',
    root: stamped(table('user_store_roles', 'id', 'user_id role_id store_id active')),
    children: [],
    down: {
      audience: { kind: 'column', column: 'store_id' },
      when: 'r.active',
      removal: 'delete',
      unique: [],
      alsoMarkedBy: [],
      priority: 'high',
    },
  },
  {
    type: 'register',
    title: 'register',
    direction: 'up',
    root: table('registers', 'id', 'store_id code name active'),
    children: [],
    up: { change: { kind: 'replace' }, storeColumn: 'store_id', partitionColumn: null, priority: 'high' },
  },
  {
    type: 'session',
    title: 'register session',
    direction: 'up',
    root: stamped(
      table(
        'register_sessions',
        'id',
        'store_id register_id user_id status opened_at opening_amount closed_at forced_by',
      ),
    ),
    children: [],
    up: {
      change: { kind: 'states', column: 'status', order: ['open', 'closing', 'closed'], mutable: null },
      storeColumn: 'store_id',
      partitionColumn: null,
      priority: 'high',
    },
  },
  {
    type: 'sale',
    title: 'sale',
    direction: 'up',
    root: table(
      'sales',
      'id',
      `store_id register_id session_id cashier_id kind status receipt_number original_sale_id subtotal
       discount_total tax_total total occurred_at business_date voided_at voided_by`,
    ),
    children: [
      child(
        'lines',
        'sale_id',
        table('sale_lines', 'sale_id line_no', 'product_id sku name quantity unit_price discount tax total'),
      ),
      child(
        'taxes',
        'sale_id',
        table('sale_line_taxes', 'sale_id line_no tax_rate_id', 'rate_bp taxable amount'),
      ),
      child(
        'payments',
        'sale_id',
        table('sale_payments', 'sale_id payment_no', 'tender amount tendered change reference'),
      ),
    ],
    up: {
      change: {
        kind: 'states',
        column: 'status',
        order: ['completed', 'voided'],
        mutable: ['status', 'voided_at', 'voided_by'],
      },
      storeColumn: 'store_id',
      partitionColumn: 'business_date',
      priority: { highWhen: `r.status = 'voided' or r.kind = 'refund'` },
    },
  },
  {
    type: 'inventory_adjustment',
    title: 'inventory adjustment',
    direction: 'up',
    root: table(
      'inventory_adjustments',
      'id',
      'store_id product_id quantity_before quantity_delta reason note user_id occurred_at business_date',
    ),
    children: [],
    up: {
      change: { kind: 'append' },
      storeColumn: 'store_id',
      partitionColumn: 'business_date',
      priority: 'normal',
    },
  },
  {
    type: 'z_report',
    title: 'Z report',
    direction: 'up',
    root: table(
      'z_reports',
      'id',
      `store_id register_id session_id number opened_at closed_at business_date cashier_id opening_amount cash_sales
       cash_refunds expected_cash declared_cash over_short card_sales void_count void_total transaction_count
       tax_by_rate totals_by_tender declared_by_denomination`,
    ),
    children: [],
    up: { change: { kind: 'append' }, storeColumn: 'store_id', partitionColumn: null, priority: 'high' },
  },
  {
    type: 'zz_report',
    title: 'ZZ report',
    direction: 'up',
    root: table(
      'zz_reports',
      'id',
      'store_id number month total_sales total_refunds total_tax cash_total card_total z_report_ids',
    ),
    children: [],
    up: { change: { kind: 'append' }, storeColumn: 'store_id', partitionColumn: null, priority: 'high' },
  },
  {
    type: 'transfer',
    title: 'transfer',
    direction: 'relay',
    root: stamped(
      table(
        'transfers',
        'id',
        'number from_store_id to_store_id status tracking_note created_by submitted_at shipped_at',
      ),
    ),
    children: [
      child('lines', 'transfer_id', table('transfer_lines', 'transfer_id line_no', 'product_id quantity')),
    ],
    up: {
      change: { kind: 'transfer' },
      storeColumn: 'from_store_id',
      partitionColumn: null,
      priority: 'high',
    },
    down: {
      audience: { kind: 'column', column: 'to_store_id' },
      // A transfer to oneself has no other party: nobody gets its own rows back.
      when: `r.status <> 'draft' and r.from_store_id <> r.to_store_id
             and not possync.transfer_is_old(r.id, r.status, r.updated_at)`,
      removal: 'transfer',
      unique: [],
      alsoMarkedBy: [],
      priority: 'high',
    },
  },
  {
    type: 'transfer_receipt',
    title: 'transfer receipt',
    direction: 'relay',
    root: table('transfer_receipts', 'transfer_id', 'received_by received_at'),
    children: [
      child('lines', 'transfer_id', table('transfer_receipt_lines', 'transfer_id line_no', 'quantity')),
    ],
    up: { change: { kind: 'receipt' }, storeColumn: null, partitionColumn: null, priority: 'high' },
    down: {
      audience: {
        kind: 'query',
        sql: `select t.from_store_id from public.transfers t
               where t.id = r.transfer_id and t.from_store_id <> t.to_store_id
                 and not possync.transfer_is_old(t.id, t.status, t.updated_at)`,
      },
      removal: 'keep',
      unique: [],
      alsoMarkedBy: [{ table: 'transfers', key: ['id'] }],
      priority: 'high',
    },
  },
];

/** The entries that travel from HQ to stores, in order of dependency. */
export function downEntities(entities: readonly Entity[] = ENTITIES): readonly (DownEntity | RelayEntity)[] {
  return entities.filter((entity) => entity.direction !== 'up');
}

/** The entries that travel from stores to HQ, in order of dependency. */
export function upEntities(entities: readonly Entity[] = ENTITIES): readonly (UpEntity | RelayEntity)[] {
  return entities.filter((entity) => entity.direction !== 'down');
}

/** Root and children, parents first. */
export function tablesOf(entity: Entity): readonly TableSpec[] {
  return [entity.root, ...entity.children];
}
