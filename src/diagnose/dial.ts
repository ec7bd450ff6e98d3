/**
 * One connection to HQ, layer by layer, each with its own limit: TCP (or CONNECT through a proxy), TLS, HTTP.
 *
 * Every error keeps the code of the layer that failed; a limit that ran out is a StepTimeout. Sockets are destroyed
 * when the check that opened them ends.
 */
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import tls from 'node:tls';
import { connectRequest, proxyAddress } from '../core/proxy.ts';
import type { Probe } from './check.ts';
import type { Address, Target } from './facts.ts';

/** Nothing came in time; which step it was is known by who called. */
export class StepTimeout extends Error {
  readonly code = 'STEP_TIMEOUT';

  constructor(what: string, ms: number) {
    super(`${what}: no answer in ${ms} ms`);
  }
}

/** The proxy's answer to CONNECT was not 200. */
export class ProxyRefusal extends Error {
  readonly status: number;

  constructor(status: number) {
    super(`the proxy answered ${status} to CONNECT`);
    this.status = status;
  }
}

/** `work`, or a StepTimeout after `ms`. */
export async function within<T>(probe: Probe, what: string, ms: number, work: Promise<T>): Promise<T> {
  const limit = new AbortController();
  try {
    return await Promise.race([
      work,
      probe.machine.clock
        .sleep(ms, AbortSignal.any([limit.signal, probe.signal]))
        .then(() => Promise.reject(new StepTimeout(what, ms))),
    ]);
  } finally {
    limit.abort();
    work.catch(() => undefined); // it may fail after its limit, and nobody waits any more
  }
}

/** Destroys the socket with the check that uses it. */
function tied<T extends net.Socket>(probe: Probe, socket: T): T {
  socket.on('error', () => undefined); // told by the promise that waits for it
  const end = (): void => {
    socket.destroy();
  };
  if (probe.signal.aborted) end();
  else {
    probe.signal.addEventListener('abort', end, { once: true });
    // A check may open dozens, one after the other: each listener goes with its socket.
    socket.once('close', () => {
      probe.signal.removeEventListener('abort', end);
    });
  }
  return socket;
}

