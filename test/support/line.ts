/** A store behind a line that can fail: its daemon, the proxy between it and HQ, and a till that counts what it sold. */
import { TestStore, type TestHq } from './chain.ts';
import { FaultProxy } from './fault-proxy.ts';
import { addRegister, openSession, sell } from './pos.ts';
import { until } from './until.ts';

export class Line {
  readonly hq: TestHq;
  readonly proxy: FaultProxy;
  readonly store: TestStore;
  #session: string | undefined;
  sold = 0;

  private constructor(hq: TestHq, proxy: FaultProxy, store: TestStore) {
    this.hq = hq;
    this.proxy = proxy;
    this.store = store;
  }

  static async open(hq: TestHq, code: string): Promise<Line> {
    const proxy = new FaultProxy({ host: '127.0.0.1', port: hq.port });
    await proxy.open();
    const store = await TestStore.open(hq, code, { hqUrl: `http://127.0.0.1:${proxy.port}` });
    const line = new Line(hq, proxy, store);
    await store.untilLight('green');
    return line;
  }

  async close(): Promise<void> {
    await this.store.close();
    await this.proxy.close();
  }

  async sell(): Promise<void> {
    const till = await this.store.database.connect();
    try {
      this.#session ??= await openSession(till, await addRegister(till, this.store.id), this.store.id);
      this.sold += 1;
      await sell(till, this.#session, { storeId: this.store.id, receipt: `R-${this.sold}` });
    } finally {
      await till.end();
    }
  }

  async salesAtHq(): Promise<number> {
    const { rows } = await this.hq.pool.query<{ n: number }>(
      'select count(*) as n from public.sales where store_id = $1::integer',
      [this.store.id],
    );
    return rows[0]?.n ?? 0;
  }

  async untilDelivered(): Promise<void> {
    await until(async () => (await this.salesAtHq()) === this.sold, {
      what: `HQ has all ${this.sold} sales`,
      timeoutMs: 30_000,
    });
  }

  async untilHqSays(light: 'green' | 'red'): Promise<void> {
    await until(async () => (await this.hq.light(this.store.id)) === light, {
      what: `HQ calls the store ${light}`,
      timeoutMs: 20_000,
    });
  }

  async untilReason(code: string): Promise<void> {
    await until(async () => (await this.store.link()).code === code, {
      what: `the link says ${code}`,
      timeoutMs: 20_000,
    });
  }
}
