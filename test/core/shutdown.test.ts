/** Signals end a server gracefully, then by force; a server that cannot go on ends like one that was told to. */
import assert from 'node:assert/strict';
import { runUntilSignal } from '../../src/core/shutdown.ts';
import { memoryLog } from '../support/memory-log.ts';

/** As the kernel would: only handlers of this process see it. */
function signal(name: NodeJS.Signals): void {
  process.emit(name, name);
}

describe('shutdown', () => {
  it('a first signal stops gracefully, the second does not wait, and no handler is left', async () => {
    const handlers = (): number => process.listenerCount('SIGTERM') + process.listenerCount('SIGHUP');
    const before = handlers();
    let finish: () => void = () => undefined;
    let stops = 0;
    const running = {
      stop: () => {
        stops += 1;
        return new Promise<void>((resolve) => {
          finish = resolve;
        });
      },
    };
    const graceful = runUntilSignal(running, { log: memoryLog() });
    signal('SIGTERM');
    await new Promise(setImmediate);
    finish();
    assert.deepEqual(await graceful, { signal: 'SIGTERM', failure: undefined, graceful: true });

    const forced = runUntilSignal(running, { log: memoryLog() });
    signal('SIGINT');
    await new Promise(setImmediate);
    signal('SIGINT');
    assert.deepEqual(await forced, { signal: 'SIGINT', failure: undefined, graceful: false });
    finish();
    assert.equal(stops, 2);
    assert.equal(handlers(), before);
  });

  it('gives up waiting when time is up, and says what still holds the process', async () => {
    const log = memoryLog();
    const clock = {
      now: () => 0,
      sleep: () => Promise.resolve(),
      after: () => () => undefined,
    };
    const ended = runUntilSignal({ stop: () => new Promise(() => undefined) }, { log, clock, graceMs: 5 });
    signal('SIGTERM');
    assert.equal((await ended).graceful, false);
    assert.ok(log.lines.some((line) => line.level === 'warn' && Array.isArray(line.holding)));
  });

  it('passes HUP, USR1 and USR2 on, and ends when the server itself cannot go on', async () => {
    let fail: (error: Error) => void = () => undefined;
    const failed = new Promise<Error>((resolve) => {
      fail = resolve;
    });
    const seen: string[] = [];
    const ended = runUntilSignal(
      { stop: () => Promise.resolve(), failed },
      {
        log: memoryLog(),
        onReload: () => seen.push('reload'),
        onReconnect: () => seen.push('reconnect'),
        onDump: () => seen.push('dump'),
      },
    );
    signal('SIGHUP');
    signal('SIGUSR1');
    signal('SIGUSR2');
    assert.deepEqual(seen, ['reload', 'reconnect', 'dump']);
    fail(new Error('another daemon took over'));
    const { signal: by, failure, graceful } = await ended;
    assert.deepEqual([by, failure?.message, graceful], [undefined, 'another daemon took over', true]);
  });
});
