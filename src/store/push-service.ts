/** The pusher as the daemon runs it: over the link's session, with its lines of the log and whoever waits for a round. */
import { systemClock } from '../core/clock.ts';
import { PossyncError } from '../core/errors.ts';
import type { HqClient } from './link/hq-client.ts';
import type { Link } from './link/link.ts';
import type { StoreMetrics } from './metrics/store-metrics.ts';
import type { DaemonOptions } from './options.ts';
import type { Outbox } from './outbox/outbox.ts';
import { Pusher } from './outbox/pusher.ts';
import type { PushLog } from './push-log.ts';
import type { PushRounds } from './push-rounds.ts';

export interface PushServiceOptions {
  readonly outbox: Outbox;
  readonly rounds: PushRounds;
  /** Made after the pusher. */
  readonly link: () => Link;
  readonly client: () => HqClient | undefined;
  readonly metrics: StoreMetrics | undefined;
  readonly pushLog: PushLog;
}

export function pushService(daemon: DaemonOptions, options: PushServiceOptions): Pusher {
  const { databaseUrl, clock = systemClock, pushIntervalMs } = daemon;
  const { outbox, rounds, link, client: clientNow, metrics, pushLog } = options;
  /** Of the push on its way: a 409 is about that session, not about one begun meanwhile. */
  let sentFence = '';
  return new Pusher({
    outbox,
    clock,
    session: () => link().session,
    send: async (push, signal) => {
      const client = clientNow();
      if (client === undefined) throw new PossyncError('PS-NOT-ENROLLED', 'the store is not enrolled');
      sentFence = push.fence;
      const begun = performance.now();
      try {
        const sent = await client.push(push, signal);
        metrics?.pushed(sent.result, performance.now() - begun);
        return sent;
      } catch (error) {
        metrics?.pushed('error', performance.now() - begun);
        throw error;
      }
    },
    onFenced: () => {
      link().fenced(sentFence);
    },
    onPushed: (batch) => {
      link().figuresChanged();
      pushLog.acknowledged(batch);
    },
    onHalted: (halt) => {
      pushLog.halted(halt);
    },
    onError: (error, delayMs) => {
      rounds.failed(error);
      pushLog.failed(error, delayMs);
    },
    onBegin: () => {
      rounds.begin();
    },
    onRound: (sent) => {
      pushLog.round();
      rounds.done(sent);
    },
    listen: true,
    ...(databaseUrl === undefined ? {} : { listenUrl: databaseUrl }),
    ...(pushIntervalMs === undefined ? {} : { intervalMs: pushIntervalMs }),
  });
}