export async function connectTcp(
  probe: Probe,
  { address, family }: Address,
  port: number,
  limitMs = probe.patience.connectMs,
): Promise<net.Socket> {
  const socket = tied(probe, net.connect({ host: address, port, family, autoSelectFamily: false }));
  try {
    await within(probe, 'TCP', limitMs, once(socket, 'connect'));
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

export function targetOf(probe: Probe): Target {
  const { target } = probe.facts;
  if (target === undefined) throw new Error('the address of HQ has not been read yet');
  return target;
}

/** A way to HQ: the address that answered, or a tunnel through the proxy. */
export async function connectHq(probe: Probe): Promise<net.Socket> {
  const target = targetOf(probe);
  if (probe.subject.proxy !== undefined) return tunnel(probe, new URL(probe.subject.proxy), target);
  const { reachable } = probe.facts;
  if (reachable === undefined) throw new Error('no address of HQ has answered');
  return connectTcp(probe, reachable, target.port);
}

export async function tunnel(probe: Probe, proxy: URL, target: Target): Promise<net.Socket> {
  const { host, port } = proxyAddress(proxy);
  const family = net.isIP(host);
  const [found] =
    family === 0
      ? await probe.machine.lookup(host)
      : [{ address: host, family: family === 6 ? 6 : 4 } as const];
  if (found === undefined) throw Object.assign(new Error('the proxy has no address'), { code: 'ENOTFOUND' });
  const socket = await connectTcp(probe, found, port);
  const { path, headers } = connectRequest(proxy, target);
  const request = http.request({ createConnection: () => socket, method: 'CONNECT', path, headers });
  const answered = new Promise<net.Socket>((resolve, reject) => {
    request.once('connect', (response, tunnelled) => {
      if (response.statusCode === 200) resolve(tied(probe, tunnelled));
      else reject(new ProxyRefusal(response.statusCode ?? 0));
    });
    // Some proxies refuse with an ordinary answer.
    request.once('response', (response) => {
      reject(new ProxyRefusal(response.statusCode ?? 0));
    });
    request.once('error', reject);
  });
  request.end();
  try {
    return await within(probe, 'proxy', probe.patience.replyMs, answered);
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

/** TLS over a fresh connection. Without `verify` it accepts any certificate: only to look at it, never to send a secret. */
export async function connectTls(probe: Probe, { verify }: { verify: boolean }): Promise<tls.TLSSocket> {
  const target = targetOf(probe);
  const socket = await connectHq(probe);
  const secured = tied(
    probe,
    tls.connect({
      socket,
      host: target.host,
      ...(target.literal ? {} : { servername: target.host }),
      rejectUnauthorized: verify,
      ...(probe.facts.ca === undefined ? {} : { ca: [...probe.facts.ca] }),
    }),
  );
  try {
    await within(probe, 'TLS', probe.patience.replyMs, once(secured, 'secureConnect'));
    return secured;
  } catch (error) {
    secured.destroy();
    throw error;
  }
}

/** TCP or TLS, as the address of HQ says. */
export async function connectSecured(probe: Probe, verify = true): Promise<net.Socket> {
  return targetOf(probe).secure ? connectTls(probe, { verify }) : connectHq(probe);
}

export interface HttpRequest {
  readonly path: string;
  readonly method?: 'GET' | 'POST';
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer;
  readonly limitMs?: number;
  /** false = look only, over an unverified connection: no secret may be in the headers. */
  readonly verify?: boolean;
  /** Called for each piece of the answer's body. */
  readonly onChunk?: (bytes: number) => void;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
  readonly bytes: number;
  /** From the request being written to the head of the answer. */
  readonly sentAt: number;
  readonly answeredAt: number;
}

/** What is kept of a body; the rest is only counted. */
const TEXT_LIMIT = 64 * 1024;

export async function requestHq(probe: Probe, request: HttpRequest): Promise<HttpAnswer> {
  const target = targetOf(probe);
  const socket = await connectSecured(probe, request.verify ?? true);
  try {
    return await within(
      probe,
      'HTTP',
      request.limitMs ?? probe.patience.replyMs,
      exchange(probe, socket, target, request),
    );
  } finally {
    socket.destroy();
  }
}

async function exchange(
  { machine }: Probe,
  socket: net.Socket,
  target: Target,
  { path, method = 'GET', headers = {}, body, onChunk }: HttpRequest,
): Promise<HttpAnswer> {
  const outgoing = http.request({
    createConnection: () => socket,
    method,
    path,
    headers: {
      host: `${target.host}:${target.port}`,
      connection: 'close',
      accept: 'application/json',
      ...(body === undefined
        ? {}
        : { 'content-type': 'application/octet-stream', 'content-length': body.length }),
      ...headers,
    },
  });
  const response = new Promise<http.IncomingMessage>((resolve, reject) => {
    outgoing.once('response', resolve);
    outgoing.once('error', reject);
    outgoing.once('upgrade', () => {
      reject(Object.assign(new Error('an upgrade that nobody asked for'), { code: 'HPE_UPGRADE' }));
    });
  });
  const sentAt = machine.clock.now();
  outgoing.end(body);
  const incoming = await response;
  const answeredAt = machine.clock.now();
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    if (bytes < TEXT_LIMIT) parts.push(chunk);
    bytes += chunk.length;
    onChunk?.(chunk.length);
  }
  return {
    status: incoming.statusCode ?? 0,
    headers: Object.fromEntries(
      Object.entries(incoming.headers).map(([name, value]) => [
        name,
        Array.isArray(value) ? value.join(', ') : (value ?? ''),
      ]),
    ),
    text: Buffer.concat(parts).toString('utf8'),
    bytes,
    sentAt,
    answeredAt,
  };
}

/** The page's title, or its first words: what a block page says of itself. */
export function titleOf({ text, headers }: HttpAnswer): string {
  const title = /<title[^>]*>([^<]{1,80})/i.exec(text)?.[1]?.trim();
  return [
    headers.server === undefined ? undefined : `Server: ${headers.server}`,
    title === undefined ? undefined : `title "${title}"`,
  ]
    .filter((part) => part !== undefined)
    .join(', ');
}
