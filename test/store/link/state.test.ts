/** The link's state machine: every state × event, the light, and how refusals and retries are bounded. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { PossyncError } from '../../../src/core/errors.ts';
import { backoffDelay } from '../../../src/core/backoff.ts';
import { failureOf } from '../../../src/store/link/failure.ts';
import { BACKOFF } from '../../../src/store/link/link.ts';
import {
  INITIAL,
  STATE_NAMES,
  TABLE,
  indicator,
  step,
  type Effect,
  type EventType,
  type Failure,
  type LinkEvent,
  type LinkState,
  type StateName,
} from '../../../src/store/link/state.ts';

const DROPPED = failureOf(new PossyncError('PS-TCP-DROPPED', 'no answer'));
const STRIPPED = failureOf(new PossyncError('PS-WS-STRIPPED', 'no upgrade'), true);
const REVOKED = failureOf(new PossyncError('PS-TOKEN-REVOKED', 'revoked'));

const EVENTS: { readonly [E in EventType]: Extract<LinkEvent, { type: E }> } = {
  start: { type: 'start' },
  stop: { type: 'stop' },
  opened: { type: 'opened' },
  welcomed: { type: 'welcomed' },
  refused: { type: 'refused', ...REVOKED },
  failed: { type: 'failed', ...DROPPED },
  closed: { type: 'closed', ...DROPPED },
  silent: { type: 'silent' },
  due: { type: 'due' },
  hurry: { type: 'hurry' },
  renew: { type: 'renew' },
  steady: { type: 'steady' },
  polled: { type: 'polled' },
  unpolled: { type: 'unpolled', ...REVOKED },
  fenced: { type: 'fenced' },
};

/**
 * Where each event leads from each state, with the events above; `=` changes nothing at all. Total by type: a new
 * state or event does not compile before its cell is written here.
 */
const WHERE: Readonly<Record<StateName, Readonly<Record<EventType, StateName | '='>>>> = {
  idle: {
    start: 'connecting',
    stop: '=',
    opened: '=',
    welcomed: '=',
    refused: '=',
    failed: '=',
    closed: '=',
    silent: '=',
    due: '=',
    hurry: '=',
    renew: '=',
    steady: '=',
    polled: '=',
    unpolled: '=',
    fenced: '=',
  },
  connecting: {
    start: '=',
    stop: 'idle',
    opened: 'greeting',
    welcomed: '=',
    refused: 'waiting',
    failed: 'waiting',
    closed: 'waiting',
    silent: 'waiting',
    due: '=',
    hurry: 'connecting',
    renew: 'connecting',
    steady: '=',
    polled: 'connecting',
    unpolled: '=',
    fenced: 'connecting',
  },
  greeting: {
    start: '=',
    stop: 'idle',
    opened: '=',
    welcomed: 'online',
    refused: 'waiting',
    failed: 'waiting',
    closed: 'waiting',
    silent: 'waiting',
    due: '=',
    hurry: 'connecting',
    renew: 'connecting',
    steady: '=',
    polled: '=',
    unpolled: '=',
    fenced: 'greeting',
  },
  online: {
    start: '=',
    stop: 'idle',
    opened: '=',
    welcomed: '=',
    refused: 'waiting',
    failed: '=',
    closed: 'waiting',
    silent: 'waiting',
    due: '=',
    hurry: '=',
    renew: 'connecting',
    steady: 'online',
    polled: '=',
    unpolled: '=',
    fenced: 'waiting',
  },
  waiting: {
    start: '=',
    stop: 'idle',
    opened: '=',
    welcomed: '=',
    refused: '=',
    failed: '=',
    closed: '=',
    silent: '=',
    due: 'connecting',
    hurry: 'connecting',
    renew: 'connecting',
    steady: '=',
    polled: 'waiting',
    unpolled: 'waiting',
    fenced: 'waiting',
  },
};

function typical(name: StateName): LinkState {
  return {
    name,
    session: name === 'online' ? 'socket' : 'none',
    refused: false,
    attempt: name === 'idle' ? 0 : 2,
    reason: name === 'online' || name === 'idle' ? null : DROPPED.reason,
  };
}

function run(
  events: readonly LinkEvent[],
  from: LinkState = INITIAL,
): { state: LinkState; effects: Effect[] } {
  let state = from;
  const effects: Effect[] = [];
  for (const event of events) {
    const next = step(state, event);
    state = next.state;
    effects.push(...next.effects);
  }
  return { state, effects };
}

const failed = (failure: Failure): LinkEvent => ({ type: 'failed', ...failure });
const ONLINE: readonly LinkEvent[] = [{ type: 'start' }, { type: 'opened' }, { type: 'welcomed' }];

