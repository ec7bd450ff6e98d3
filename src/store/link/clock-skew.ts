/** How far HQ's clock is from ours, from the times in its answers to our pings. */

export interface ClockSkew {
  /** HQ's clock minus ours. */
  readonly skewMs: number;
  /** It is off by no more than this: half of the round trip. */
  readonly errorMs: number;
}

/** A minute of heartbeats: the quickest answer among them is the best one. */
const KEPT = 12;
/** Beyond what the round trips explain, a clock was set meanwhile. */
const STEP_MS = 1_000;

export class ClockSkewMeter {
  #samples: ClockSkew[] = [];

  /** HQ said `hqMs` in an answer that came at `nowMs`, `rttMs` after the question. */
  sample(hqMs: number, nowMs: number, rttMs: number): void {
    const errorMs = Math.ceil(rttMs / 2);
    const fresh = { skewMs: Math.round(hqMs - (nowMs - rttMs / 2)), errorMs };
    const { best } = this;
    const stepped =
      best !== null && Math.abs(fresh.skewMs - best.skewMs) > fresh.errorMs + best.errorMs + STEP_MS;
    this.#samples = stepped ? [fresh] : [...this.#samples.slice(1 - KEPT), fresh];
  }

  /** null until HQ has answered. */
  get best(): ClockSkew | null {
    return this.#samples.reduce<ClockSkew | null>(
      (best, each) => (best === null || each.errorMs <= best.errorMs ? each : best),
      null,
    );
  }
}
