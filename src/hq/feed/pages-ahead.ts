/**
 * Pages from the middle of downloads, read before they are asked for and kept for some seconds.
 *
 *   store   ── page 1 ─▶ stages it ── page 2 ─▶ stages it ── page 3 ─▶ …
 *   HQ      reads 1      reads 2      reads 3                              what a second store asks for is there
 *
 * Only pages that end before the head: such a page may be some seconds old, because whatever has moved since has moved
 * behind it and comes later in the same download. A page that closes a round says what is the newest, and is never kept.
 */
import type { Clock } from '../../core/clock.ts';
import type { PackedBody } from '../http-body.ts';

export interface MiddlePage {
  readonly body: PackedBody;
  /** Where the next one begins, and what was the newest when this one was read. */
  readonly to: number;
  readonly head: number;
  readonly nonce: string;
}

/** A store stages a page within a second or two; one that is slower asks for itself again. */
const KEPT_MS = 5_000;
/** Packed, so a few hundred kilobytes each. A page that nobody came for yet is never given up for another one. */
const PAGES = 32;

export class PagesAhead {
  readonly #clock: Clock;
  readonly #pages = new Map<
    string,
    { readonly beganMs: number; readonly page: Promise<MiddlePage | undefined> }
  >();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** `make`: undefined where there is no such page. Whoever comes for one that fails reads it for itself. */
  begin(key: string, make: () => Promise<MiddlePage | undefined>): void {
    this.#forget();
    if (this.#pages.has(key) || this.#pages.size >= PAGES) return;
    this.#pages.set(key, { beganMs: this.#clock.now(), page: make().catch(() => undefined) });
  }

  async find(key: string): Promise<MiddlePage | undefined> {
    this.#forget();
    return await this.#pages.get(key)?.page;
  }

  /** As `find`, and nobody else will come for it. */
  async take(key: string): Promise<MiddlePage | undefined> {
    const page = await this.find(key);
    this.#pages.delete(key);
    return page;
  }

  #forget(): void {
    const nowMs = this.#clock.now();
    for (const [key, { beganMs }] of this.#pages) {
      // The clock of the machine may have been set back.
      if (nowMs - beganMs >= KEPT_MS || nowMs < beganMs) this.#pages.delete(key);
    }
  }
}
