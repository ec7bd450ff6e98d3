/**
 * What signals do to a server: graceful, then forced, then the kernel's default.
 *
 *   1st SIGTERM/SIGINT   stop(): no new work, finish what is in hand, at most `graceMs`
 *   2nd, or time is up   give up waiting: the caller exits at once
 *   3rd                  handlers are gone, the signal does what it does to any program
 *
 * A stop that hangs is the worst kind of bug to find in the field, so when time is up the log names what still
 * holds the event loop.
 */
import type { Clock } from './clock.ts';
import { systemClock } from './clock.ts';
import type { Log } from './log.ts';
import type { Running } from './service.ts';

export interface ShutdownOptions {
  readonly log: Log;
  /** The end has begun; for whoever watches over the program. */
  readonly onStopping?: () => void;
  /** SIGHUP: read credential, certificates and log file again. */
  readonly onReload?: () => void;
  /** SIGUSR1: reconnect now. */
  readonly onReconnect?: () => void;
  /** SIGUSR2: write the state to the log. */
  readonly onDump?: () => void;
  /** Time for a graceful stop; 10 s, half of what systemd waits before it kills. */
  readonly graceMs?: number;
  readonly clock?: Clock;
}

export interface Ended {
  /** undefined: it ended because it could not go on, see `failure`. */
  readonly signal: NodeJS.Signals | undefined;
  readonly failure: Error | undefined;
  /** Everything in hand was finished. */
  readonly graceful: boolean;
}

const GRACE_MS_DEFAULT = 10_000;

/** Waits for a signal that ends the program, stops `running` and says how that went; never throws. */
export async function runUntilSignal(running: Running, options: ShutdownOptions): Promise<Ended> {
  const { log, graceMs = GRACE_MS_DEFAULT, clock = systemClock } = options;
  const remove = [
    on('SIGHUP', options.onReload),
    on('SIGUSR1', options.onReconnect),
    on('SIGUSR2', options.onDump),
  ];
  const waiting = nextEndSignal();
  const first = await Promise.race([
    waiting.then(({ signal }) => ({ signal, failure: undefined })),
    ...(running.failed === undefined
      ? []
      : [running.failed.then((failure) => ({ signal: undefined, failure }))]),
  ]);
  waiting.cancel();
  options.onStopping?.();
  if (first.failure === undefined) log.info(`${first.signal}: stopping`, { event: 'stop' });
  else log.error('cannot go on: stopping', { event: 'stop', err: first.failure });
  const second = nextEndSignal();
  const timer = new AbortController();
  const outcome = await Promise.race([
    running.stop().then(
      () => 'stopped' as const,
      (error: unknown) => {
        log.error('stopping failed', { err: error });
        return 'failed' as const;
      },
    ),
    second.then(() => 'forced' as const),
    clock.sleep(graceMs, timer.signal).then(() => 'late' as const),
  ]);
  timer.abort();
  second.cancel();
  for (const undo of remove) undo();
  if (outcome === 'late' || outcome === 'forced')
    log.warn(outcome === 'late' ? `not stopped after ${graceMs} ms` : 'second signal: not waiting', {
      holding: process.getActiveResourcesInfo().slice(0, 20),
    });
  return { ...first, graceful: outcome === 'stopped' };
}

function on(signal: NodeJS.Signals, handler: (() => void) | undefined): () => void {
  // Without a handler SIGHUP and SIGUSR1 would end the program, which nobody who sends them means.
  const listener = handler ?? ((): undefined => undefined);
  process.on(signal, listener);
  return () => {
    process.off(signal, listener);
  };
}

/** Resolves with the next SIGTERM or SIGINT; `cancel` takes the handlers away, so that a third one is deadly. */
function nextEndSignal(): Promise<{ signal: NodeJS.Signals }> & { cancel: () => void } {
  let cancel = (): void => undefined;
  const promise = new Promise<{ signal: NodeJS.Signals }>((resolve) => {
    const listener = (signal: NodeJS.Signals): void => {
      cancel();
      resolve({ signal });
    };
    cancel = () => {
      process.off('SIGTERM', listener);
      process.off('SIGINT', listener);
    };
    process.on('SIGTERM', listener);
    process.on('SIGINT', listener);
  });
  return Object.assign(promise, { cancel });
}
