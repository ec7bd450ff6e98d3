/**
 * What a server tells systemd: READY when it works, STATUS in one line, WATCHDOG while it does its work, STOPPING.
 *
 * Node has no unix datagrams, so `systemd-notify` says it (7 ms a call). Its message comes from a child, therefore the
 * unit needs NotifyAccess=all. Without NOTIFY_SOCKET all of it does nothing.
 */
import { execFile } from 'node:child_process';
import type { Clock } from './clock.ts';
import type { Log } from './log.ts';

type Env = Readonly<Record<string, string | undefined>>;

export interface SupervisorOptions {
  readonly env: Env;
  readonly clock: Clock;
  readonly log: Log;
  /**
   * Proves that the server does its work, by a question to its own database through its own pool, and says in one line
   * how it stands. No ping goes out for a pulse that fails or does not come back.
   */
  readonly pulse: () => Promise<string>;
}

export interface Supervisor {
  /** The server works: a store also while HQ is away. */
  ready(): Promise<void>;
  stopping(): void;
  stop(): void;
}

/** Without a watchdog the status line is still worth renewing. */
const STATUS_MS = 30_000;
/** systemd asks for a ping in every interval: three a piece, so that one may be lost. */
const PINGS_PER_INTERVAL = 3;
const NOTIFY_LIMIT_MS = 5_000;

export function superviseFor({ env, clock, log, pulse }: SupervisorOptions): Supervisor {
  if ((env.NOTIFY_SOCKET ?? '') === '')
    return { ready: () => Promise.resolve(), stopping: () => undefined, stop: () => undefined };
  const everyMs = watchdogMs(env);
  const over = new AbortController();
  const ended = (): boolean => over.signal.aborted;
  const failures = { told: false };
  const notify = async (...words: string[]): Promise<void> => {
    const why = await systemdNotify(words);
    if (why === undefined || failures.told) return;
    failures.told = true; // once: it fails the same way every time
    log.warn('systemd cannot be told how the server stands', { why });
  };
  const beat = async (): Promise<void> => {
    while (!ended()) {
      await clock.sleep((everyMs ?? STATUS_MS * PINGS_PER_INTERVAL) / PINGS_PER_INTERVAL, over.signal);
      if (ended()) return;
      try {
        const status = await pulse();
        await notify(`STATUS=${status}`, ...(everyMs === undefined ? [] : ['WATCHDOG=1']));
      } catch (error) {
        log.debug('no pulse for systemd', { err: error });
        await notify('STATUS=the database does not answer');
      }
    }
  };
  return {
    async ready() {
      const status = await pulse().catch(() => 'started');
      await notify('--ready', `STATUS=${status}`);
      void beat();
    },
    stopping() {
      over.abort();
      void notify('STOPPING=1', 'STATUS=stopping');
    },
    stop() {
      over.abort();
    },
  };
}

/** undefined: no watchdog, or it is meant for another process. */
function watchdogMs(env: Env): number | undefined {
  const micros = Number(env.WATCHDOG_USEC);
  if (!Number.isFinite(micros) || micros <= 0) return undefined;
  const pid = env.WATCHDOG_PID ?? '';
  return pid === '' || Number(pid) === process.pid ? micros / 1_000 : undefined;
}

/** Resolves with why it could not be said; undefined = said. */
async function systemdNotify(words: readonly string[]): Promise<string | undefined> {
  return await new Promise((resolve) => {
    execFile('systemd-notify', ['--no-block', ...words], { timeout: NOTIFY_LIMIT_MS }, (error) => {
      resolve(error === null ? undefined : error.message);
    });
  });
}
