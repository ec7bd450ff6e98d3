/** What weeks without a line write into the log: the real machine, backoff, reporter and log file, with time in hand. */
import assert from 'node:assert/strict';
import { backoffDelay } from '../../../src/core/backoff.ts';
import { PossyncError } from '../../../src/core/errors.ts';
import type { Log } from '../../../src/core/log.ts';
import { failureOf } from '../../../src/store/link/failure.ts';
import { BACKOFF } from '../../../src/store/link/link.ts';
import { LinkReporter } from '../../../src/store/link/link-reporter.ts';
import { INITIAL, step, type LinkEvent, type LinkState } from '../../../src/store/link/state.ts';
import type { HandClock } from '../../support/hand-clock.ts';
import { playLog, type PlayedLog } from '../../support/played-log.ts';
import { randomFor } from '../../support/random.ts';

const DAY_MS = 86_400_000;
const DAYS = 2;
const BUDGET_BYTES_A_DAY = 1_000_000;
const URL = 'https://hq.example.com:3001';
const DROPPED = failureOf(new PossyncError('PS-TCP-DROPPED', 'nothing answers at 203.0.113.10:3001'));
const CUT = failureOf(new PossyncError('PS-WS-CLOSED', 'the connection was cut'));

type Report = (before: LinkState, after: LinkState) => void;

describe('the log of an outage', function () {
  this.timeout(60_000);
  const rnd = randomFor('outage log');

  /** Plays these days; `life` is what one attempt meets, and how long until the next event. */
  async function play(
    reporterOf: (clock: HandClock, log: Log) => Report,
    life: (state: LinkState) => { event: LinkEvent; afterMs: number },
  ): Promise<PlayedLog & { attempts: number }> {
    let attempts = 0;
    const played = await playLog((clock, log) => {
      const report = reporterOf(clock, log);
      let state = INITIAL;
      const dispatch = (event: LinkEvent): void => {
        const before = state;
        ({ state } = step(before, event));
        report(before, state);
      };
      dispatch({ type: 'start' });
      while (clock.now() < DAYS * DAY_MS) {
        const { event, afterMs } = life(state);
        clock.advance(afterMs);
        if (event.type === 'due') attempts += 1;
        dispatch(event);
      }
    });
    return { ...played, attempts };
  }

  const quiet = (clock: HandClock, log: Log): Report => {
    const reporter = new LinkReporter(clock, log);
    return (before, after) => {
      reporter.report(before, after, URL);
    };
  };
  /** Every packet is dropped: each attempt takes 5 s. */
  const dead = (state: LinkState): { event: LinkEvent; afterMs: number } =>
    state.name === 'waiting'
      ? {
          event: { type: 'due' },
          afterMs: backoffDelay(state.attempt, { ...BACKOFF, random: () => rnd.int(1_000_000) / 1e6 }),
        }
      : { event: { type: 'failed', ...DROPPED }, afterMs: 5_000 };
  /** The worst for a log: it comes up at once and breaks again soon. */
  const flapping = (state: LinkState): { event: LinkEvent; afterMs: number } => {
    if (state.name === 'waiting') return { event: { type: 'due' }, afterMs: 2_000 };
    if (state.name === 'connecting') return { event: { type: 'opened' }, afterMs: 50 };
    if (state.name === 'greeting') return { event: { type: 'welcomed' }, afterMs: 50 };
    return { event: { type: 'closed', ...CUT }, afterMs: 5_000 };
  };

  it('of days without a line stays far below a megabyte a day, and says how it stands every hour', async () => {
    const { bytes, lines, attempts } = await play(quiet, dead);
    assert.ok(attempts > DAYS * 5_000, `${attempts} attempts were made`);
    assert.ok(bytes < DAYS * 50_000, `${bytes} bytes in ${DAYS} days`);
    const summaries = lines.filter((line) => line.includes('"link.still_down"'));
    assert.ok(summaries.length >= DAYS * 24, `${summaries.length} summaries`);
    assert.match(summaries.at(-1) ?? '', /"code":"PS-TCP-DROPPED".*"tries":\d{4,}/);
  });

  it('of a line that breaks every few seconds for days keeps to the megabyte a day, and counts what it leaves out', async () => {
    const { bytes, lines } = await play(quiet, flapping);
    assert.ok(bytes < DAYS * BUDGET_BYTES_A_DAY, `${bytes} bytes in ${DAYS} days`);
    assert.ok(lines.some((line) => /the link kept breaking: \d+ more changes/.test(line)));
  });

  it('negative control: a line for every attempt would break the budget', async () => {
    const naive = (_clock: HandClock, log: Log): Report => {
      return (_before, { name, reason }) => {
        if (name === 'waiting')
          log.warn('not connected; retrying', {
            event: 'link.down',
            code: reason?.code,
            why: reason?.message,
            hq: URL,
          });
        if (name === 'online') log.info('connected', { event: 'link.up', hq: URL });
      };
    };
    const { bytes } = await play(naive, flapping);
    assert.ok(bytes > DAYS * BUDGET_BYTES_A_DAY, `${bytes} bytes in ${DAYS} days`);
  });
});
