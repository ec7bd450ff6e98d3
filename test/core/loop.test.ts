/** The loop of a service: never twice at once, and over when stop() says so. */
import assert from 'node:assert/strict';
import { Loop } from '../../src/core/loop.ts';

describe('the loop of a service', () => {
  /** A loop that ends when told to, but not before the test lets it. */
  function held(): { loop: Loop; events: string[]; release: () => void } {
    const events: string[] = [];
    let release = (): void => undefined;
    let runs = 0;
    const loop = new Loop(async (signal) => {
      const run = (runs += 1);
      events.push(`${run} begins`);
      const released = new Promise<void>((resolve) => (release = resolve));
      await new Promise<void>((resolve) => {
        signal.addEventListener('abort', () => {
          resolve();
        });
      });
      events.push(`${run} is told to end`);
      await released;
      events.push(`${run} ends`);
    });
    return {
      loop,
      events,
      release: () => {
        release();
      },
    };
  }

  it('begins at once, and only one time however often it is started', async () => {
    const { loop, events, release } = held();
    loop.start();
    loop.start();
    assert.deepEqual(events, ['1 begins']);
    release();
    await loop.stop();
    assert.deepEqual(events, ['1 begins', '1 is told to end', '1 ends']);
  });

  it('is over when stop() returns, also for the second who asks', async () => {
    const { loop, events, release } = held();
    loop.start();
    const first = loop.stop().then(() => events.push('first knows'));
    const second = loop.stop().then(() => events.push('second knows'));
    release();
    await Promise.all([first, second]);
    assert.equal(events[2], '1 ends');
    assert.deepEqual(events.slice(3).toSorted(), ['first knows', 'second knows']);
  });

  it('that is started again before it has ended begins behind itself, never beside', async () => {
    const { loop, events, release } = held();
    loop.start();
    const stopped = loop.stop();
    loop.start();
    await Promise.resolve();
    assert.deepEqual(events, ['1 begins', '1 is told to end']);
    release();
    await stopped;
    const again = loop.stop();
    assert.deepEqual(events.slice(2, 4), ['1 ends', '2 begins']);
    release();
    await again;
    assert.equal(events.at(-1), '2 ends');
  });
});
