/**
 * The daemon's own small HTTP: a unix socket for the commands on this machine, and a loopback port for probes and screens.
 *
 *   store.sock          what the port has, and POST /api/v1/{pull[?fresh=1],push,reload,credential,diagnose,
 *                       re-enrol[?from=DATE]}
 *                       POST /api/v1/verify[?repair=1&actor=WHO], then GET /api/v1/verify?id=ID until it has a report
 *   127.0.0.1:3002      GET /livez /readyz /connz /indicator.svg /api/v1/{status,events}, read only
 *
 * The socket's rights (0660) are its authentication; the port changes nothing and shows no secret. None of it depends
 * on HQ but /connz: a supervisor that restarted a store for being offline would only make it worse.
 */
import { once } from 'node:events';
import { chmod, mkdir, unlink } from 'node:fs/promises';
import type http from 'node:http';
import { dirname } from 'node:path';
import { codeOf, toPossyncError } from '../core/classify.ts';
import type { Clock } from '../core/clock.ts';
import { PossyncError } from '../core/errors.ts';
import { errorBody, listening, localServer, type Handler, type Reply } from '../core/local-http.ts';
import { LocalPort } from '../core/local-port.ts';
import type { Log } from '../core/log.ts';
import type { Service } from '../core/service.ts';
import { DATABASE_HEADER } from '../db/address.ts';
import type { StoreStatusView } from '../protocol/status.ts';
import { LightWatchers, lightPicture, type Light } from './indicator.ts';
import type { PullResult } from './mirror/mirror.ts';
import type { DiagnoseService } from './options.ts';
import { statusDocument } from './status.ts';
import type { ReEnrolReport } from './outbox/re-enrol.ts';
import type { VerifyJobs } from './verify/jobs.ts';

export interface LocalApiOptions {
  readonly socketPath: string;
  /** Of the database that the status is read from; whoever asks on the socket can tell that it is theirs. */
  readonly database: string | undefined;
  readonly listen: { readonly host: string; readonly port: number } | null;
  /** The page that may read the port from a browser. */
  readonly origin?: string | undefined;
  readonly clock: Clock;
  readonly log: Log;
  /** The document of `possync status --json`. */
  readonly status: () => Promise<StoreStatusView>;
  readonly indicator: () => Light;
  /** Throws what keeps the daemon from its local work. */
  readonly ready: () => Promise<void>;
  readonly pull: (fresh: boolean) => Promise<PullResult>;
  /** How many entries HQ acknowledged. */
  readonly push: () => Promise<number>;
  readonly reload: () => void;
  /** Takes up the credential file as it is now. */
  readonly takeUp: () => Promise<TakenUp>;
  /** A new epoch; `from` = capture again what the store has since that day. */
  readonly reEnrol: (from: string | undefined) => Promise<ReEnrolReport>;
  /** `possync diagnose` in this process: the same user, environment and proxy as the daemon's own connection. */
  readonly diagnose?: DiagnoseService | undefined;
  /** Comparisons with HQ. */
  readonly verify: Pick<VerifyJobs, 'begin' | 'look'>;
}

/** Which credential the daemon uses, and whether the open connection went on under it. */
export interface TakenUp {
  readonly kid: string | null;
  readonly in_band: boolean;
  readonly indicator: 'green' | 'red';
}

export class LocalApi implements Service {
  readonly name = 'local API';
  readonly #options: LocalApiOptions;
  #socket: http.Server | undefined;
  readonly #port: LocalPort | undefined;
  readonly #watchers: LightWatchers;

  constructor(options: LocalApiOptions) {
    this.#options = options;
    this.#watchers = new LightWatchers(options.clock, options.indicator);
    const { listen, origin, log } = options;
    if (listen !== null)
      this.#port = new LocalPort({ name: 'status port', listen, origin, log, routes: this.#readOnly() });
  }

  /** The document of GET /api/v1/status. */
  status(): Promise<StoreStatusView> {
    return this.#options.status();
  }

  /** The link changed: whoever watches the light is told. */
  linkChanged(): void {
    this.#watchers.changed();
  }

  get url(): string | undefined {
    return this.#port?.url;
  }

  /** Neither listener keeps the daemon from starting: sync matters more than being asked about it. */
  async start(): Promise<void> {
    const { socketPath, log } = this.#options;
    try {
      await mkdir(dirname(socketPath), { recursive: true, mode: 0o700 });
      await removeStale(socketPath);
      this.#socket = await listening(localServer({ routes: this.#all() }), socketPath);
      await chmod(socketPath, 0o660);
    } catch (error) {
      log.warn('the local socket cannot be opened; commands read the database instead', {
        socket: socketPath,
        err: error,
      });
    }
    await this.#port?.start();
  }

