/**
 * A till of the bench: sells, refunds, voids, counts, closes its session with a Z report, sends and receives
 * transfers, and notes every transaction down outside. It fails only where its own PostgreSQL is away.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type pg from 'pg';
import { codeOf, sqlstateOf } from '../../src/core/classify.ts';
import { uuidv7 } from '../../src/core/ids.ts';
import { connect } from '../../src/db/pool.ts';
import { closeSession, openSession } from '../../src/demo/cash-office.ts';
import type { Random } from '../../test/support/random.ts';
import type { Machine } from './machine.ts';
import type { Attempt, Oracle } from './oracle.ts';
import {
  adjust,
  contentOf,
  findTransfer,
  momentOf,
  moveTransfer,
  voidSale,
  writeDraft,
  writeReceipt,
  writeSale,
  writeZz,
  type SaleToWrite,
} from './till-sql.ts';

export interface TillOptions {
  readonly machine: Machine;
  readonly store: { readonly id: number; readonly code: string };
  readonly registerCode: string;
  /** Stores to which this till sends goods; empty: it leaves transfers to another till of its store. */
  readonly others: readonly number[];
  readonly oracle: Oracle;
  readonly random: Random;
  /** Between two steps, at most. */
  readonly paceMs: number;
  readonly clone?: boolean;
  /** A transaction failed although its own PostgreSQL was there. */
  readonly failed: (what: string) => void;
}

/** A statement that waits so long was blocked by somebody: no sale may ever wait for the sync. */
const PATIENCE_MS = 15_000;

interface Session {
  readonly id: string;
  readonly registerId: string;
  lastSale: string | undefined;
}

export class Till {
  readonly #options: TillOptions;
  readonly #userId = uuidv7();
  #db: pg.Client | undefined;
  #session: Session | undefined;
  #receipt = 0;
  /** Failures while its own PostgreSQL was away. */
  interrupted = 0;

