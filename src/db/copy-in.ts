/**
 * Several statements as one message, those with `COPY … FROM STDIN` together with their rows: one way to the server and
 * back for a whole batch, and no row becomes a value of JavaScript.
 *
 *   ─▶ Query "savepoint …; copy a …; copy b …"  CopyData(a) CopyDone  CopyData(b) CopyDone
 *   ◀─ SAVEPOINT · COPY n · COPY m · ReadyForQuery
 *
 * The rows are sent without waiting to be asked for. If a statement before them fails, the server drops what it has not
 * asked for, as the protocol says it does.
 */
import type pg from 'pg';

export interface CopyIn {
  /** `copy … from stdin …`. */
  readonly sql: string;
  readonly data: Buffer;
  readonly rows: number;
}

declare module 'pg' {
  /** What the driver's connection does for a query of ours; its types do not name these. */
  interface Connection {
    query(text: string): void;
    sendCopyFromChunk(chunk: Buffer): void;
    endCopyFrom(): void;
  }
}

/** Runs `before` and the copies; throws the first error, or 22P04 where a COPY took fewer rows than it was given. */
export async function copyIn(
  db: pg.ClientBase,
  copies: readonly CopyIn[],
  before: readonly string[] = [],
): Promise<void> {
  const message = new Message([...before, ...copies.map(({ sql }) => sql)].join(';\n'), copies);
  db.query(message);
  const counts = await message.done;
  copies.forEach(({ sql, rows }, n) => {
    if (counts[n] === rows) return;
    // A line that reads `\.` ends the data for servers before 18, without an error.
    throw Object.assign(new Error(`${counts[n] ?? 0} of ${rows} rows were taken by ${sql.slice(0, 100)}`), {
      code: '22P04',
    });
  });
}

class Message implements pg.Submittable {
  readonly done: Promise<number[]>;
  /** The driver hangs the end of its time limit on it: not called, each batch would be kept until the limit is over. */
  callback: (error: Error | null) => void = () => undefined;
  readonly #text: string;
  readonly #copies: readonly CopyIn[];
  readonly #counts: number[] = [];
  #resolve: (counts: number[]) => void = () => undefined;
  #reject: (error: Error) => void = () => undefined;

  constructor(text: string, copies: readonly CopyIn[]) {
    this.#text = text;
    this.#copies = copies;
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  submit(connection: pg.Connection): void {
    connection.query(this.#text);
    for (const { data } of this.#copies) {
      connection.sendCopyFromChunk(data);
      connection.endCopyFrom();
    }
  }

  handleCommandComplete({ text }: { text: string }): void {
    const taken = /^COPY (\d+)/.exec(text)?.[1];
    if (taken !== undefined) this.#counts.push(Number(taken));
  }

  handleReadyForQuery(): void {
    this.callback(null);
    this.#resolve(this.#counts);
  }

  handleError(error: Error): void {
    this.callback(error);
    this.#reject(error);
  }

  /** The rows are on their way already. */
  handleCopyInResponse(): void {
    return;
  }

  handleRowDescription(): void {
    return;
  }

  handleDataRow(): void {
    return;
  }

  handleEmptyQuery(): void {
    return;
  }

  handlePortalSuspended(): void {
    return;
  }

  handleCopyData(): void {
    return;
  }
}
