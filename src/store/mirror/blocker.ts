/** Who holds the row that an apply waits for: looked up while it waits, because afterwards nobody can tell. */
import type { Clock } from '../../core/clock.ts';
import { queryMaybe, type Queryable } from '../../db/transaction.ts';

/** Several looks within one wait of an apply; each is one small query on another connection. */
const LOOK_MS = 150;

interface Blocker extends Record<string, unknown> {
  readonly pid: number;
  readonly program: string;
  /** null: the daemon's role may not see it. */
  readonly since: string | null;
  readonly what: string | null;
}

export class BlockerWatch {
  readonly #db: Queryable;
  readonly #clock: Clock;
  #ending = new AbortController();
  #looking: Promise<void> = Promise.resolve();
  #found: Blocker | undefined;

  constructor(db: Queryable, clock: Clock) {
    this.#db = db;
    this.#clock = clock;
  }

  /** In words, if one was seen. */
  get found(): string | undefined {
    if (this.#found === undefined) return undefined;
    const { pid, program, since, what } = this.#found;
    const holder = `${program} (process ${pid} of PostgreSQL)`;
    const held = what === null ? 'what it needs' : `${what}, or a row of it`;
    return `${holder} holds ${held}${since === null ? '' : `, in a transaction open since ${since}`}`;
  }

  begin(pid: number): void {
    this.#ending = new AbortController();
    this.#looking = this.#look(pid, this.#ending.signal);
  }

  async end(): Promise<void> {
    this.#ending.abort();
    await this.#looking;
  }

  async #look(pid: number, signal: AbortSignal): Promise<void> {
    for (;;) {
      await this.#clock.sleep(LOOK_MS, signal);
      if (signal.aborted) return;
      try {
        this.#found = (await readBlocker(this.#db, pid)) ?? this.#found;
      } catch {
        return; // only words are lost: the apply itself says what is wrong with the database
      }
    }
  }
}

/** Who waits for a row waits for its transaction: the table is told by the lock on the row, which it has already. */
async function readBlocker(db: Queryable, waiting: number): Promise<Blocker | undefined> {
  return queryMaybe<Blocker>(
    db,
    `select a.pid, coalesce(nullif(a.application_name, ''), 'a program without a name') as program,
            to_char(a.xact_start at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as since,
            (select c.relname::text from pg_locks l join pg_class c on c.oid = l.relation
              where l.pid = $1::integer and (not l.granted or l.locktype = 'tuple') limit 1) as what
       from pg_stat_activity a
      where a.pid = any (pg_blocking_pids($1::integer))
      order by a.xact_start nulls last limit 1`,
    [waiting],
  );
}
