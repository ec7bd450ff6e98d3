/** Log lines of the link: each change once, and while it stays down a summary that grows rarer. */
import { isUnencrypted } from '../../core/loopback.ts';
import type { Clock } from '../../core/clock.ts';
import type { Log, LogFields } from '../../core/log.ts';
import { indicator, type LinkState } from './state.ts';

/** After the link went down; then every hour. A week offline is 170 lines. */
const SUMMARIES_MS = [60_000, 300_000, 900_000] as const;
const SUMMARY_LATER_MS = 3_600_000;
/** A line that breaks every few seconds would fill the disk of a shop that nobody looks at for weeks. */
const CHANGES_AN_HOUR = 60;
const HOUR_MS = 3_600_000;

export class LinkReporter {
  readonly #clock: Clock;
  readonly #log: Log;
  #downSinceMs: number | undefined;
  #tries = 0;
  #last: LinkState['reason'] = null;
  #summaries = 0;
  #cancel: () => void = () => undefined;
  /** Said once, until a connection is up again: HQ repeats it at every attempt. */
  #revoked = false;
  /** Changes of the light within the hour that began then; those beyond the limit are only counted. */
  #hour = { beganMs: -Infinity, changes: 0, untold: 0 };

  constructor(clock: Clock, log: Log) {
    this.#clock = clock;
    this.#log = log;
  }

  report(before: LinkState, after: LinkState, hqUrl: string): void {
    if (after.name === 'waiting' && before.name !== 'waiting') {
      this.#tries += 1;
      this.#last = after.reason;
      this.#log.debug('not connected', {
        code: after.reason?.code,
        attempt: after.attempt,
        why: after.reason?.message,
      });
    }
    if (after.reason?.code === 'PS-TOKEN-REVOKED' && !this.#revoked) {
      this.#revoked = true;
      this.#log.warn('HQ has revoked the credential; the store keeps selling and keeps its queue', {
        event: 'token.revoked',
        code: after.reason.code,
        why: after.reason.message,
        hq: hqUrl,
      });
    }
    if (after.session === 'http' && before.session !== 'http')
      this.#log.info('WebSocket does not pass; syncing by polling over HTTP', { hq: hqUrl });
    if (indicator(after) === 'green' && indicator(before) === 'red') this.#up(hqUrl);
    else if (after.name === 'waiting' && this.#downSinceMs === undefined) this.#down(after, hqUrl);
    else if (after.name === 'idle') this.stop();
  }

  stop(): void {
    this.#cancel();
    this.#downSinceMs = undefined;
    this.#tries = 0;
  }

  #up(hqUrl: string): void {
    this.#revoked = false;
    const downMs = this.#downSinceMs === undefined ? undefined : this.#clock.now() - this.#downSinceMs;
    const unencrypted = isUnencrypted(hqUrl);
    this.#changed('info', unencrypted ? 'connected, unencrypted' : 'connected', {
      event: 'link.up',
      hq: hqUrl,
      unencrypted,
      tries: this.#tries,
      down_ms: downMs,
    });
    this.stop();
  }

  #down({ reason }: LinkState, hqUrl: string): void {
    this.#downSinceMs = this.#clock.now();
    this.#summaries = 0;
    this.#changed('warn', 'disconnected; the store keeps selling, retrying', {
      event: 'link.down',
      code: reason?.code,
      why: reason?.message,
      hq: hqUrl,
    });
    this.#expectSummary();
  }

  #changed(level: 'info' | 'warn', message: string, fields: LogFields): void {
    const nowMs = this.#clock.now();
    if (nowMs - this.#hour.beganMs >= HOUR_MS) {
      const { untold } = this.#hour;
      this.#hour = { beganMs: nowMs, changes: 0, untold: 0 };
      if (untold > 0)
        this.#log.warn(`the link kept breaking: ${untold} more changes within the hour are not listed`, {
          event: 'link.still_down',
          changes: untold,
        });
    }
    this.#hour.changes += 1;
    const told = this.#hour.changes <= CHANGES_AN_HOUR;
    if (!told) this.#hour.untold += 1;
    this.#log[told ? level : 'debug'](message, fields);
  }

  #expectSummary(): void {
    const before = SUMMARIES_MS[this.#summaries - 1] ?? 0;
    const at = SUMMARIES_MS[this.#summaries];
    this.#cancel = this.#clock.after(at === undefined ? SUMMARY_LATER_MS : at - before, () => {
      this.#summaries += 1;
      this.#log.warn('still disconnected', {
        event: 'link.still_down',
        code: this.#last?.code,
        why: this.#last?.message,
        tries: this.#tries,
        down_ms: this.#clock.now() - (this.#downSinceMs ?? this.#clock.now()),
      });
      this.#expectSummary();
    });
  }
}
