/** HQ through an HTTP proxy: an agent whose connections are tunnels of CONNECT, for HTTP and for the WebSocket. */
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { codeOf } from '../../core/classify.ts';
import { PossyncError } from '../../core/errors.ts';
import { networkError } from '../../core/network-error.ts';
import { connectRequest, proxyAddress, proxyRefusal } from '../../core/proxy.ts';

type Done = (error: Error | null, socket: Duplex) => void;

/** Shorter than the whole attempt (CONNECT_MS), so that a silent proxy is named and not HQ. */
const PROXY_MS = 4_000;

/** Hands sockets out when they are ready for HTTP: behind the proxy, and where TLS is used, after its handshake. */
export function tunnelAgent(proxy: URL, secure: boolean, options: https.AgentOptions): http.Agent {
  return secure ? new SecureTunnels(proxy, options) : new PlainTunnels(proxy, options);
}

class PlainTunnels extends http.Agent {
  readonly #proxy: URL;

  constructor(proxy: URL, options: http.AgentOptions) {
    super(options);
    this.#proxy = proxy;
  }

  override createConnection(options: http.ClientRequestArgs, done?: Done): undefined {
    hand(openTunnel(this.#proxy, options), done);
  }
}

class SecureTunnels extends https.Agent {
  readonly #proxy: URL;

  constructor(proxy: URL, options: https.AgentOptions) {
    super(options);
    this.#proxy = proxy;
  }

  override createConnection(options: https.RequestOptions, done?: Done): undefined {
    hand(this.#secured(options), done);
  }

  async #secured(options: https.RequestOptions): Promise<Duplex> {
    const tunnel = await openTunnel(this.#proxy, options);
    const over: https.RequestOptions & { socket: Duplex } = { ...options, socket: tunnel };
    const secured = super.createConnection(over);
    if (secured == null) throw new Error('TLS has no socket');
    tunnel.setTimeout(PROXY_MS, () => {
      secured.destroy(Object.assign(new Error('no answer to the TLS greeting'), { code: 'ETIMEDOUT' }));
    });
    try {
      await once(secured, 'secureConnect');
      tunnel.setTimeout(0);
      return secured;
    } catch (error) {
      secured.destroy();
      throw networkError(error, true);
    }
  }
}

function hand(opening: Promise<Duplex>, done: Done | undefined): void {
  opening.then(
    (socket) => done?.(null, socket),
    (error: unknown) => {
      // The agent takes no socket where there is an error; its type does not say so.
      (done as ((refused: Error) => void) | undefined)?.(networkError(error));
    },
  );
}

/** Throws PS-PROXY-…; nothing of the proxy's user and password is in it. */
async function openTunnel(
  proxy: URL,
  { host: target, port: targetPort }: { host?: string | null | undefined; port?: unknown },
): Promise<net.Socket> {
  const { host, port } = proxyAddress(proxy);
  const { path, headers } = connectRequest(proxy, { host: target ?? '', port: Number(targetPort) });
  const socket = net.connect({ host, port });
  socket.setTimeout(PROXY_MS, () => {
    socket.destroy(Object.assign(new Error(`no byte for ${PROXY_MS} ms`), { code: 'ETIMEDOUT' }));
  });
  const request = http.request({ createConnection: () => socket, method: 'CONNECT', path, headers });
  const answered = new Promise<net.Socket>((resolve, reject) => {
    const refused = ({ statusCode = 0 }: http.IncomingMessage): void => {
      const [code, message] = proxyRefusal(statusCode, path);
      reject(new PossyncError(code, message, { details: { proxy: proxy.host } }));
    };
    request.once('connect', (response, _tunnel, head) => {
      if (response.statusCode !== 200) refused(response);
      else {
        if (head.length > 0) socket.unshift(head);
        resolve(socket);
      }
    });
    // Some proxies refuse with an ordinary answer.
    request.once('response', refused);
    request.once('error', reject);
  });
  request.end();
  try {
    const tunnel = await answered;
    tunnel.setTimeout(0);
    return tunnel;
  } catch (error) {
    socket.on('error', () => undefined); // told already
    socket.destroy();
    if (error instanceof PossyncError) throw error;
    throw new PossyncError('PS-PROXY-DOWN', `the proxy ${proxy.host} cannot be reached`, {
      why: codeOf(error) ?? 'it does not speak HTTP',
    });
  }
}
