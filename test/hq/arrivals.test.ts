/** A chain that comes back at once is let in at HQ's pace, and no store is sent away twice. */
import assert from 'node:assert/strict';
import { PossyncError } from '../../src/core/errors.ts';
import { Arrivals } from '../../src/hq/arrivals.ts';
import { HandClock } from '../support/hand-clock.ts';

const ROOM = 10;

/** How long to stay away; undefined: it is inside. */
function enter(arrivals: Arrivals, store: number, leaves: (() => void)[]): number | undefined {
  try {
    leaves.push(arrivals.enter(`pst_${store}`));
    return undefined;
  } catch (error) {
    assert.ok(error instanceof PossyncError && error.code === 'PS-HQ-BUSY');
    const { retryMs } = error.details;
    assert.ok(typeof retryMs === 'number');
    return retryMs;
  }
}

describe('stores on their way in', () => {
  it('beyond the room get times of their own, one after the other, a second away at least', () => {
    const arrivals = new Arrivals(new HandClock(), ROOM);
    const leaves: (() => void)[] = [];
    const times = Array.from({ length: 1_000 }, (_, store) => enter(arrivals, store, leaves));
    assert.equal(leaves.length, ROOM);
    const away = times.slice(ROOM).map((time) => time ?? 0);
    assert.ok(away.every((time, n) => time >= 1_000 && time >= (away[n - 1] ?? 0)));
    // 250 a second at first.
    assert.deepEqual([away[0], away.at(-1)], [1_000, 1_000 + Math.round(989 * 4)]);
  });

  it('are let in at the time that they were given, even while others fill the room; none twice away', () => {
    const clock = new HandClock();
    const arrivals = new Arrivals(clock, ROOM);
    const due = new Map<number, number>();
    const inside: (() => void)[] = [];
    const refused = new Map<number, number>();
    const come = (store: number): void => {
      const away = enter(arrivals, store, inside);
      if (away === undefined) return;
      refused.set(store, (refused.get(store) ?? 0) + 1);
      due.set(store, clock.now() + away);
    };
    for (let store = 0; store < 200; store += 1) come(store);
    assert.equal([...due].length, 190);
    // HQ keeps the pace that it takes for its own, and strangers fill the room again and again.
    for (let at = 0; [...due].length > 0; at += 100) {
      clock.advance(100);
      for (const leave of inside.splice(0, 3 * ROOM)) leave();
      for (let stranger = 0; stranger < ROOM; stranger += 1) enter(arrivals, 1e6 + at + stranger, inside);
      for (const [store, time] of [...due]) {
        if (time > clock.now()) continue;
        due.delete(store);
        come(store);
      }
      assert.ok(at < 60_000);
    }
    assert.equal(Math.max(...refused.values()), 1);
  });

  it('who has given up, or says nothing, makes room after five seconds', () => {
    const clock = new HandClock();
    const arrivals = new Arrivals(clock, ROOM);
    const leaves: (() => void)[] = [];
    for (let store = 0; store < ROOM; store += 1) enter(arrivals, store, leaves);
    assert.ok(enter(arrivals, 99, leaves) !== undefined);
    clock.advance(5_000);
    assert.equal(arrivals.inside, 0);
    for (const leave of leaves) leave();
    assert.equal(arrivals.inside, 0, 'it has left once');
  });
});
