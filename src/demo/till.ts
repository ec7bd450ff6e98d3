/**
 * A till of the demo: sells, refunds, voids, counts stock and closes its day with a Z report, with plain SQL on its
 * store's database, exactly as a POS application would. It knows nothing of possync.
 */
import { uuidv7 } from '../core/ids.ts';
import type { Random } from '../core/random.ts';
import { queryMaybe, queryOne, type Queryable } from '../db/transaction.ts';
import { closeSession, openSession } from './cash-office.ts';

export interface TillOptions {
  readonly storeId: number;
  readonly registerId: string;
  readonly registerCode: string;
  readonly random: Random;
  /** The sale that closes a session is drawn with this chance per step. */
  readonly closeChance?: number;
}

export interface TillCounts {
  /** Committed sales and refunds. */
  sales: number;
  voids: number;
  adjustments: number;
  zReports: number;
}

interface Item {
  readonly id: string;
  readonly sku: string;
  readonly name: string;
  /** numeric text: a rate in cents, possibly with fractions. */
  readonly price: string;
  readonly tax_rate_id: string | null;
  readonly rate_bp: number | null;
}

interface Line extends Item {
  readonly lineNo: number;
  /** Thousandths. */
  readonly quantity: number;
  readonly net: number;
  readonly tax: number;
}

export class Till {
  readonly counts: TillCounts = { sales: 0, voids: 0, adjustments: 0, zReports: 0 };
  readonly #db: Queryable;
  readonly #options: TillOptions;
  #sessionId: string | undefined;
  #lastSaleId: string | undefined;
  #receipt = 0;

  /** `db` is one connection of its own: a till is one client of the store's PostgreSQL. */
  constructor(db: Queryable, options: TillOptions) {
    this.#db = db;
    this.#options = options;
  }

