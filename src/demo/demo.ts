/**
 * `possync demo`: a chain in a box. HQ and its stores on a private PostgreSQL, tills that sell, prices and roles that
 * change, one store that is cut off and comes back; at the end both sides are compared row by row.
 *
 * It draws nothing: the command line shows the frames it hands out.
 */
import { connect } from '../db/pool.ts';
import { countDifferences } from '../db/compare.ts';
import { queryOne } from '../db/transaction.ts';
import { systemClock, type Clock } from '../core/clock.ts';
import { uuidv7 } from '../core/ids.ts';
import type { Log } from '../core/log.ts';
import { Random } from '../core/random.ts';
import { addUser, changeSomething, fillHeadOffice } from './catalogue.ts';
import { Chain, type ChainStore } from './chain.ts';
import { startPostgres } from './postgres.ts';
import { Till } from './till.ts';

export interface DemoOptions {
  /** Runs until `signal` aborts when undefined. */
  readonly forMs: number | undefined;
  readonly stores: number;
  readonly seed: number;
  readonly signal: AbortSignal;
  readonly log: Log;
  /** HQ's port: taken if it is free, else another one. */
  readonly port: number;
  readonly onStep: (text: string) => void;
  /** `last`: both sides have been compared, nothing follows. */
  readonly onFrame: (frame: DemoFrame, last: boolean) => void;
  readonly clock?: Clock;
}

/** What the demo looks like at one moment. */
export interface DemoFrame {
  readonly elapsedMs: number;
  readonly hqUrl: string;
  readonly salesMade: number;
  readonly salesAtHq: number;
  readonly events: readonly string[];
  readonly stores: readonly DemoStoreFrame[];
}

export interface DemoStoreFrame {
  readonly code: string;
  readonly name: string;
  readonly light: 'green' | 'red';
  /** Store transactions that HQ has not acknowledged. */
  readonly queued: number;
  readonly sales: number;
  readonly zReports: number;
  /** Head-office records that the store has not applied. */
  readonly behind: number;
}

export interface DemoResult {
  readonly stores: number;
  readonly salesMade: number;
  readonly salesAtHq: number;
  /** Rows that differ between a store and HQ after the queues have drained. */
  readonly differences: number;
  readonly rowsCompared: number;
  readonly seconds: number;
}

const CITIES = ['New York', 'Chicago', 'Boston', 'Denver', 'Austin', 'Seattle', 'Miami', 'Portland'] as const;
const PRODUCTS = 200;
const TILLS_PER_STORE = 2;
const FRAME_MS = 500;
/** What the tills wrote in the last second must not be called lost: the comparison waits for it. */
const SETTLE_MS = 60_000;

export async function runDemo(options: DemoOptions): Promise<DemoResult> {
  const clock = options.clock ?? systemClock;
  options.onStep('starting PostgreSQL');
  const postgres = await startPostgres({
    durable: true,
    prefer: 'local',
    maxConnections: 40 + 20 * options.stores,
  });
  try {
    options.onStep('opening head office and stores');
    const chain = await Chain.start({
      databaseUrl: (database) => postgres.url(database),
      prefix: 'demo',
      stores: Array.from({ length: options.stores }, (_, n) => ({
        code: `${(CITIES[n % CITIES.length] ?? 'City').slice(0, 3).toUpperCase()}-${String(n + 1).padStart(3, '0')}`,
        name: CITIES[n % CITIES.length] ?? 'City',
        timeZone: 'America/New_York',
      })),
      log: options.log,
      pushIntervalMs: 2_000,
      port: options.port,
      clock,
    });
    try {
      return await new Demo(chain, options, clock).run();
    } finally {
      await chain.stop();
    }
  } finally {
    await postgres.stop();
  }
}

class Demo {
  readonly #chain: Chain;
  readonly #options: DemoOptions;
  readonly #clock: Clock;
  readonly #startedAt: number;
  readonly #events: string[] = [];
  readonly #tills = new Map<string, Till[]>();
  readonly #over = new AbortController();

  constructor(chain: Chain, options: DemoOptions, clock: Clock) {
    this.#chain = chain;
    this.#options = options;
    this.#clock = clock;
    this.#startedAt = clock.now();
  }

