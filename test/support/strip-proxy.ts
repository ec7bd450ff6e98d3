/** An HTTP proxy that knows no WebSocket: it forwards every request, upgrades as plain GETs. */
import { once } from 'node:events';
import http, { type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';

export class StripProxy {
  readonly #server: http.Server;
  /** Upgrades that were asked for and taken away. */
  stripped = 0;

  constructor(target: { readonly host: string; readonly port: number }) {
    const forward = (request: IncomingMessage, respond: (answer: IncomingMessage) => void): void => {
      const headers = { ...request.headers };
      delete headers.upgrade;
      const outgoing = http.request(
        {
          ...target,
          method: request.method,
          path: request.url,
          headers: { ...headers, connection: 'close', via: '1.1 strip' },
          agent: false,
        },
        respond,
      );
      outgoing.on('error', () => request.destroy());
      request.pipe(outgoing);
    };
    this.#server = http.createServer((request, response) => {
      forward(request, (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      });
    });
    this.#server.on('upgrade', (request: IncomingMessage, socket) => {
      this.stripped += 1;
      forward(request, (answer) => {
        const head = Object.entries(answer.headers).map(([name, value]) => `${name}: ${String(value)}`);
        socket.write(`HTTP/1.1 ${answer.statusCode ?? 502} Stripped\r\n${head.join('\r\n')}\r\n\r\n`);
        answer.pipe(socket);
      });
    });
  }

  async open(): Promise<string> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }
}
