/** One local HTTP port of a daemon or server: a port that is taken is a warning, never a reason not to start. */
import { once } from 'node:events';
import type http from 'node:http';
import { isIP } from 'node:net';
import { listening, localServer, type Routes } from './local-http.ts';
import type { Log } from './log.ts';
import type { Service } from './service.ts';

export interface LocalPortOptions {
  readonly name: string;
  readonly listen: { readonly host: string; readonly port: number };
  readonly routes: Routes;
  /** The page whose scripts may read it from a browser. */
  readonly origin?: string | undefined;
  readonly log: Log;
}

export class LocalPort implements Service {
  readonly name: string;
  readonly #options: LocalPortOptions;
  #server: http.Server | undefined;

  constructor(options: LocalPortOptions) {
    this.name = options.name;
    this.#options = options;
  }

  /** undefined: it is not open. */
  get url(): string | undefined {
    const address = this.#server?.address();
    if (typeof address !== 'object' || address === null) return undefined;
    const { host } = this.#options.listen;
    return `http://${isIP(host) === 6 ? `[${host}]` : host}:${address.port}`;
  }

  /** Sync matters more than being asked about it. */
  async start(): Promise<void> {
    const { listen, routes, origin, log } = this.#options;
    try {
      const server = localServer({ routes, browsers: { host: listen.host, origin } });
      this.#server = await listening(server, listen.port, listen.host);
    } catch (error) {
      log.warn(`the ${this.name} cannot be opened`, { port: listen.port, err: error });
    }
  }

  async stop(): Promise<void> {
    const server = this.#server;
    if (server?.listening !== true) return;
    const closed = once(server, 'close');
    server.close();
    server.closeAllConnections();
    await closed;
  }
}
