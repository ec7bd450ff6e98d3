/**
 * The peer of the drain: PostgreSQL's own logical replication of the same sales into the same tables as HQ's, with the
 * keys, indexes and partitions of HQ. Those keys begin with store and date, which the children of a sale have only at
 * HQ: here they have them in the store already, a work that is done before the clock starts.
 *
 * The subscriber commits without waiting for its disk, as subscriptions do unless told; HQ's commits of possync wait.
 */
import type pg from 'pg';
import { connect } from '../../src/db/pool.ts';
import { uuidv7 } from '../../src/core/ids.ts';
import { installSales } from './sales.ts';
import type { Server } from './servers.ts';

const TABLES = ['sales', 'sale_lines', 'sale_payments'] as const;

const SALE = `store_id integer not null, id uuid not null, register_id uuid not null, session_id uuid not null,
  cashier_id uuid not null, kind text not null, status text not null, receipt_number text not null,
  original_sale_id uuid, subtotal bigint not null default 0, discount_total bigint not null default 0,
  tax_total bigint not null default 0, total bigint not null default 0,
  occurred_at timestamptz not null, business_date date not null, voided_at timestamptz, voided_by uuid`;
const LINE = `store_id integer not null, business_date date not null, sale_id uuid not null, line_no integer not null,
  product_id uuid, sku text not null, name text not null, quantity bigint not null, unit_price numeric(14,4) not null,
  discount bigint not null default 0, tax bigint not null default 0, total bigint not null default 0`;
const PAYMENT = `store_id integer not null, business_date date not null, sale_id uuid not null, payment_no integer not null,
  tender text not null, amount bigint not null default 0, tendered bigint, change bigint, reference text`;
const RECEIVED = 'received_at timestamptz not null default now()';

const PUBLISHER = `
create table public.sales (${SALE}, primary key (id));
create index on public.sales (business_date);
create index on public.sales (session_id);
create table public.sale_lines (${LINE}, primary key (sale_id, line_no));
create table public.sale_payments (${PAYMENT}, primary key (sale_id, payment_no));
create publication bench for table ${TABLES.map((table) => `public.${table}`).join(', ')}`;

const PARTITIONED = 'partition by range (business_date)';
const SUBSCRIBER = `
create table public.sales (${SALE}, ${RECEIVED}, primary key (store_id, business_date, id)) ${PARTITIONED};
create index on public.sales (store_id, id);
create index on public.sales (store_id, session_id);
create table public.sale_lines (${LINE}, ${RECEIVED}, primary key (store_id, business_date, sale_id, line_no)) ${PARTITIONED};
create table public.sale_payments (${PAYMENT}, ${RECEIVED}, primary key (store_id, business_date, sale_id, payment_no)) ${PARTITIONED};
${TABLES.map(
  (table) => `create table public.${table}_default partition of public.${table} default;
do $$ begin
  execute format('create table public.${table}_now partition of public.${table} for values from (%L) to (%L)',
                 date_trunc('month', now())::date, (date_trunc('month', now()) + interval '1 month')::date);
end $$;`,
).join('\n')}`;

export class Native {
  readonly till = { storeId: 1, registerId: uuidv7() };
  readonly publisher: pg.Client;
  readonly subscriber: pg.Client;

  private constructor(publisher: pg.Client, subscriber: pg.Client) {
    this.publisher = publisher;
    this.subscriber = subscriber;
  }

  /** Set up, with an empty backlog, and switched off. */
  static async open(store: Server, hq: Server): Promise<Native> {
    const from = await store.create('native_store');
    const to = await hq.create('native_hq');
    const publisher = await connect({ url: from, applicationName: 'bench till' });
    const subscriber = await connect({ url: to, applicationName: 'bench' });
    await publisher.query(PUBLISHER);
    await installSales(publisher, {
      columns: 'store_id, business_date, ',
      values: 'v_sale.store_id, v_sale.business_date, ',
      sessions: false,
    });
    await subscriber.query(SUBSCRIBER);
    await subscriber.query(
      `create subscription bench connection '${from.replaceAll("'", "''")}' publication bench with (copy_data = false)`,
    );
    await subscriber.query('alter subscription bench disable');
    return new Native(publisher, subscriber);
  }

  /** HQ comes back. */
  async connect(): Promise<void> {
    await this.subscriber.query('alter subscription bench enable');
  }

  async disconnect(): Promise<void> {
    await this.subscriber.query('alter subscription bench disable');
  }

  async close(): Promise<void> {
    await this.subscriber.query('drop subscription bench');
    await this.publisher.end();
    await this.subscriber.end();
  }
}
