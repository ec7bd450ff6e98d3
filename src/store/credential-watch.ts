/** Notices a new credential file at once, so that enrolling again needs no restart: a watch as the hint, a poll as the net. */
import { watch, type FSWatcher } from 'node:fs';
import { stat } from 'node:fs/promises';
import { toPossyncError } from '../core/classify.ts';
import type { Clock } from '../core/clock.ts';
import type { PossyncError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { Loop } from '../core/loop.ts';
import type { Service } from '../core/service.ts';
import { credentialPath, readCredential, tidyPrevious, type StoreCredential } from './credential.ts';

export interface CredentialWatchOptions {
  readonly stateDir: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Called at start, and whenever the content may have changed or must count as changed; undefined = not enrolled. */
  readonly found: (credential: StoreCredential | undefined, forced: boolean) => Promise<void>;
  /** There is one, but it cannot be used. */
  readonly refused: (error: PossyncError) => void;
}

/** inotify does not see everything (network file systems, full tables): this is how late we are then. */
const POLL_MS = 2_000;

export class CredentialWatch implements Service {
  readonly name = 'credential watch';
  readonly #options: CredentialWatchOptions;
  readonly #loop = new Loop((signal) => this.#run(signal));
  #watcher: FSWatcher | undefined;
  #wake: () => void = () => undefined;
  #looking: Promise<void> = Promise.resolve();
  #credential: StoreCredential | undefined;
  #seen = '';
  #forced = false;
  #failure: string | undefined;

  constructor(options: CredentialWatchOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    try {
      this.#watcher = watch(this.#options.stateDir, { persistent: false }, () => {
        this.#wake();
      });
      this.#watcher.on('error', () => undefined); // the poll goes on
    } catch {
      // The directory comes with the enrolment; until then the poll looks.
    }
    await this.#look();
    this.#loop.start();
  }

  async stop(): Promise<void> {
    const ended = this.#loop.stop();
    this.#watcher?.close();
    this.#wake();
    await ended;
  }

  /** Reads it again even if the file looks the same (SIGHUP). */
  reload(): void {
    this.#forced = true;
    this.#wake();
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const nap = new AbortController();
      this.#wake = () => {
        nap.abort();
      };
      await this.#options.clock.sleep(POLL_MS, nap.signal);
      await this.#look();
    }
  }

  /** The file as it is now is in use when this resolves. */
  async lookNow(): Promise<void> {
    await this.#look();
  }

  /** One look after the other: an older one must not overtake. */
  async #look(): Promise<void> {
    this.#looking = this.#looking.then(() => this.#lookOnce());
    await this.#looking;
  }

  async #lookOnce(): Promise<void> {
    const { stateDir, log, found, refused } = this.#options;
    await this.#tidy();
    const mark = await fileMark(credentialPath(stateDir));
    if (mark === this.#seen && !this.#forced) return;
    const forced = this.#forced;
    this.#forced = false;
    try {
      const credential = await readCredential(stateDir);
      await found(credential, forced);
      this.#credential = credential;
      this.#seen = mark;
      this.#failure = undefined;
    } catch (error) {
      this.#forced ||= forced;
      // Tried again with the next look: it may be the database that was away. Said once per kind of trouble.
      const named = toPossyncError(error);
      if (this.#failure !== named.code)
        log.error('the credential cannot be used', { code: named.code, err: error });
      this.#failure = named.code;
      refused(named);
    }
  }

  /** The credential before this one goes when HQ no longer takes it: a secret that is of no use is only a risk. */
  async #tidy(): Promise<void> {
    const { stateDir, clock, log } = this.#options;
    if (this.#credential?.previous === undefined) return;
    try {
      await tidyPrevious(stateDir, this.#credential, clock.now());
    } catch (error) {
      log.debug('the credential before this one could not be removed', { err: error });
    }
  }
}

/** Changes whenever the file is replaced: a rename brings another inode. */
async function fileMark(path: string): Promise<string> {
  try {
    const { ino, size, mtimeMs } = await stat(path);
    return `${ino} ${size} ${mtimeMs}`;
  } catch {
    return 'none';
  }
}
