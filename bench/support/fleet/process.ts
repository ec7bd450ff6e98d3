/** The load process: plays all stores of a fleet and obeys the bench that forked it. It ends when that one does. */
import { setTimeout as sleep } from 'node:timers/promises';
import { percentile } from '../report.ts';
import { openShift, saleBody, type Shift } from './bodies.ts';
import { serve } from './child.ts';
import { timestampMs, type Arrivals, type FleetCommands, type Lights, type Pushed } from './commands.ts';
import { rotatingStore } from './rotating.ts';
import { FleetStore } from './store.ts';

let stores: FleetStore[] = [];
/** Since the last mark. */
let ends = new Map<string, number>();
let pullsFailed = new Map<string, number>();
let refused = new Map<FleetStore, number>();
const shifts = new Map<FleetStore, Shift>();
const greenAt = new Map<FleetStore, number>();
const headAt = new Map<FleetStore, { readonly head: number; readonly at: number }>();
let changed: () => void = () => undefined;

const EVENTS = {
  light: (store: FleetStore, green: boolean): void => {
    if (green) greenAt.set(store, timestampMs());
    else greenAt.delete(store);
    changed();
  },
  down: (store: FleetStore, code: string): void => {
    count(ends, code);
    // Nobody listened, or a connection died with its HQ: no HQ has refused anything.
    if (!/^PS-(TCP-|WS-CLOSED|WS-SILENT)/.test(code)) refused.set(store, (refused.get(store) ?? 0) + 1);
  },
  pulled: (store: FleetStore, head: number): void => {
    if ((headAt.get(store)?.head ?? -1) >= head) return;
    headAt.set(store, { head, at: timestampMs() });
    changed();
  },
  pullFailed: (_store: FleetStore, code: string): void => {
    count(pullsFailed, code);
  },
};

function count(map: Map<string, number>, key: string): void {
  map.set(key, (map.get(key) ?? 0) + 1);
}

const COMMANDS: FleetCommands = {
  async open({ stores: identities, dir, ...spec }) {
    stores =
      dir === undefined
        ? identities.map((identity) => new FleetStore(identity, spec, EVENTS))
        : await Promise.all(identities.map((identity) => rotatingStore(identity, spec, EVENTS, dir)));
  },
  connect({ perSecond }) {
    void (async () => {
      const begun = performance.now();
      for (const [n, store] of stores.entries()) {
        const dueIn = (n / perSecond) * 1_000 - (performance.now() - begun);
        if (dueIn > 5) await sleep(dueIn);
        store.connect();
      }
    })();
  },
  mark() {
    ends = new Map();
    pullsFailed = new Map();
    refused = new Map();
  },
  lights: (): Lights => ({
    green: greenAt.size,
    ends: Object.fromEntries(ends),
    refusedOnce: [...refused.values()].filter((times) => times === 1).length,
    refusedMore: [...refused.values()].filter((times) => times > 1).length,
    pullsFailed: Object.fromEntries(pullsFailed),
  }),
  async openShifts({ inFlight }) {
    for (const store of stores) {
      const { shift, body } = openShift(store.storeId);
      shifts.set(store, shift);
      store.write([body], 1);
    }
    await pushAll(inFlight);
  },
  write({ batchesPerStore, salesPerBatch }) {
    for (const [store, shift] of shifts) {
      const sales = Array.from({ length: batchesPerStore * salesPerBatch }, (_, n) => saleBody(shift, n));
      store.write(sales, salesPerBatch);
    }
  },
  push: ({ inFlight }) => pushAll(inFlight),
  allGreen: ({ afterMs, timeoutMs }) =>
    all(timeoutMs, (store) => {
      const at = greenAt.get(store);
      return at !== undefined && at > afterMs ? at : undefined;
    }),
  allAbove: ({ pos, timeoutMs }) =>
    all(timeoutMs, (store) => {
      const there = headAt.get(store);
      return there !== undefined && there.head > pos ? there.at : undefined;
    }),
  async stop() {
    await Promise.all(stores.map((store) => store.stop()));
  },
};

/** Everything that is written, a batch of each store after the other; no store has two on their way. */
async function pushAll(inFlight: number): Promise<Pushed> {
  const line = stores.filter(({ queued }) => queued > 0);
  const times: number[] = [];
  let later = 0;
  const begun = performance.now();
  const slot = async (): Promise<void> => {
    for (let store = line.shift(); store !== undefined; store = line.shift()) {
      const sent = performance.now();
      const answer = await store.push();
      if (answer === undefined) {
        times.push(performance.now() - sent);
      } else {
        later += 1;
        await sleep(answer.laterMs);
      }
      if (store.queued > 0) line.push(store);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, slot));
  const ms = performance.now() - begun;
  return { batches: times.length, ms, later, p50: percentile(times, 0.5), p99: percentile(times, 0.99) };
}

/** Waits until every store has such a moment. */
async function all(
  timeoutMs: number,
  momentOf: (store: FleetStore) => number | undefined,
): Promise<Arrivals> {
  const giveUpAt = performance.now() + timeoutMs;
  for (;;) {
    const there = stores.map(momentOf).filter((at) => at !== undefined);
    if (there.length === stores.length)
      return { first: Math.min(...there), median: percentile(there, 0.5), last: Math.max(...there) };
    if (performance.now() > giveUpAt)
      throw new Error(
        `${there.length} of ${stores.length} stores within ${timeoutMs} ms: ${JSON.stringify(COMMANDS.lights())}`,
      );
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, 200);
      changed = () => {
        // Once for a burst: looking at all stores for each of them would be quadratic.
        changed = () => undefined;
        clearTimeout(timer);
        setTimeout(resolve, 20);
      };
    });
  }
}

serve(COMMANDS);