  async stop(): Promise<void> {
    await this.#port?.stop();
    if (this.#socket?.listening !== true) return;
    const closed = once(this.#socket, 'close');
    this.#socket.close();
    this.#socket.closeAllConnections();
    await closed;
  }

  #readOnly(): Map<string, Handler> {
    const { indicator, ready } = this.#options;
    return new Map<string, Handler>([
      ['GET /livez', () => Promise.resolve({ status: 200, body: { status: 'pass' }, type: HEALTH })],
      [
        'GET /readyz',
        async (url) => {
          try {
            await ready();
            return verbose(url)
              ? { status: 200, body: '[+]database ok\n[+]queue ok\n' }
              : { status: 200, body: { status: 'pass' }, type: HEALTH };
          } catch (error) {
            const { code } = toPossyncError(error);
            return verbose(url)
              ? { status: 503, body: `[-]database failed: ${code}\n` }
              : { status: 503, body: { status: 'fail', code }, type: HEALTH };
          }
        },
      ],
      [
        'GET /connz',
        () => {
          const light = indicator();
          const green = light.indicator === 'green';
          const status = green ? 'pass' : 'fail';
          return Promise.resolve({ status: green ? 200 : 503, body: { status, ...light }, type: HEALTH });
        },
      ],
      [STATUS_ROUTE, () => this.#statusReply()],
      ['GET /api/v1/events', () => Promise.resolve(this.#watchers.events())],
      [
        'GET /indicator.svg',
        () => Promise.resolve({ status: 200, body: lightPicture(indicator()), type: 'image/svg+xml' }),
      ],
    ]);
  }

  #all(): Map<string, Handler> {
    const { pull, push, reload, reEnrol, takeUp, verify, database } = this.#options;
    return new Map<string, Handler>([
      ...this.#readOnly(),
      [
        STATUS_ROUTE,
        async () => ({
          ...(await this.#statusReply()),
          ...(database === undefined ? {} : { headers: { [DATABASE_HEADER]: database } }),
        }),
      ],
      [
        'POST /api/v1/pull',
        async (url) => {
          const result = await pull(url.searchParams.get('fresh') === '1');
          return result.result === 'failed'
            ? { status: 500, body: errorBody(result.error) }
            : { status: 200, body: result };
        },
      ],
      ['POST /api/v1/push', async () => ({ status: 200, body: { acknowledged: await push() } })],
      [
        'POST /api/v1/re-enrol',
        async (url) => ({ status: 200, body: await reEnrol(dayOf(url.searchParams.get('from'))) }),
      ],
      [
        'POST /api/v1/verify',
        ({ searchParams: asked }) => {
          const actor = asked.get('actor')?.slice(0, 150) ?? 'unknown';
          return Promise.resolve({ status: 200, body: verify.begin(asked.get('repair') === '1', actor) });
        },
      ],
      [
        'GET /api/v1/verify',
        async (url) => Promise.resolve({ status: 200, body: verify.look(url.searchParams.get('id') ?? '') }),
      ],
      ['POST /api/v1/credential', async () => ({ status: 200, body: await takeUp() })],
      ['POST /api/v1/diagnose', async (_url, read) => this.#diagnosis(await read())],
      [
        'POST /api/v1/reload',
        () => {
          reload();
          return Promise.resolve({ status: 202, body: { result: 'reloading' } });
        },
      ],
    ]);
  }

  async #statusReply(): Promise<{ status: number; body: object }> {
    const { status, clock } = this.#options;
    return { status: 200, body: statusDocument(await status(), clock.now()) };
  }

  /** One JSON line for everything that happens, the report last. */
  #diagnosis(request: unknown): Reply {
    const { diagnose } = this.#options;
    if (diagnose === undefined) return { status: 404, body: {} };
    return {
      stream: 'application/jsonl',
      run: (write, signal) =>
        diagnose(
          request,
          (line) => {
            write(`${JSON.stringify(line)}\n`);
          },
          signal,
        ),
    };
  }
}

const HEALTH = 'application/health+json';
const STATUS_ROUTE = 'GET /api/v1/status';

function verbose(url: URL): boolean {
  return url.searchParams.has('verbose');
}

/** A day that is none must be refused before HQ has opened a new epoch for it. */
function dayOf(text: string | null): string | undefined {
  if (text === null) return undefined;
  const real = /^\d{4}-\d{2}-\d{2}$/.test(text) && !Number.isNaN(Date.parse(`${text}T00:00:00Z`));
  if (real && new Date(`${text}T00:00:00Z`).toISOString().startsWith(text)) return text;
  throw new PossyncError('PS-USAGE', 'the day must look like 2026-01-31');
}

/** The daemon lock is ours, so a socket file that is there was left by a killed daemon. */
async function removeStale(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
  }
}
