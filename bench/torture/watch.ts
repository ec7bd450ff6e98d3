/** Looks at every database all the time: what must never be seen is not seen, not even for a moment. */
import { setTimeout as pause } from 'node:timers/promises';
import {
  readCauseless,
  readDoubled,
  readHalves,
  readHead,
  readStore,
  type InboxReading,
} from './readings.ts';
import type { Site, World } from './world.ts';

const EVERY_MS = 250;
/** Looks that read whole tables. */
const WHOLE_EVERY_MS = 3_000;

export class Watch {
  readonly #world: World;
  /** Looks that were answered. */
  looks = 0;
  /** Looks at a database that was away. */
  blind = 0;

  constructor(world: World) {
    this.#world = world;
  }

  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([
      ...this.#world.sites.map((site) => this.#every(signal, EVERY_MS, this.#storeLook(site))),
      this.#every(signal, EVERY_MS, this.#headLook()),
      this.#every(signal, WHOLE_EVERY_MS, () => this.#wholeLook()),
    ]);
  }

  async #every(signal: AbortSignal, ms: number, look: () => Promise<void>): Promise<void> {
    while (!signal.aborted) {
      try {
        await look();
        this.looks += 1;
      } catch {
        this.blind += 1; // a database that is away shows nothing
      }
      await pause(ms);
    }
  }

  /** Invariants 7, 8 and 17 in one store. */
  #storeLook(site: Site): () => Promise<void> {
    const world = this.#world;
    let before: { era: string; cursor: number } | undefined;
    let resyncs = { era: 0, n: 0 };
    return async () => {
      const era = `${site.era}/${world.hqEra}`;
      for (const half of await readHalves(site.machine.pool))
        world.violate('half-visible', `${site.code}: ${half.what} ${half.which} ${half.seen}`);
      const own = await readStore(site.machine.pool);
      const { inboxes } = await readHead(world.hq.pool);
      if (era !== `${site.era}/${world.hqEra}`) return; // something went back meanwhile: read again
      // Once for each time that HQ went back, a store begins its download anew, as soon as HQ tells it; and all of
      // that again if the store itself went back.
      if (resyncs.era !== site.era) resyncs = { era: site.era, n: 0 };
      if (before?.era === era && own.cursor < before.cursor) {
        if (resyncs.n < world.hqEra) resyncs.n += 1;
        else world.violate('monotone', `${site.code}: cursor ${before.cursor} became ${own.cursor}`);
      }
      before = { era, cursor: own.cursor };
      const inbox = inboxes.find(({ store_id }) => store_id === site.id);
      // Read after the store: HQ can only be further.
      if (inbox?.epoch !== own.ackedEpoch || world.hqEra > 0 || site.era > 0) return;
      if (own.acked > inbox.seq)
        world.violate('acked', `${site.code}: ${own.acked} acknowledged, HQ has ${inbox.seq}`);
    };
  }

  /** Invariants 1 and 16 at HQ: positions only grow, and HQ itself never holds half a change. */
  #headLook(): () => Promise<void> {
    const world = this.#world;
    let before: { era: number; head: number; inboxes: InboxReading[] } | undefined;
    return async () => {
      const era = world.hqEra;
      const { head, inboxes } = await readHead(world.hq.pool);
      for (const half of await readHalves(world.hq.pool))
        world.violate('bench', `HQ itself: ${half.what} ${half.which} ${half.seen}`);
      if (era !== world.hqEra) return;
      if (before?.era === era) {
        if (head < before.head) world.violate('monotone', `HQ's head ${before.head} became ${head}`);
        for (const was of before.inboxes) {
          const is = inboxes.find(({ store_id }) => store_id === was.store_id);
          if (is === undefined || wentBack(was, is))
            world.violate(
              'monotone',
              `inbox of ${was.store_id}: ${was.epoch}/${was.seq} became ${is?.epoch ?? 0}/${is?.seq ?? 0}`,
            );
        }
      }
      before = { era, head, inboxes };
    };
  }

  async #wholeLook(): Promise<void> {
    const world = this.#world;
    for (const what of await readDoubled(world.hq.pool)) world.violate('doubled', what);
    // Read before: what a disk forgets in between is then known.
    const causeless = await readCauseless(world.hq.pool);
    const rewritten = world.oracle.rewritten();
    for (const { id, what } of causeless) if (!rewritten.has(id)) world.violate('order', what);
  }
}

function wentBack(was: InboxReading, is: InboxReading): boolean {
  return is.epoch < was.epoch || (is.epoch === was.epoch && is.seq < was.seq);
}