  constructor(options: TillOptions) {
    this.#options = options;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { random, paceMs, machine, failed, registerCode, store } = this.#options;
    while (!signal.aborted) {
      const wasDown = machine.isDown;
      try {
        this.#db ??= await connect({
          url: machine.url,
          applicationName: `till ${registerCode}`,
          statementTimeoutMs: PATIENCE_MS,
        });
        await this.#step(this.#db);
      } catch (error) {
        // Everything it knows may be wrong now: a commit may have happened, the database may be an older one.
        await this.#db?.end().catch(() => undefined);
        this.#db = undefined;
        this.#session = undefined;
        if (wasDown || (await isAway(machine))) this.interrupted += 1;
        else failed(`${store.code} ${registerCode}: ${describe(error)}`);
        await pause(200);
      }
      await pause(random.int(paceMs));
    }
    await this.#db?.end().catch(() => undefined);
  }

  async #step(db: pg.Client): Promise<void> {
    const { random } = this.#options;
    const session = (this.#session ??= await this.#findSession(db));
    const draw = random.int(100);
    if (draw < 66) await this.#sell(db, session, 'sale');
    else if (draw < 71) await this.#sell(db, session, 'refund');
    else if (draw < 76) await this.#void(db, session);
    else if (draw < 82) await this.#adjust(db);
    else if (draw < 85) await this.#close(db, session);
    else if (draw < 86) await this.#zz(db);
    else await this.#transfer(db, draw);
  }

  async #attempt(
    db: pg.Client,
    attempt: Omit<Attempt, 'store' | 'clone'>,
    prepare: () => Promise<unknown>,
  ): Promise<void> {
    const { oracle, store, clone = false } = this.#options;
    await oracle.attempt({ ...attempt, store: store.code, clone }, prepare, () => db.query('commit'));
  }

  /** As after a power cut: what the database says is open is open. */
  async #findSession(db: pg.Client): Promise<Session> {
    const { store, registerCode } = this.#options;
    const found = await db.query<{ id: string; session: string | null }>(
      `select r.id, (select s.id from public.register_sessions s
                      where s.register_id = r.id and s.status = 'open' order by s.id desc limit 1) as session
         from public.registers r where r.code = $1::text`,
      [registerCode],
    );
    let registerId = found.rows[0]?.id;
    if (registerId === undefined) {
      const id = (registerId = uuidv7());
      await this.#attempt(db, { facts: { [`register:${id}`]: registerCode } }, async () => {
        await db.query('begin');
        await db.query(
          `insert into public.registers (id, store_id, code, name) values ($1::uuid, $2::integer, $3::text, $3::text)`,
          [id, store.id, registerCode],
        );
      });
    }
    const open = found.rows[0]?.session ?? undefined;
    if (open !== undefined) return { id: open, registerId, lastSale: undefined };
    const session = { id: uuidv7(), registerId, lastSale: undefined };
    await this.#attempt(db, { facts: { [`session:${session.id}`]: '10000' } }, async () => {
      await db.query('begin');
      await openSession(db, {
        id: session.id,
        storeId: store.id,
        registerId: session.registerId,
        userId: this.#userId,
        openedAt: new Date().toISOString(),
        openingAmount: 10_000,
      });
    });
    return session;
  }

  async #sell(db: pg.Client, session: Session, kind: 'sale' | 'refund'): Promise<void> {
    const { random, store, registerCode } = this.#options;
    const sign = kind === 'refund' ? -1 : 1;
    this.#receipt += 1;
    const sale: SaleToWrite = {
      ...momentOf(random),
      id: uuidv7(),
      storeId: store.id,
      registerId: session.registerId,
      sessionId: session.id,
      userId: this.#userId,
      kind,
      receipt: `${registerCode}-${this.#receipt}`,
      originalId: kind === 'refund' ? (session.lastSale ?? null) : null,
      lines: Array.from({ length: 1 + random.int(6) }, () => ({
        price: 1 + random.int(5_000),
        quantity: sign * (1 + random.int(3)),
        tax: sign * random.int(400),
      })),
      cash: random.chance(0.5),
    };
    await this.#attempt(db, { facts: { [`sale:${sale.id}`]: contentOf(sale) }, records: [session.id] }, () =>
      writeSale(db, sale),
    );
    if (kind === 'sale') session.lastSale = sale.id;
  }

  async #void(db: pg.Client, session: Session): Promise<void> {
    const id = session.lastSale;
    if (id === undefined) return;
    session.lastSale = undefined;
    await this.#attempt(db, { facts: { [`void:${id}`]: '' } }, async () => {
      await db.query('begin');
      await voidSale(db, id, this.#userId);
    });
  }

  async #adjust(db: pg.Client): Promise<void> {
    const { random, store } = this.#options;
    const id = uuidv7();
    const delta = 1_000 * (1 + random.int(9)) * (random.chance(0.5) ? 1 : -1);
    await this.#attempt(db, { facts: { [`adjustment:${id}`]: String(delta) } }, async () => {
      await db.query('begin');
      await adjust(db, { ...momentOf(random), id, storeId: store.id, delta, userId: this.#userId });
    });
  }

  async #close(db: pg.Client, session: Session): Promise<void> {
    const { random } = this.#options;
    const reportId = uuidv7();
    this.#session = undefined;
    // Two transactions of its own (closing; report and closed): the second one is the fact.
    await this.#options.oracle.attempt(
      {
        store: this.#options.store.code,
        clone: this.#options.clone ?? false,
        facts: { [`z:${reportId}`]: session.id },
        records: [session.id],
      },
      () => Promise.resolve(),
      () =>
        closeSession(db, {
          sessionId: session.id,
          reportId,
          closedAt: new Date().toISOString(),
          businessDate: momentOf(random).businessDate,
          overShort: random.int(200) - 100,
        }),
    );
  }

  async #zz(db: pg.Client): Promise<void> {
    const id = uuidv7();
    const month = new Date().toISOString().slice(0, 7);
    await this.#attempt(db, { facts: { [`zz:${id}`]: month } }, async () => {
      await db.query('begin');
      await writeZz(db, id, this.#options.store.id, month);
    });
  }

  async #transfer(db: pg.Client, draw: number): Promise<void> {
    const { random, store, others } = this.#options;
    if (others.length === 0) return;
    if (draw < 90) {
      await writeDraft(db, {
        id: uuidv7(),
        from: store.id,
        to: random.pick(others),
        userId: this.#userId,
        quantities: Array.from({ length: 1 + random.int(3) }, () => 1_000 * (1 + random.int(20))),
      });
      return;
    }
    const step = draw < 93 ? 'draft' : draw < 96 ? 'pending' : 'arriving';
    const found = await findTransfer(db, store.id, step);
    if (found === undefined) return;
    const { id, content } = found;
    if (step === 'arriving') {
      await this.#attempt(db, { facts: { [`receipt:${id}`]: content } }, () =>
        writeReceipt(db, id, this.#userId),
      );
      return;
    }
    const to = step === 'draft' ? 'pending' : random.chance(0.85) ? 'in_transit' : 'cancelled';
    const fact = step === 'draft' ? { [`transfer:${id}`]: content } : { [`${to}:${id}`]: '' };
    await this.#attempt(db, { facts: fact }, async () => {
      await db.query('begin');
      await moveTransfer(db, id, to);
    });
  }
}

/** A till may feel a crash before the bench knows of it. */
async function isAway(machine: Machine): Promise<boolean> {
  if (machine.isDown) return true;
  await pause(300);
  return machine.isDown;
}

function describe(error: unknown): string {
  const code = sqlstateOf(error) ?? codeOf(error) ?? '';
  return `${code} ${error instanceof Error ? error.message : String(error)}`.trim();
}