describe('link state machine', () => {
  for (const name of STATE_NAMES) {
    for (const type of Object.keys(EVENTS) as EventType[]) {
      const where = WHERE[name][type];
      it(`${name} × ${type} → ${where === '=' ? 'no change' : where}`, () => {
        const before = typical(name);
        const { state, effects } = step(before, EVENTS[type]);
        if (where === '=') {
          assert.equal(state, before);
          assert.deepEqual(effects, []);
        } else {
          assert.equal(state.name, where);
        }
      });
    }
  }

  it('has a handler for every state and event, and no other', () => {
    assert.deepEqual(Object.keys(TABLE).sort(), [...STATE_NAMES].sort());
    for (const name of STATE_NAMES)
      assert.deepEqual(Object.keys(TABLE[name]).sort(), Object.keys(EVENTS).sort());
  });

  it('L-1: is green only while online, and online only after a welcome', () => {
    const { state } = run(ONLINE);
    assert.equal(indicator(state), 'green');
    assert.equal(indicator(run([...ONLINE, { type: 'silent' }]).state), 'red');
    assert.equal(indicator(run([{ type: 'start' }, { type: 'opened' }]).state), 'red');
  });

  it('L-3: counts failed attempts through short successes, and forgets them after a steady minute', () => {
    const flap: LinkEvent[] = [
      { type: 'opened' },
      { type: 'welcomed' },
      { type: 'closed', ...DROPPED },
      { type: 'due' },
    ];
    const { state } = run([{ type: 'start' }, ...flap, ...flap, ...flap]);
    assert.equal(state.attempt, 3);
    const steady = run([{ type: 'opened' }, { type: 'welcomed' }, { type: 'steady' }], state);
    assert.equal(steady.state.attempt, 0);
  });

  it('L-4: waits minutes after a refusal of the credential, and a changed network does not shorten that', () => {
    const { state, effects } = run([{ type: 'start' }, failed(REVOKED)]);
    assert.deepEqual(effects.at(-1), { do: 'wait', pace: 'minutes', attempt: 1, floorMs: 0 });
    assert.equal(state.refused, true);
    assert.deepEqual(step(state, { type: 'hurry' }), { state, effects: [] });
    assert.equal(step(state, { type: 'renew' }).state.name, 'connecting', 'a new credential does');
  });

  it('L-5: says hello over HTTP at once where only the WebSocket is blocked, and keeps that session', () => {
    const blocked = run([{ type: 'start' }, failed(STRIPPED)]);
    assert.ok(blocked.effects.some((effect) => effect.do === 'poll'));
    const polling = run([{ type: 'polled' }], blocked.state);
    assert.deepEqual([polling.state.session, indicator(polling.state)], ['http', 'red']);
    assert.deepEqual(polling.effects, [{ do: 'flow' }]);
    const again = run([{ type: 'due' }, failed(STRIPPED)], polling.state);
    assert.equal(again.state.session, 'http');
    assert.ok(!again.effects.some((effect) => effect.do === 'poll'), 'one hello is enough');
  });

  it('L-5: does not try HTTP where the network itself is away', () => {
    const { effects } = run([{ type: 'start' }, failed(DROPPED)]);
    assert.ok(!effects.some((effect) => effect.do === 'poll'));
  });

  it('L-2: a session by socket ends with its socket, whatever ends it', () => {
    const online = run(ONLINE).state;
    for (const type of ['stop', 'closed', 'silent', 'renew', 'fenced', 'refused'] as const)
      assert.equal(step(online, EVENTS[type]).state.session, 'none', type);
  });

  it('hands on the time that HQ asked to stay away', () => {
    const busy = failureOf(new PossyncError('PS-HQ-BUSY', 'busy', { details: { retryMs: 7_000 } }));
    const { effects } = run([{ type: 'start' }, failed(busy)]);
    assert.deepEqual(effects.at(-1), { do: 'wait', pace: 'backoff', attempt: 1, floorMs: 7_000 });
  });

  it('waits 1, 2, 4, 8, 15, 15 … seconds at most, anywhere below that, and never less than HQ asked for', () => {
    const delays = (random: number): number[] =>
      Array.from({ length: 8 }, (_, n) => backoffDelay(n + 1, { ...BACKOFF, random: () => random }));
    assert.deepEqual(delays(0.9999999), [999, 1999, 3999, 7999, 14999, 14999, 14999, 14999]);
    assert.deepEqual(delays(0.5), [500, 1000, 2000, 4000, 7500, 7500, 7500, 7500]);
    assert.deepEqual(delays(0), [0, 0, 0, 0, 0, 0, 0, 0]);
    assert.equal(backoffDelay(1, { ...BACKOFF, random: () => 0 }, 7_000), 7_000);
    assert.ok(backoffDelay(100_000, { ...BACKOFF, random: () => 0.999 }) < 15_000, 'after weeks offline too');
  });

  it('keeps its invariants whatever comes in whatever order', () => {
    const anyEvent = fc.constantFrom<LinkEvent>(
      ...Object.values(EVENTS),
      failed(STRIPPED),
      { type: 'unpolled', ...DROPPED },
      { type: 'closed', ...REVOKED },
    );
    fc.assert(
      fc.property(fc.array(anyEvent, { maxLength: 60 }), (events) => {
        let state = INITIAL;
        let armed = false; // a retry is pending
        for (const event of events) {
          const next = step(state, event);
          if (event.type === 'due' && state.name === 'waiting') armed = false;
          for (const effect of next.effects) {
            if (effect.do === 'wait') armed = true;
            if (effect.do === 'cancelWait') armed = false;
          }
          state = next.state;
          assert.equal(indicator(state) === 'green', state.name === 'online' && state.reason === null);
          if (state.session === 'socket') assert.equal(state.name, 'online');
          if (state.name === 'idle') assert.equal(state.session, 'none');
          if (state.refused) assert.equal(state.session, 'none');
          // L-6: never stuck: waiting has its timer, everything else its socket or its credential.
          if (state.name === 'waiting') assert.ok(armed, `waiting without a timer after ${event.type}`);
        }
      }),
      { numRuns: 2_000 },
    );
  });
});
