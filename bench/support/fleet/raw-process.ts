/**
 * The physical limit of a fan-out, in two processes of this file: `server` sends one frame to every socket and answers
 * GETs with the same bytes, `clients` fetch them once for each frame. No credential, no database, no parsing.
 */
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { WebSocket, WebSocketServer } from 'ws';
import { percentile } from '../report.ts';
import { serve } from './child.ts';
import { timestampMs, type Arrivals } from './commands.ts';

export interface RawCommands {
  readonly listen: (page: { readonly bytes: number }) => Promise<{ readonly port: number }>;
  /** When the first frame was handed over. */
  readonly broadcast: () => number;
  readonly connect: (to: { readonly port: number; readonly clients: number }) => Promise<void>;
  /** Forgets the arrivals of the frame before. */
  readonly expect: () => void;
  /** Resolves when every client has fetched. */
  readonly fetched: () => Promise<Arrivals>;
}

const FRAME = JSON.stringify({ type: 'head', pos: 1_000 });
const sockets = new Set<WebSocket>();
let clients = 0;
let arrived: number[] = [];
let full: () => void = () => undefined;

const COMMANDS: RawCommands = {
  async listen({ bytes }) {
    const page = Buffer.alloc(bytes, 'x');
    const server = http.createServer({ keepAliveTimeout: 600_000 }, (_request, response) => {
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': page.length });
      response.end(page);
    });
    const wss = new WebSocketServer({ server, perMessageDeflate: false, clientTracking: false });
    wss.on('connection', (socket) => sockets.add(socket));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return { port: (server.address() as AddressInfo).port };
  },
  broadcast() {
    const at = timestampMs();
    for (const socket of sockets) socket.send(FRAME);
    return at;
  },
  async connect({ port, clients: wanted }) {
    clients = wanted;
    for (let n = 0; n < wanted; n += 1) {
      const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
      const socket = new WebSocket(`ws://127.0.0.1:${port}/`, { perMessageDeflate: false });
      socket.on('message', () => {
        void get(port, agent).then(() => {
          arrived.push(timestampMs());
          if (arrived.length === clients) full();
        });
      });
      await new Promise((resolve, reject) => {
        socket.once('open', resolve);
        socket.once('error', reject);
      });
      await get(port, agent);
    }
  },
  expect() {
    arrived = [];
  },
  async fetched() {
    if (arrived.length < clients)
      await new Promise<void>((resolve) => {
        full = resolve;
      });
    return { first: Math.min(...arrived), median: percentile(arrived, 0.5), last: Math.max(...arrived) };
  },
};

function get(port: number, agent: http.Agent): Promise<void> {
  return new Promise((resolve, reject) => {
    http
      .get({ port, host: '127.0.0.1', path: '/page', agent }, (response) => {
        response.resume();
        response.once('end', resolve);
      })
      .once('error', reject);
  });
}

serve(COMMANDS);
