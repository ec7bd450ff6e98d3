/** Both ends of the way up without a network between: hello and push as function calls, for tests. */
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { ENTITIES, upEntities, type Entity } from '../../src/protocol/entities.ts';
import type { Hello, Instance, Push, Refuse, Welcome } from '../../src/protocol/messages.ts';
import { compareStore, type TableComparison } from '../../src/db/compare.ts';
import { hello } from '../../src/hq/inbox/hello.ts';
import { push, type PushResult, type PushOptions } from '../../src/hq/inbox/push.ts';
import { readStoreIdentity } from '../../src/store/outbox/identity.ts';
import { Outbox, type BatchLimit } from '../../src/store/outbox/outbox.ts';
import type { TestSide } from './pos.ts';

export function anInstance(): Instance {
  return { boot: randomUUID(), daemon: randomUUID(), pgSysid: '7000000000000000001' };
}

/** A daemon of a store, reduced to the way up. */
export class Up {
  readonly outbox: Outbox;
  readonly instance = anInstance();
  readonly #store: TestSide;
  readonly #hq: pg.Pool;
  readonly #storeId: number;
  fence: string | undefined;

  constructor(store: TestSide, hq: TestSide, storeId = 7) {
    this.#store = store;
    this.#hq = hq.pool;
    this.#storeId = storeId;
    this.outbox = new Outbox(store.pool);
  }

  async helloMessage(): Promise<Hello> {
    const identity = await readStoreIdentity(this.#store.db);
    return {
      type: 'hello',
      v: 1,
      store: identity?.code ?? '',
      instance: this.instance,
      in: { pos: 0, nonce: null, paged: 0 },
      bodyVersion: 2,
      software: 'possync test',
      ...(await this.outbox.helloPart()),
    };
  }

  async hello(isAlive: (instance: Instance) => boolean = () => false): Promise<Welcome | Refuse> {
    const answer = await hello(this.#hq, this.#storeId, await this.helloMessage(), (instance) =>
      Promise.resolve(isAlive(instance)),
    );
    if (answer.type === 'welcome') {
      this.fence = answer.fence;
      await this.outbox.applyWelcome(answer);
    } else {
      await this.outbox.refused(answer);
    }
    return answer;
  }

  /** The next batch as it would go over the wire. */
  async message(limit: BatchLimit = {}): Promise<Push | undefined> {
    const batch = await this.outbox.nextBatch(limit);
    return batch === undefined ? undefined : { ...batch, fence: this.fence ?? randomUUID() };
  }

  async send(message: Push, options?: PushOptions): Promise<PushResult> {
    return push(this.#hq, this.#storeId, message, options);
  }

  /** Seals and sends until nothing is left; returns the number of batches. */
  async drain(limit: BatchLimit = {}): Promise<number> {
    if (this.fence === undefined) await this.hello();
    await this.outbox.seal();
    for (let batches = 0; ; batches += 1) {
      const message = await this.message(limit);
      if (message === undefined) return batches;
      const result = await this.send(message);
      if (result.result === 'not-ready') throw result.error;
      const settled =
        result.result === 'ok'
          ? await this.outbox.acknowledge(message, result.answer)
          : await this.outbox.conflicted(result.conflict);
      if (settled.result === 'hello') await this.hello();
      if (settled.result === 'halted') throw new Error(`${settled.code}: ${settled.why}`);
    }
  }
}

/** Tables that travel up, in which store and HQ differ, with what differs; empty = equal row by row. */
export async function differences(
  hq: TestSide,
  store: TestSide,
  storeId = 7,
): Promise<Pick<TableComparison, 'table' | 'differing' | 'missingAtHq' | 'missingAtStore'>[]> {
  // What comes down is not looked at: here nothing brings it.
  const entities = upEntities(ENTITIES).map((entity): Entity => ({ ...entity, direction: 'up' }));
  const compared = await compareStore(hq.db, store.db, storeId, entities);
  return compared
    .filter((t) => t.differing.length + t.missingAtHq.length + t.missingAtStore.length > 0)
    .map(({ table, differing, missingAtHq, missingAtStore }) => ({
      table,
      differing,
      missingAtHq,
      missingAtStore,
    }));
}
