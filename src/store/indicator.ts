/**
 * The light for other programs' screens: a picture, and a stream of events that says each change at once.
 *
 *   <img src="http://127.0.0.1:3002/indicator.svg">          the light now
 *   new EventSource('http://127.0.0.1:3002/api/v1/events')   event `light`, data {"indicator":"green","code":null}
 *
 * Green exactly while the WebSocket is active. Colour is never the only sign: green is filled, red is hollow, and the
 * word stands beside it.
 */
import type { Clock } from '../core/clock.ts';
import type { Reply } from '../core/local-http.ts';

export interface Light {
  readonly indicator: 'green' | 'red';
  readonly code: string | null;
}

/** A page that hears nothing for two beats knows that the daemon is gone and must not show its last light. */
const BEAT_MS = 5_000;

export function lightPicture({ indicator }: Light): string {
  const green = indicator === 'green';
  const word = green ? 'connected' : 'disconnected';
  const mark = green
    ? '<circle cx="10" cy="10" r="7" fill="#1a7f37"/>'
    : '<circle cx="10" cy="10" r="5.5" fill="none" stroke="#cf222e" stroke-width="3"/>';
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="120" height="20" viewBox="0 0 120 20" role="img" aria-label="HQ: ${word}">` +
    `<title>HQ: ${word}</title>${mark}` +
    `<text x="24" y="14" font-family="sans-serif" font-size="12" fill="${green ? '#1a7f37' : '#cf222e'}">${word}</text></svg>\n`
  );
}

/** Who wants to know each change of the light. */
export class LightWatchers {
  readonly #clock: Clock;
  readonly #now: () => Light;
  readonly #watchers = new Set<(light: Light) => void>();
  #last: string;

  constructor(clock: Clock, now: () => Light) {
    this.#clock = clock;
    this.#now = now;
    this.#last = '';
  }

  /** The link changed in some way; watchers hear of it when the light did. */
  changed(): void {
    const light = this.#now();
    const text = JSON.stringify(light);
    if (text === this.#last) return;
    this.#last = text;
    for (const watcher of this.#watchers) watcher(light);
  }

  events(): Reply {
    return {
      stream: 'text/event-stream',
      run: async (write, signal) => {
        const tell = (light: Light): void => {
          write(`event: light\ndata: ${JSON.stringify(light)}\n\n`);
        };
        tell(this.#now());
        this.#watchers.add(tell);
        try {
          while (!signal.aborted) {
            await this.#clock.sleep(BEAT_MS, signal);
            tell(this.#now()); // the light as it is now is as good a sign of life as any
          }
        } finally {
          this.#watchers.delete(tell);
        }
      },
    };
  }
}
