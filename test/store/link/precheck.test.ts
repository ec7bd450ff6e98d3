/** When a daemon diagnoses itself, how often, and how long what it found is shown. */
import assert from 'node:assert/strict';
import type { LinkSnapshot } from '../../../src/store/link/link-snapshot.ts';
import { Prechecks, type Found } from '../../../src/store/link/precheck.ts';
import type { Reason, StateName } from '../../../src/store/link/state.ts';
import { HandClock } from '../../support/hand-clock.ts';
import { memoryLog } from '../../support/memory-log.ts';

const HOUR = 3_600_000;
const MINUTE = 60_000;
const DROPPED: Reason = { code: 'PS-TCP-DROPPED', message: 'HQ did not answer in time' };
const REFUSED: Reason = { code: 'PS-TCP-REFUSED', message: 'the connection to HQ was refused' };
const FOUND: Found = { code: 'PS-DNS-HOSTS', cause: 'The hosts file is wrong.', action: 'remove the line' };

/** A link in the hand of a test: it says what it is told to say. */
class World {
  readonly clock = new HandClock();
  readonly log = memoryLog();
  looks = 0;
  told = 0;
  answer: (signal: AbortSignal) => Promise<Found | undefined> = () => Promise.resolve(FOUND);
  readonly prechecks: Prechecks;
  #link: LinkSnapshot = {
    indicator: 'red',
    state: 'idle',
    session: 'none',
    sinceMs: 0,
    lastFrameMs: null,
    rttMs: null,
    skew: null,
    reason: null,
    diagnosedMs: null,
    attempt: 0,
    nextAttemptMs: null,
    hqUrl: 'https://hq.example:3001',
    hqVersion: null,
    hqHead: null,
    tls: null,
  };

  constructor(random = 0) {
    this.prechecks = new Prechecks({
      clock: this.clock,
      log: this.log,
      look: async (signal) => {
        this.looks += 1;
        return await this.answer(signal);
      },
      snapshot: () => this.#link,
      found: () => {
        this.told += 1;
      },
      random: () => random,
    });
    this.prechecks.start();
  }

  to(state: StateName, reason: Reason | null): void {
    this.#link = { ...this.#link, state, indicator: state === 'online' ? 'green' : 'red', reason };
    this.prechecks.linkChanged();
  }

  /** An attempt that fails, and time for what follows at once. */
  async fails(reason: Reason): Promise<void> {
    this.to('connecting', reason);
    this.to('waiting', reason);
    await this.settled();
  }

  /** Everything that waits for nothing but a turn of the loop has had it. */
  async settled(): Promise<void> {
    this.clock.advance(0);
    for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  }

  get shown(): string | undefined {
    return this.prechecks.explained().reason?.code;
  }

  get lines(): number {
    return this.log.lines.filter(({ event }) => event === 'link.diagnosed').length;
  }
}