  async run(): Promise<DemoResult> {
    const { signal, forMs, stores, onStep } = this.#options;
    onStep('filling the catalogue');
    await fillHeadOffice(this.#chain.hq, PRODUCTS);
    for (const store of this.#chain.stores)
      await addUser(this.#chain.hq, `cashier-${store.code}`, 'Cashier', store.id);
    const stopAll = (): void => {
      this.#over.abort();
    };
    signal.addEventListener('abort', stopAll);
    const cancel = forMs === undefined ? undefined : this.#clock.after(forMs, stopAll);
    try {
      await Promise.all([this.#sell(), this.#changePrices(), this.#playStory(), this.#draw()]);
    } finally {
      cancel?.();
      signal.removeEventListener('abort', stopAll);
    }
    for (const store of this.#chain.stores) store.cable.mend();
    onStep('tills closed; waiting until every queue is empty');
    await this.#chain.settle(SETTLE_MS);
    onStep('comparing both sides row by row');
    const compared = (await this.#chain.compare()).flatMap((store) => store.tables);
    this.#options.onFrame(await this.#frame(), true);
    return {
      stores,
      salesMade: this.#salesMade(),
      salesAtHq: await this.#salesAtHq(),
      differences: countDifferences(compared),
      rowsCompared: compared.reduce((sum, table) => sum + table.rowsStore, 0),
      seconds: Math.round((this.#clock.now() - this.#startedAt) / 1_000),
    };
  }

  /** Two tills per store, each a client of its own, selling until the end and then closing their day. */
  async #sell(): Promise<void> {
    await Promise.all(
      this.#chain.stores.flatMap((store) =>
        Array.from({ length: TILLS_PER_STORE }, (_, n) => this.#runTill(store, n + 1)),
      ),
    );
  }

  async #runTill(store: ChainStore, n: number): Promise<void> {
    const random = new Random(this.#options.seed + store.id * 100 + n);
    const registerId = uuidv7();
    const db = await connect({ url: store.databaseUrl, applicationName: `till ${store.code} ${n}` });
    try {
      await db.query(
        `insert into public.registers (id, store_id, code, name) values ($1::uuid, $2::int, $3::text, $4::text)`,
        [registerId, store.id, `R${n}`, `Register ${n}`],
      );
      const till = new Till(db, {
        storeId: store.id,
        registerId,
        registerCode: `${store.code}-R${n}`,
        random,
      });
      this.#tills.set(store.code, [...(this.#tills.get(store.code) ?? []), till]);
      while (!this.#over.signal.aborted) {
        await till.step();
        await this.#clock.sleep(50 + random.int(200), this.#over.signal);
      }
      await till.close();
    } finally {
      await db.end();
    }
  }

  async #changePrices(): Promise<void> {
    const random = new Random(this.#options.seed);
    while (!this.#over.signal.aborted) {
      await changeSomething(this.#chain.hq, random);
      await this.#clock.sleep(500 + random.int(1_000), this.#over.signal);
    }
  }

  /** Cuts one store off after a quarter of the time and mends the line after three quarters of it. */
  async #playStory(): Promise<void> {
    const victim = this.#chain.stores[this.#options.seed % this.#chain.stores.length];
    if (victim === undefined) return;
    const wholeMs = this.#options.forMs ?? 40_000;
    await this.#clock.sleep(wholeMs / 4, this.#over.signal);
    if (this.#over.signal.aborted) return;
    victim.cable.cut();
    this.#tell(`the line to ${victim.code} is cut; its tills go on selling`);
    await this.#clock.sleep(wholeMs / 2, this.#over.signal);
    victim.cable.mend();
    victim.daemon.reconnect();
    this.#tell(`the line to ${victim.code} is back`);
  }

  async #draw(): Promise<void> {
    while (!this.#over.signal.aborted) {
      this.#options.onFrame(await this.#frame(), false);
      await this.#clock.sleep(FRAME_MS, this.#over.signal);
    }
  }

  async #frame(): Promise<DemoFrame> {
    const { head } = await queryOne<{ head: number }>(this.#chain.hq, 'select pos as head from possync.head');
    return {
      elapsedMs: this.#clock.now() - this.#startedAt,
      hqUrl: this.#chain.hqUrl,
      salesMade: this.#salesMade(),
      salesAtHq: await this.#salesAtHq(),
      events: this.#events,
      stores: await Promise.all(this.#chain.stores.map((store) => this.#storeFrame(store, head))),
    };
  }

  async #storeFrame(store: ChainStore, head: number): Promise<DemoStoreFrame> {
    const row = await queryOne<{ name: string | null; light: 'green' | 'red'; queued: number; pos: number }>(
      store.pool,
      `select (select s.name from public.stores s where s.id = $1::int) as name,
              coalesce((select l.indicator from possync.link l), 'red') as light,
              (select count(distinct r.xid) from possync.raw r)
                + (select count(*) from possync.outbox o join possync.sending d on (o.epoch, o.seq) > (d.epoch, d.seq)) as queued,
              (select c.pos from possync.cursor c) as pos`,
      [store.id],
    );
    const tills = this.#tills.get(store.code) ?? [];
    return {
      code: store.code,
      name: row.name ?? '',
      light: row.light,
      queued: row.queued,
      sales: tills.reduce((sum, till) => sum + till.counts.sales, 0),
      zReports: tills.reduce((sum, till) => sum + till.counts.zReports, 0),
      behind: Math.max(0, head - row.pos),
    };
  }

  #salesMade(): number {
    return [...this.#tills.values()].flat().reduce((sum, till) => sum + till.counts.sales, 0);
  }

  async #salesAtHq(): Promise<number> {
    const { sales } = await queryOne<{ sales: number }>(
      this.#chain.hq,
      'select count(*) as sales from public.sales',
    );
    return sales;
  }

  #tell(text: string): void {
    const seconds = Math.round((this.#clock.now() - this.#startedAt) / 1_000);
    this.#events.push(`${seconds}s  ${text}`);
  }
}
