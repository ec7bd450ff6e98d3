/** A store and HQ whose databases can go back to a backup: what the tests of lost and restored histories are played on. */
import type pg from 'pg';
import { queryOne } from '../../src/db/transaction.ts';
import { reEnrol } from '../../src/hq/inbox/re-enrol.ts';
import { reEnrolStore } from '../../src/store/outbox/re-enrol.ts';
import { addRegister, openHq, openSession, openStore, sell, type TestSide } from './pos.ts';
import { differences, Up } from './up.ts';

const WRITTEN_BY_STORES = [
  'registers',
  'register_sessions',
  'sales',
  'sale_lines',
  'sale_line_taxes',
  'sale_payments',
  'inventory_adjustments',
].map((table) => `public.${table}`);

export const STORE_TABLES = [
  ...WRITTEN_BY_STORES,
  'possync.raw',
  'possync.outbox',
  'possync.state',
  'possync.sending',
  'possync.acks',
  'possync.tally',
  'possync.epochs',
];
export const HQ_TABLES = [...WRITTEN_BY_STORES, 'possync.inbox', 'possync.inbox_chain', 'possync.dead'];

/** The tables of one side as a backup would hold them; `restore` puts them back. */
export class Backup {
  readonly #db: pg.Client;
  readonly #tables: readonly string[];

  private constructor(db: pg.Client, tables: readonly string[]) {
    this.#db = db;
    this.#tables = tables;
  }

  static async take(db: pg.Client, tables: readonly string[]): Promise<Backup> {
    await db.query('drop schema if exists backup cascade; create schema backup');
    for (const table of tables) {
      await db.query(`create table backup.${table.replace('.', '__')} as select * from ${table}`);
    }
    return new Backup(db, tables);
  }

  /** With all triggers off, as a restored base backup has seen none of it. */
  async restore(): Promise<void> {
    await this.#db.query('begin; set local session_replication_role = replica');
    for (const table of [...this.#tables].reverse()) await this.#db.query(`delete from ${table}`);
    for (const table of this.#tables) {
      await this.#db.query(
        `insert into ${table} overriding system value select * from backup.${table.replace('.', '__')}`,
      );
    }
    await this.#db.query('commit');
  }
}

/** Four sales that both sides have, and an open session. */
export class Recovery {
  readonly store: TestSide;
  readonly hq: TestSide;
  readonly up: Up;
  readonly session: string;

  private constructor(store: TestSide, hq: TestSide, session: string) {
    this.store = store;
    this.hq = hq;
    this.up = new Up(store, hq);
    this.session = session;
  }

  static async open(label: string): Promise<Recovery> {
    const [store, hq] = await Promise.all([openStore(label), openHq(label)]);
    const recovery = new Recovery(store, hq, await openSession(store.db, await addRegister(store.db)));
    await recovery.sell(4);
    await recovery.up.drain();
    return recovery;
  }

  async close(): Promise<void> {
    await this.store.close();
    await this.hq.close();
  }

  async sell(times: number): Promise<void> {
    for (let i = 0; i < times; i += 1) await sell(this.store.db, this.session);
  }

  async salesAtHq(): Promise<number> {
    return (await queryOne<{ n: number }>(this.hq.db, 'select count(*) as n from public.sales')).n;
  }

  async halted(): Promise<string | undefined> {
    return (await this.up.outbox.halted())?.code;
  }

  /** `store re-enrol`, or with a date `store reexport --from`. */
  async renew(reexportFrom?: string): Promise<{ epoch: number; renumbered: number; reexported: number }> {
    return reEnrolStore(this.store.pool, {
      instance: this.up.instance,
      ask: (request) => reEnrol(this.hq.pool, 7, request, () => Promise.resolve(false)),
      ...(reexportFrom === undefined ? {} : { reexportFrom }),
    });
  }

  /** Rows that differ or that HQ lacks; what only HQ has is what the store has forgotten. */
  async unequal(): Promise<string[]> {
    return (await differences(this.hq, this.store)).flatMap((t) => [...t.differing, ...t.missingAtHq]);
  }
}
