/** Listeners that do one wrong thing: the boxes between a store and HQ, as bytes. */
import { once } from 'node:events';
import net, { type AddressInfo, type Socket } from 'node:net';
import { Worker } from 'node:worker_threads';

export interface RunningListener {
  readonly port: number;
  close(): Promise<void>;
}

export async function startRaw(
  onConnection: (socket: Socket) => void,
  host = '127.0.0.1',
): Promise<RunningListener> {
  const sockets = new Set<Socket>();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => sockets.delete(socket));
    onConnection(socket);
  });
  server.listen(0, host);
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      server.close();
      for (const socket of sockets) socket.destroy();
      await once(server, 'close');
    },
  };
}

/** Says this to whoever has spoken. */
export async function startAnswer(text: string): Promise<RunningListener> {
  return startRaw((socket) => {
    socket.once('data', () => socket.end(text));
  });
}

/** A port on which nothing listens. */
export async function closedPort(): Promise<number> {
  const listener = await startRaw(() => undefined);
  await listener.close();
  return listener.port;
}

/** Listens and never accepts: once its queue is full the kernel drops every SYN, as a silent firewall does. */
const DEAF = `
const { parentPort } = require('node:worker_threads');
const server = require('node:net').createServer();
server.listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
  parentPort.postMessage(server.address().port);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 60000);
});`;

export async function startDeaf(): Promise<RunningListener> {
  const worker = new Worker(DEAF, { eval: true });
  const [port] = (await once(worker, 'message')) as [number];
  const fillers: Socket[] = [];
  for (let index = 0; index < 6; index++) {
    const socket = net.connect(port, '127.0.0.1');
    socket.on('error', () => undefined);
    fillers.push(socket);
  }
  return {
    port,
    async close() {
      for (const socket of fillers) socket.destroy();
      await worker.terminate();
    },
  };
}

/**
 * A TCP path to `port`: pieces larger than `holeBytes` never arrive, and nothing behind them, like large packets
 * where ICMP is blocked. `onBytes` may cut it.
 */
export async function startPath(
  port: number,
  {
    holeBytes = Infinity,
    edit,
  }: { holeBytes?: number; edit?: (chunk: Buffer, way: 'up' | 'down', client: Socket) => Buffer | 'drop' },
): Promise<RunningListener> {
  return startRaw((client) => {
    const server = net.connect(port, '127.0.0.1');
    server.on('error', () => client.destroy());
    client.once('close', () => server.destroy());
    server.once('close', () => client.destroy());
    const pump = (from: Socket, to: Socket, way: 'up' | 'down'): void => {
      let stuck = false;
      from.on('data', (chunk: Buffer) => {
        stuck ||= chunk.length > holeBytes;
        if (stuck) return;
        const out = edit === undefined ? chunk : edit(chunk, way, client);
        if (out !== 'drop') to.write(out);
      });
    };
    pump(client, server, 'up');
    pump(server, client, 'down');
  });
}
