/**
 * A log file that rotates, can be reopened, and survives a full disk.
 *
 *   log line ─▶ LogFile ─▶ rotating-file-stream ─▶ store-server.log ─▶ .1.log ─▶ … ─▶ .10.log
 *                  │ write fails (ENOSPC, EROFS, …)
 *                  └▶ count the line as dropped, say so on stderr once a minute, open the file again a second later
 *
 * The newest lines are always in the plain name. winston's own File transport loses lines while it rotates, which is
 * why the file is a stream of our own behind its Stream transport.
 */
import { once } from 'node:events';
import { basename, dirname } from 'node:path';
import { Writable } from 'node:stream';
import { createStream, type RotatingFileStream } from 'rotating-file-stream';
import { codeOf } from './classify.ts';

export interface LogFileOptions {
  readonly path: string;
  /** Rotates beyond this size; 20 MB. */
  readonly maxBytes?: number;
  /** Rotated files kept; 10. */
  readonly keep?: number;
  /** Where a broken log file is reported; stderr. */
  readonly alarm?: (text: string) => void;
}

const MAX_BYTES_DEFAULT = 20_000_000;
const KEEP_DEFAULT = 10;
/** A disk that was full a second ago may have room now; more often would only burn CPU. */
const REOPEN_AFTER_MS = 1_000;
/** A full disk lasts hours: one line a minute says so without filling the journal. */
const ALARM_EVERY_MS = 60_000;
/** Lines of one burst are written together up to this size: one system call instead of hundreds. */
const CHUNK_BYTES = 64 * 1024;

export class LogFile extends Writable {
  readonly #path: string;
  readonly #maxBytes: number;
  readonly #keep: number;
  readonly #alarm: (text: string) => void;
  #file: RotatingFileStream | undefined;
  #reopenAsked = false;
  #brokenAt = -Infinity;
  #alarmedAt = -Infinity;
  #dropped = 0;
  #lost = 0;

  constructor({ path, maxBytes, keep, alarm }: LogFileOptions) {
    super({ decodeStrings: true });
    this.#path = path;
    this.#maxBytes = maxBytes ?? MAX_BYTES_DEFAULT;
    this.#keep = keep ?? KEEP_DEFAULT;
    this.#alarm = alarm ?? ((text) => process.stderr.write(`${text}\n`));
  }

  /** Lines lost since the start. */
  get lost(): number {
    return this.#lost;
  }

  /** Lines lost since the last call: the caller logs the number once writing works again. */
  takeDropped(): number {
    const dropped = this.#dropped;
    if (this.#file !== undefined) this.#dropped = 0;
    return this.#file === undefined ? 0 : dropped;
  }

  /** For logrotate: the next line goes to a newly opened file. */
  reopen(): void {
    this.#reopenAsked = true;
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    void this.#append([chunk]).then(() => {
      done();
    });
  }

  override _writev(chunks: { chunk: Buffer }[], done: (error?: Error | null) => void): void {
    void this.#append(chunks.map(({ chunk }) => chunk)).then(() => {
      done();
    });
  }

  override _final(done: (error?: Error | null) => void): void {
    void this.#close().then(() => {
      done();
    });
  }

  /** Never rejects: a log that cannot be written must not stop the daemon. */
  async #append(lines: readonly Buffer[]): Promise<void> {
    if (this.#reopenAsked) {
      this.#reopenAsked = false;
      await this.#close();
    }
    for (const part of grouped(lines)) {
      try {
        await this.#writePart(Buffer.concat(part));
      } catch (error) {
        this.#broken(error, part.length);
      }
    }
  }

  async #writePart(data: Buffer): Promise<void> {
    if (this.#file === undefined) {
      if (performance.now() - this.#brokenAt < REOPEN_AFTER_MS) throw new StillBroken();
      this.#file = this.#open();
    }
    const file = this.#file;
    await new Promise<void>((resolve, reject) => {
      file.write(data, (error) => {
        if (error) reject(error);
        else resolve();
      });
    });
  }

  #open(): RotatingFileStream {
    const name = basename(this.#path).replace(/\.log$/, '');
    const file = createStream(
      (index) => (typeof index === 'number' ? `${name}.${index}.log` : `${name}.log`),
      {
        path: dirname(this.#path),
        size: `${this.#maxBytes}B`,
        rotate: this.#keep,
        mode: 0o640,
      },
    );
    file.on('error', () => undefined); // the callback of the write that failed reports it
    return file;
  }

  #broken(error: unknown, lines: number): void {
    this.#dropped += lines;
    this.#lost += lines;
    if (error instanceof StillBroken) return;
    this.#brokenAt = performance.now();
    this.#file?.destroy();
    this.#file = undefined;
    if (this.#brokenAt - this.#alarmedAt < ALARM_EVERY_MS) return;
    this.#alarmedAt = this.#brokenAt;
    this.#alarm(
      `cannot write the log ${this.#path}: ${codeOf(error) ?? String(error)}; sync goes on without it`,
    );
  }

  async #close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    if (file === undefined || file.destroyed) return;
    const closed = once(file, 'close').catch(() => undefined);
    file.end();
    await closed;
  }
}

class StillBroken extends Error {}

/** Cuts a burst into parts of about CHUNK_BYTES, never inside a line. */
function grouped(lines: readonly Buffer[]): Buffer[][] {
  const parts: Buffer[][] = [];
  let part: Buffer[] = [];
  let size = 0;
  for (const line of lines) {
    if (size + line.length > CHUNK_BYTES && part.length > 0) {
      parts.push(part);
      part = [];
      size = 0;
    }
    part.push(line);
    size += line.length;
  }
  if (part.length > 0) parts.push(part);
  return parts;
}
