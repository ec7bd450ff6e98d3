/**
 * The outside witness: every transaction that a till has committed, noted down where no fault reaches. At the end
 * each one must be at HQ exactly once, unless its disks took it along (a store or HQ that went back to a copy).
 */
import { appendFileSync } from 'node:fs';
import { idOf, type Facts } from './facts.ts';

export interface Entry {
  readonly fact: string;
  readonly store: string;
  readonly content: string;
  /** Ids of the records that the transaction wrote. */
  readonly records: readonly string[];
  /** `maybe`: the connection broke during COMMIT; only the database knows. */
  state: 'begun' | 'committed' | 'maybe' | 'failed';
  /** In the store's own database; false once it went back to before this, or if a clone wrote it. */
  inStore: boolean;
  /** Which disks took it along; nobody can have it any more. */
  gone: string | undefined;
}

export interface Attempt {
  readonly store: string;
  readonly facts: Readonly<Record<string, string>>;
  /** Further records that the transaction changes, beside those of its facts. */
  readonly records?: readonly string[];
  readonly clone?: boolean;
}

export class Oracle {
  readonly #entries = new Map<string, Entry>();
  readonly #file: string;
  /** Kept apart from the entries: what was forgotten can be done again, and is then another entry of the same fact. */
  readonly #rewritten = new Set<string>();
  /** By store, what a till has done a second time although the first was committed: its database has gone back since. */
  readonly #redone = new Map<string, Set<string>>();
  transactions = 0;
  failed = 0;

  constructor(file: string) {
    this.#file = file;
  }

  /** Notes the intention, runs the transaction, notes how it ended. Throws what the transaction throws. */
  async attempt(
    { store, facts, records = [], clone = false }: Attempt,
    prepare: () => Promise<unknown>,
    commit: () => Promise<unknown>,
  ): Promise<void> {
    const all = [...Object.keys(facts).map(idOf), ...records];
    const entries = Object.entries(facts).map(([fact, content]): Entry => ({
      fact,
      store,
      content,
      records: all,
      state: 'begun',
      inStore: !clone,
      gone: undefined,
    }));
    if (clone) for (const id of all) this.#rewritten.add(id);
    if (entries.some(({ fact }) => this.#entries.get(fact)?.state === 'committed')) {
      const redone = this.#redone.get(store) ?? new Set<string>();
      this.#redone.set(store, redone);
      for (const id of all) redone.add(id);
    }
    // A fact can be tried again (a transfer shipped after a broken commit): the last attempt counts.
    for (const entry of entries) this.#entries.set(entry.fact, entry);
    const end = (state: Entry['state']): void => {
      for (const entry of entries) {
        entry.state = state;
        appendFileSync(
          this.#file,
          `${new Date().toISOString()} ${store} ${state} ${entry.fact} ${entry.content}\n`,
        );
      }
      if (state === 'committed') this.transactions += 1;
      else this.failed += 1;
    };
    try {
      await prepare();
    } catch (error) {
      end('failed');
      throw error;
    }
    try {
      await commit();
    } catch (error) {
      end('maybe');
      throw error;
    }
    end('committed');
  }

  get entries(): readonly Entry[] {
    return [...this.#entries.values()];
  }

  of(fact: string): Entry | undefined {
    return this.#entries.get(fact);
  }

  /** The store's database is now an older one. `known` was noted before it started; `own` and `atHq` are read after. */
  storeWentBack(store: string, known: ReadonlySet<Entry>, own: Facts, atHq: Facts): number {
    // Forgotten and done again before anybody could look: the entry of the first time is no longer known here.
    for (const id of this.#redone.get(store) ?? []) this.#rewritten.add(id);
    this.#redone.delete(store);
    return this.#lose(
      (entry) => entry.store === store && entry.inStore && known.has(entry) && !own.content.has(entry.fact),
      atHq,
      'store went back, HQ did not have it yet',
    );
  }

  /** A clone was switched off: what it sold is at HQ or lost with it. */
  cloneEnded(store: string, atHq: Facts): number {
    return this.#lose(
      (entry) => entry.store === store && !entry.inStore,
      atHq,
      'sold on a clone that was switched off',
    );
  }

  /** HQ's database is now an older one: what only HQ had is lost. */
  hqWentBack(store: string, atHq: Facts): number {
    return this.#lose(
      (entry) => entry.store === store && !entry.inStore,
      atHq,
      'only HQ had it, and HQ went back',
    );
  }

  /** Ids of records that some disk has forgotten, or that a clone wrote: there store and HQ may rightly differ. */
  rewritten(): ReadonlySet<string> {
    return this.#rewritten;
  }

  #lose(affected: (entry: Entry) => boolean, atHq: Facts, why: string): number {
    let gone = 0;
    for (const entry of this.#entries.values()) {
      if (!affected(entry)) continue;
      entry.inStore = false;
      for (const id of entry.records) this.#rewritten.add(id);
      if (atHq.content.has(entry.fact) || entry.gone !== undefined) continue;
      entry.gone = why;
      gone += 1;
    }
    return gone;
  }
}