describe('the diagnosis of a daemon that cannot connect', () => {
  it('looks after the first failed attempt, shows the cause in place of the symptom, and logs one line', async () => {
    const world = new World();
    await world.fails(DROPPED);
    assert.deepEqual([world.looks, world.told, world.lines], [1, 1, 1]);
    const { reason, diagnosedMs } = world.prechecks.explained();
    assert.deepEqual(reason, { code: 'PS-DNS-HOSTS', message: 'The hosts file is wrong.' });
    assert.equal(diagnosedMs, world.clock.now());
    world.to('connecting', DROPPED);
    assert.equal(world.shown, 'PS-DNS-HOSTS', 'while the next attempt is under way as well');
  });

  it('looks at most once an hour while it stays red', async () => {
    const world = new World();
    const began = world.clock.now();
    for (let minute = 0; minute < 150; minute += 1) {
      await world.fails(DROPPED);
      world.clock.advance(MINUTE);
    }
    assert.equal(world.clock.now() - began, 150 * MINUTE);
    assert.deepEqual([world.looks, world.lines], [3, 3], 'at 0, 60 and 120 minutes');
  });

  it('forgets what it found as soon as the light is green, and looks again in the next outage', async () => {
    const world = new World();
    await world.fails(DROPPED);
    world.to('online', null);
    assert.equal(world.shown, undefined);
    assert.equal(world.prechecks.explained().diagnosedMs, null);
    world.to('waiting', DROPPED);
    assert.equal(world.shown, 'PS-TCP-DROPPED', 'what was true in the last outage says nothing of this one');
    await world.fails(DROPPED);
    assert.equal(world.looks, 1, 'a line that flaps is not looked at after each break');
    world.clock.advance(5 * MINUTE);
    await world.fails(DROPPED);
    assert.deepEqual([world.looks, world.shown], [2, 'PS-DNS-HOSTS']);
  });

  it('shows what the attempt says as soon as attempts fail in another way', async () => {
    const world = new World();
    await world.fails(DROPPED);
    await world.fails(REFUSED);
    assert.deepEqual([world.shown, world.looks], ['PS-TCP-REFUSED', 1]);
    await world.fails(DROPPED);
    assert.equal(world.shown, 'PS-DNS-HOSTS');
    world.clock.advance(HOUR);
    await world.fails(REFUSED);
    assert.deepEqual([world.shown, world.looks], ['PS-DNS-HOSTS', 2]);
  });

  it('does not look where HQ itself has answered, nor when an open connection ends', async () => {
    const world = new World();
    for (const code of ['PS-TOKEN-REVOKED', 'PS-HQ-BUSY', 'PS-STORE-DISABLED', 'PS-DB-DOWN'] as const)
      await world.fails({ code, message: 'so' });
    world.to('online', null);
    world.to('waiting', { code: 'PS-WS-SILENT', message: 'no frame from HQ for 10 s' });
    await world.settled();
    assert.equal(world.looks, 0);
    await world.fails({ code: 'PS-WS-SILENT', message: 'no frame from HQ for 10 s' });
    assert.equal(world.looks, 1, 'the attempt after it failed');
  });

  it('waits up to ten seconds, and does not look at all where the next attempt succeeds meanwhile', async () => {
    const world = new World(0.9);
    await world.fails(REFUSED);
    world.clock.advance(8_900);
    await world.settled();
    assert.equal(world.looks, 0);
    world.to('online', null);
    world.clock.advance(HOUR);
    await world.settled();
    assert.equal(world.looks, 0);
    await world.fails(REFUSED);
    world.clock.advance(9_000);
    await world.settled();
    assert.equal(world.looks, 1);
  });

  it('says so where nothing fails, and keeps the word of the attempt; likewise when it fails itself', async () => {
    const world = new World();
    world.answer = () => Promise.resolve(undefined);
    await world.fails(DROPPED);
    assert.deepEqual([world.shown, world.lines, world.told], ['PS-TCP-DROPPED', 1, 0]);
    world.answer = () => Promise.reject(new Error('broken'));
    world.clock.advance(HOUR);
    await world.fails(DROPPED);
    assert.deepEqual([world.looks, world.shown, world.lines], [2, 'PS-TCP-DROPPED', 1]);
  });

  it('gives up a diagnosis that does not end, after fifteen seconds or with the daemon', async () => {
    const world = new World();
    const given: AbortSignal[] = [];
    world.answer = (signal) => {
      given.push(signal);
      return new Promise(() => undefined);
    };
    await world.fails(DROPPED);
    assert.equal(given.at(-1)?.aborted, false);
    world.clock.advance(15_000);
    await world.settled();
    assert.equal(given.at(-1)?.aborted, true);
    assert.equal(world.shown, 'PS-TCP-DROPPED');
    world.clock.advance(HOUR);
    await world.fails(DROPPED);
    assert.equal(world.looks, 2);
    await world.prechecks.stop();
    assert.equal(given.at(-1)?.aborted, true);
  });

  it('shows nothing that was found after the light had turned green', async () => {
    const world = new World();
    let tell: (found: Found) => void = () => undefined;
    world.answer = () =>
      new Promise((resolve) => {
        tell = resolve;
      });
    await world.fails(DROPPED);
    world.to('online', null);
    tell(FOUND);
    await world.settled();
    world.to('waiting', DROPPED);
    assert.deepEqual([world.shown, world.lines], ['PS-TCP-DROPPED', 0]);
  });
});
