/** What weeks of refused and parked entries write into the log of a store: the real lines in a real file, with time in hand. */
import assert from 'node:assert/strict';
import type { ErrorCode } from '../../src/core/errors.ts';
import type { Log } from '../../src/core/log.ts';
import { HqRefusal } from '../../src/store/link/hq-client.ts';
import { PushLog } from '../../src/store/push-log.ts';
import { HandClock } from '../support/hand-clock.ts';
import { memoryLog } from '../support/memory-log.ts';
import { playLog, type PlayedLog } from '../support/played-log.ts';

const DAY_MS = 86_400_000;
const DAYS = 2;
const BUDGET_BYTES_A_DAY = 1_000_000;
/** As often as a daemon tries at most while it is woken all the time. */
const TRY_MS = 5_000;

const refused = (code: ErrorCode): HqRefusal =>
  new HqRefusal(code, 'HQ refuses too much of what this store sends: 21 of the last 21 transactions', {
    details: { status: 503 },
  });

describe('the log of pushes that HQ refuses', function () {
  this.timeout(60_000);

  /** Refusals of two codes in turn, and something parked each time; what is written, and how often it was tried. */
  async function play(
    sayOf: (clock: HandClock, log: Log) => Pick<PushLog, 'failed' | 'parked' | 'round'>,
  ): Promise<PlayedLog & { tries: number }> {
    let tries = 0;
    const played = await playLog((clock, log) => {
      const say = sayOf(clock, log);
      while (clock.now() < DAYS * DAY_MS) {
        tries += 1;
        say.failed(refused(tries % 2 === 0 ? 'PS-UP-BREAKER' : 'PS-HQ-NOTREADY'), TRY_MS);
        say.parked([tries]);
        say.round();
        clock.advance(TRY_MS);
      }
    });
    return { ...played, tries };
  }

  it('keeps to a megabyte a day, and its lines say how many they stand for', async () => {
    const { bytes, lines, tries } = await play((clock, log) => new PushLog(log, clock));
    assert.ok(tries > 30_000, `${tries} tries`);
    assert.ok(bytes < DAYS * BUDGET_BYTES_A_DAY, `${bytes} bytes in ${DAYS} days`);
    const told = lines.map((line) => JSON.parse(line) as { event: string; times?: number; entries?: number });
    const sum = (event: string, of: 'times' | 'entries'): number =>
      told.filter((line) => line.event === event).reduce((before, line) => before + (line[of] ?? 0), 0);
    // What the last ten minutes have kept back is all that is missing.
    const kept = 2 * (600_000 / TRY_MS);
    for (const said of [sum('push.rejected', 'times'), sum('queue.parked', 'entries')])
      assert.ok(said <= tries && said >= tries - kept, `${said} of ${tries}`);
  });

  it('negative control: a line for each would break that', async () => {
    const { bytes } = await play((_clock, log) => ({
      failed: (error) => {
        log.warn('HQ refuses the batch', { event: 'push.rejected', code: error.code, err: error });
      },
      parked: (seqs) => {
        log.warn('parked', { event: 'queue.parked', code: 'PS-QUEUE-PARKED', first: seqs[0] });
      },
      round: () => undefined,
    }));
    assert.ok(bytes > DAYS * BUDGET_BYTES_A_DAY, `${bytes} bytes in ${DAYS} days`);
  });

  it('calls only that refused which HQ has looked at', () => {
    const log = memoryLog();
    const pushLog = new PushLog(log, new HandClock());
    pushLog.failed(refused('PS-HQ-BUSY'), 1_000);
    pushLog.failed(refused('PS-UP-BREAKER'), 1_000);
    pushLog.failed(refused('PS-UP-BREAKER'), 1_000);
    pushLog.halted({ code: 'PS-UP-DIVERGED', why: 'entry 7 at HQ is another one' });
    assert.deepEqual(
      log.lines.map(({ event, code }) => [event, code]),
      [
        [undefined, 'PS-HQ-BUSY'],
        ['push.rejected', 'PS-UP-BREAKER'],
        ['push.rejected', 'PS-UP-DIVERGED'],
      ],
    );
  });
});