  /** Does the next thing that happens at a till. Without cashier or catalogue (not arrived yet) it does nothing. */
  async step(): Promise<void> {
    const { random, closeChance = 0.03 } = this.#options;
    const cashier = await queryMaybe<{ user_id: string }>(
      this.#db,
      `select a.user_id from public.user_store_roles a join public.users u on u.id = a.user_id
        where a.active and u.active order by a.user_id limit 1`,
    );
    if (cashier === undefined) return;
    if (this.#sessionId === undefined) {
      await this.#open(cashier.user_id);
      return;
    }
    const draw = random.next();
    if (draw < closeChance) await this.close();
    else if (draw < 0.08 && this.#lastSaleId !== undefined) await this.#void(cashier.user_id);
    else if (draw < 0.14) await this.#adjust(cashier.user_id);
    else await this.#sell(cashier.user_id, draw < 0.2 ? 'refund' : 'sale');
  }

  /** Closes the open session, if any, with a Z report. */
  async close(): Promise<void> {
    if (this.#sessionId === undefined) return;
    await closeSession(this.#db, {
      sessionId: this.#sessionId,
      closedAt: new Date().toISOString(),
      businessDate: today(),
      overShort: this.#options.random.int(200) - 100,
    });
    this.#sessionId = undefined;
    this.#lastSaleId = undefined; // a voided sale must be of the open session: closed books do not change
    this.counts.zReports += 1;
  }

  async #open(userId: string): Promise<void> {
    const id = uuidv7();
    const { storeId, registerId } = this.#options;
    await openSession(this.#db, {
      id,
      storeId,
      registerId,
      userId,
      openedAt: new Date().toISOString(),
      openingAmount: 10_000,
    });
    this.#sessionId = id;
  }

  async #sell(cashierId: string, kind: 'sale' | 'refund'): Promise<void> {
    const lines = await this.#basket(kind);
    if (lines.length === 0 || this.#sessionId === undefined) return;
    const { storeId, registerId, registerCode, random } = this.#options;
    const saleId = uuidv7();
    const subtotal = lines.reduce((sum, line) => sum + line.net, 0);
    const tax = lines.reduce((sum, line) => sum + line.tax, 0);
    this.#receipt += 1;
    await this.#inTransaction(async () => {
      await this.#db.query(
        `insert into public.sales (id, store_id, register_id, session_id, cashier_id, kind, status, receipt_number,
             original_sale_id, subtotal, discount_total, tax_total, total, occurred_at, business_date)
         values ($1::uuid, $2::int, $3::uuid, $4::uuid, $5::uuid, $6::text, 'completed', $7::text,
             $8::uuid, $9::bigint, 0, $10::bigint, $11::bigint, now(), $12::date)`,
        [
          saleId,
          storeId,
          registerId,
          this.#sessionId,
          cashierId,
          kind,
          `${registerCode}-${String(this.#receipt).padStart(6, '0')}`,
          kind === 'refund' ? (this.#lastSaleId ?? null) : null,
          subtotal,
          tax,
          subtotal + tax,
          today(),
        ],
      );
      await this.#db.query(
        `insert into public.sale_lines (sale_id, line_no, product_id, sku, name, quantity, unit_price, tax, total)
         select $1::uuid, l.line_no, l.product_id, l.sku, l.name, l.quantity, l.unit_price, l.tax, l.total
           from unnest($2::int[], $3::uuid[], $4::text[], $5::text[], $6::bigint[], $7::numeric[], $8::bigint[],
                       $9::bigint[]) as l(line_no, product_id, sku, name, quantity, unit_price, tax, total)`,
        [
          saleId,
          lines.map((l) => l.lineNo),
          lines.map((l) => l.id),
          lines.map((l) => l.sku),
          lines.map((l) => l.name),
          lines.map((l) => l.quantity),
          lines.map((l) => l.price),
          lines.map((l) => l.tax),
          lines.map((l) => l.net),
        ],
      );
      const taxed = lines.filter((line) => line.tax_rate_id !== null);
      await this.#db.query(
        `insert into public.sale_line_taxes (sale_id, line_no, tax_rate_id, rate_bp, taxable, amount)
         select $1::uuid, t.line_no, t.tax_rate_id, t.rate_bp, t.taxable, t.amount
           from unnest($2::int[], $3::uuid[], $4::int[], $5::bigint[], $6::bigint[])
                as t(line_no, tax_rate_id, rate_bp, taxable, amount)`,
        [
          saleId,
          taxed.map((l) => l.lineNo),
          taxed.map((l) => l.tax_rate_id),
          taxed.map((l) => l.rate_bp),
          taxed.map((l) => l.net),
          taxed.map((l) => l.tax),
        ],
      );
      await this.#db.query(
        `insert into public.sale_payments (sale_id, payment_no, tender, amount)
         values ($1::uuid, 1, $2::text, $3::bigint)`,
        [saleId, random.chance(0.5) ? 'cash' : 'card', subtotal + tax],
      );
    });
    if (kind === 'sale') this.#lastSaleId = saleId;
    this.counts.sales += 1;
  }

  async #basket(kind: 'sale' | 'refund'): Promise<Line[]> {
    const { random } = this.#options;
    const { count } = await queryOne<{ count: number }>(
      this.#db,
      'select count(*) as count from public.products where active',
    );
    const wanted = Array.from({ length: 1 + random.int(6) }, () => random.int(Math.max(count, 1)));
    const { rows } = await this.#db.query<Item>(
      `select p.id, p.sku, p.name, coalesce(o.price, p.price) as price, t.id as tax_rate_id, t.rate_bp
         from (select id, row_number() over (order by id) - 1 as n from public.products where active) k
         join public.products p on p.id = k.id
         left join public.store_prices o on o.product_id = p.id and o.active
         left join public.tax_rates t on t.id = p.tax_rate_id
        where k.n = any($1::bigint[])`,
      [wanted],
    );
    const sign = kind === 'refund' ? -1 : 1;
    return rows.map((item, index) => {
      const quantity = sign * 1_000 * (1 + random.int(3));
      const net = Math.round((quantity * Number(item.price)) / 1_000);
      return {
        ...item,
        lineNo: index + 1,
        quantity,
        net,
        tax: Math.round((net * (item.rate_bp ?? 0)) / 10_000),
      };
    });
  }

  async #void(userId: string): Promise<void> {
    const { rowCount } = await this.#db.query(
      `update public.sales set status = 'voided', voided_at = now(), voided_by = $2::uuid
        where id = $1::uuid and status = 'completed'`,
      [this.#lastSaleId, userId],
    );
    this.counts.voids += rowCount ?? 0;
    this.#lastSaleId = undefined;
  }

  async #adjust(userId: string): Promise<void> {
    const { random, storeId } = this.#options;
    const { rowCount } = await this.#db.query(
      `insert into public.inventory_adjustments
         (id, store_id, product_id, quantity_delta, reason, user_id, occurred_at, business_date)
       select $1::uuid, $2::int, p.id, $3::bigint, $4::text, $5::uuid, now(), $6::date
         from public.products p where p.active order by p.id offset $7::int limit 1`,
      [
        uuidv7(),
        storeId,
        1_000 * (random.int(9) - 4),
        random.pick(['physical count', 'damaged', 'shrinkage']),
        userId,
        today(),
        random.int(50),
      ],
    );
    this.counts.adjustments += rowCount ?? 0;
  }

  async #inTransaction(work: () => Promise<void>): Promise<void> {
    await this.#db.query('begin');
    try {
      await work();
      await this.#db.query('commit');
    } catch (error) {
      await this.#db.query('rollback');
      throw error;
    }
  }
}

function today(): string {
  return new Date().toISOString().slice(0, 10);
}
