/** What a command gets: settings, terminal, clock, the database of this side. Opened on demand, closed at the end. */
import type pg from 'pg';
import type { Config, Env } from '../config/options.ts';
import type { LoadedConfig } from '../config/load.ts';
import { databaseError } from '../core/classify.ts';
import type { Clock } from '../core/clock.ts';
import { PossyncError, type ExitCode } from '../core/errors.ts';
import type { Role } from '../db/migrations.ts';
import type { Args } from './args.ts';
import type { OutputStream, Paint, Term } from './render/term.ts';
import type { DocumentName } from './schemas/documents.ts';

/** What a command answers: the same facts as a document and as text; which one is printed is not its business. */
export interface Answer {
  readonly schema: DocumentName;
  readonly exit: ExitCode;
  readonly body: Readonly<Record<string, unknown>>;
  readonly text: (paint: Paint) => string;
}

export interface CommandModule {
  /** An Answer, or the exit code of a command that has printed for itself. */
  readonly run: (context: Context, args: Args) => Promise<Answer | ExitCode>;
}

export interface ContextInit {
  readonly loaded: LoadedConfig;
  readonly term: Term;
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  readonly env: Env;
  readonly clock: Clock;
  /** Aborted by the first Ctrl-C. */
  readonly signal: AbortSignal;
  readonly verbose: boolean;
  /** --role */
  readonly role: Role | undefined;
  /** Where the command belongs; `either` is told by the database. */
  readonly side: Role | 'either' | 'none';
  readonly command: string;
  readStdin(): Promise<string>;
}

export class Context {
  readonly #init: ContextInit;
  #pool: pg.Pool | undefined;

  constructor(init: ContextInit) {
    this.#init = init;
  }

  get config(): Config {
    return this.#init.loaded.config;
  }
  get loaded(): LoadedConfig {
    return this.#init.loaded;
  }
  get term(): Term {
    return this.#init.term;
  }
  get stdout(): OutputStream {
    return this.#init.stdout;
  }
  get stderr(): OutputStream {
    return this.#init.stderr;
  }
  get env(): Env {
    return this.#init.env;
  }
  get clock(): Clock {
    return this.#init.clock;
  }
  get signal(): AbortSignal {
    return this.#init.signal;
  }
  get json(): boolean {
    return this.#init.term.json;
  }
  get verbose(): boolean {
    return this.#init.verbose;
  }
  get roleOverride(): Role | undefined {
    return this.#init.role;
  }

  readStdin(): Promise<string> {
    return this.#init.readStdin();
  }

  /** A message beside the result: stderr, never part of the data. */
  note(text: string): void {
    this.#init.stderr.write(`${text}\n`);
  }

  /** The database of this side, without a look at what it is. */
  async rawPool(): Promise<pg.Pool> {
    if (this.#pool !== undefined) return this.#pool;
    const { createPool } = await import('../db/pool.ts');
    this.#pool = createPool({
      url: this.config.databaseUrl,
      applicationName: `possync ${this.#init.command}`,
      max: 3,
    });
    try {
      // The first query of a command is where a wrong address shows; name it here, once.
      await this.#pool.query('select 1');
    } catch (error) {
      throw databaseError(error);
    }
    return this.#pool;
  }

  /** The database, checked to be of the command's side; `either` commands learn here which one it is. */
  async database(): Promise<{ pool: pg.Pool; role: Role }> {
    const pool = await this.rawPool();
    const found = await this.#roleOf(pool);
    const { side, role: override, command } = this.#init;
    if (side === 'hq' || side === 'store') {
      if (found !== side) {
        throw new PossyncError('PS-WRONG-SIDE', `\`possync ${command}\` is a command of ${sideName(side)}`, {
          why: `this database belongs to ${sideName(found)}`,
          hint: `run it where DATABASE_URL is the database of ${sideName(side)}`,
        });
      }
      return { pool, role: side };
    }
    return { pool, role: override ?? found };
  }

  async #roleOf(pool: pg.Pool): Promise<Role> {
    if (this.#init.role !== undefined) return this.#init.role;
    const { readRole } = await import('../db/identity.ts');
    const role = await readRole(pool);
    if (role !== undefined) return role;
    throw new PossyncError('PS-DB-MIGRATE', 'this database has no possync schema yet', {
      hint: 'run `possync hq init` at HQ, or `possync store init` in a store',
    });
  }

  async close(): Promise<void> {
    const pool = this.#pool;
    this.#pool = undefined;
    await pool?.end();
  }
}

export function sideName(role: Role): string {
  return role === 'hq' ? 'HQ' : 'a store';
}
