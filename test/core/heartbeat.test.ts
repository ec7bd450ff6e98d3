/** The heartbeat, with time in hand: pings every beat, silence tells once, any frame keeps it alive. */
import assert from 'node:assert/strict';
import { Heartbeat } from '../../src/core/heartbeat.ts';
import { HandClock } from '../support/hand-clock.ts';

describe('heartbeat', () => {
  const begin = () => {
    const clock = new HandClock();
    const sent: number[] = [];
    let silences = 0;
    const heartbeat = new Heartbeat({
      clock,
      ping: (n) => sent.push(n),
      silent: () => {
        silences += 1;
      },
    });
    heartbeat.start();
    return { clock, sent, heartbeat, silences: () => silences };
  };

  it('pings every 5 s', () => {
    const { clock, sent, heartbeat } = begin();
    for (let n = 0; n < 4; n += 1) {
      clock.advance(5_000);
      heartbeat.frame();
    }
    assert.deepEqual(sent, [1, 2, 3, 4, 5]);
  });

  it('calls a line silent after 10 s without a frame, a short second look later, and only once', () => {
    const { clock, silences } = begin();
    clock.advance(10_000);
    assert.equal(silences(), 0);
    clock.advance(250);
    assert.equal(silences(), 1);
    clock.advance(60_000);
    assert.equal(silences(), 1);
  });

  it('takes any frame for life, even one that comes during the second look', () => {
    const { clock, heartbeat, silences } = begin();
    for (let n = 0; n < 20; n += 1) {
      clock.advance(9_000);
      heartbeat.frame();
    }
    clock.advance(10_100);
    heartbeat.frame(); // read only now: this process was busy
    clock.advance(9_000);
    assert.equal(silences(), 0);
  });

  it('asks now whether the other end answers, and does not take an older pong for it', async () => {
    const { clock, heartbeat, sent } = begin();
    const asked = heartbeat.answers(2_000);
    heartbeat.pong(1); // of the ping before
    heartbeat.pong(sent.at(-1) ?? 0);
    assert.equal(await asked, true);
    const unanswered = heartbeat.answers(2_000);
    clock.advance(2_000);
    assert.equal(await unanswered, false);
    const stopped = heartbeat.answers(2_000);
    heartbeat.stop();
    assert.equal(await stopped, false);
  });
});
