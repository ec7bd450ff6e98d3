/** An HTTP proxy that knows CONNECT and nothing else; every name leads to this machine. It can want a password, or refuse. */
import { once } from 'node:events';
import net, { type AddressInfo, type Socket } from 'node:net';

export class ConnectProxy {
  readonly #server: net.Server;
  readonly #sockets = new Set<Socket>();
  /** What was asked for: `hq.example.test:3001`. */
  readonly asked: string[] = [];
  /** `user:password` that it wants; undefined: nothing. */
  login: string | undefined;
  /** Answers with this status in place of a tunnel; `silent`: takes the request and says nothing. */
  refuses: number | 'silent' | undefined;

  constructor() {
    this.#server = net.createServer((near) => {
      this.#keep(near);
      let head = '';
      const read = (chunk: Buffer): void => {
        head += chunk.toString('latin1');
        const end = head.indexOf('\r\n\r\n');
        if (end < 0) return;
        near.off('data', read);
        near.pause();
        this.#answer(near, head.slice(0, end), Buffer.from(head.slice(end + 4), 'latin1'));
      };
      near.on('data', read);
    });
  }

  async open(): Promise<number> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return this.port;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Cuts every tunnel, as a restart would. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async close(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.cut();
    await closed;
  }

  #answer(near: Socket, head: string, rest: Buffer): void {
    const [, target = '', port = ''] = /^CONNECT (\S+):(\d+) HTTP\/1\.1\r\n/.exec(head) ?? [];
    this.asked.push(`${target}:${port}`);
    const given = /^proxy-authorization: Basic (\S+)$/im.exec(head)?.[1] ?? '';
    const status =
      target === ''
        ? 405
        : this.login !== undefined && Buffer.from(given, 'base64').toString() !== this.login
          ? 407
          : this.refuses;
    if (status === 'silent') return;
    if (status !== undefined) {
      near.end(`HTTP/1.1 ${status} Refused\r\ncontent-length: 0\r\n\r\n`);
      return;
    }
    const far = net.connect({ host: '127.0.0.1', port: Number(port) });
    this.#keep(far);
    far.once('connect', () => {
      near.write('HTTP/1.1 200 Connection established\r\n\r\n');
      far.write(rest);
      near.pipe(far).pipe(near);
      near.resume();
    });
    far.once('close', () => near.destroy());
    near.once('close', () => far.destroy());
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => this.#sockets.delete(socket));
  }
}
