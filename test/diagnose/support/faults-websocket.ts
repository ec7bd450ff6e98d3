/** Faults that only WebSocket has: what boxes on the way do to an upgrade and to frames. */
import type { Duplex } from 'node:stream';
import type { Fault } from './faults.ts';
import type { HqWish } from './hq.ts';
import { HOST } from './lab.ts';
import { startPath } from './raw.ts';

function hqFault(what: string, code: Fault['code'], how: string, wish: HqWish): Fault {
  return { what, code, how, arrange: async (lab) => ({ hqUrl: await lab.hq(wish) }) };
}

/** Answers the upgrade with these bytes. */
function upgradeFault(what: string, code: Fault['code'], head: string, body = ''): Fault {
  return hqFault(what, code, `⟨raw⟩ \`${head.split('\r\n')[0] ?? ''}\` to the upgrade`, {
    upgrade(_request, socket: Duplex) {
      socket.end(`HTTP/1.1 ${head}\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
      return true;
    },
  });
}

export const WEBSOCKET_FAULTS: readonly Fault[] = [
  {
    what: 'a proxy removes the Upgrade header',
    code: 'PS-WS-STRIPPED',
    how: 'a path that renames the header; HQ answers 426 and says what it saw',
    async arrange(lab) {
      const { port } = await lab.plainHq();
      const path = await lab.use(
        startPath(port, {
          edit: (chunk, way) =>
            way === 'up'
              ? Buffer.from(
                  chunk
                    .toString('latin1')
                    .replace(/upgrade: websocket/i, 'x-removed: webso')
                    .replace(/connection: upgrade/i, 'connection: close'),
                  'latin1',
                )
              : chunk,
        }),
      );
      return { hqUrl: `ws://${HOST}:${path.port}` };
    },
  },
  upgradeFault(
    'a proxy answers the upgrade with a page',
    'PS-WS-STRIPPED',
    '200 OK\r\nServer: squid',
    '<html>',
  ),
  upgradeFault('a proxy answers the upgrade with 400', 'PS-WS-STRIPPED', '400 Bad Request', ''),
  hqFault('a 101 arrives without its headers', 'PS-WS-STRIPPED', '⟨raw⟩ `101` alone', {
    upgrade(_request, socket: Duplex) {
      socket.write('HTTP/1.1 101 Switching Protocols\r\n\r\n');
      return true;
    },
  }),
  upgradeFault(
    'a web filter refuses WebSocket',
    'PS-WS-BLOCKED',
    '403 Forbidden\r\nServer: Zscaler/6.2',
    'no',
  ),
  upgradeFault(
    'a proxy wants a password for WebSocket',
    'PS-PROXY-AUTH',
    '407 Proxy Authentication Required',
    '',
  ),
  upgradeFault(
    'WebSocket is sent to a login page',
    'PS-HTTP-PORTAL',
    '302 Found\r\nLocation: http://portal.local/',
    '',
  ),
  upgradeFault('the load balancer does not pass WebSocket on', 'PS-WS-GATEWAY', '502 Bad Gateway', ''),
  hqFault('the upgrade is never answered', 'PS-WS-NOANSWER', 'upgrade taken, nothing said', {
    upgrade: () => true,
  }),
  hqFault('the upgrade is cut', 'PS-WS-CUT', 'socket destroyed on the upgrade', {
    upgrade(_request, socket: Duplex) {
      socket.destroy();
      return true;
    },
  }),
  hqFault('somebody else accepts the upgrade', 'PS-WS-MANGLED', 'wrong Sec-WebSocket-Accept', {
    upgrade(_request, socket: Duplex) {
      socket.write(
        'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: bm90IGl0\r\n\r\n',
      );
      return true;
    },
  }),
  {
    what: 'the subprotocol is removed',
    code: 'PS-WS-SUBPROTO',
    how: 'a path that renames the header of the answer',
    async arrange(lab) {
      const { port } = await lab.plainHq();
      const path = await lab.use(
        startPath(port, {
          edit: (chunk, way) =>
            way === 'down'
              ? Buffer.from(
                  chunk.toString('latin1').replace('Sec-WebSocket-Protocol', 'X-Removed-By-A-Box-Xyz'),
                  'latin1',
                )
              : chunk,
        }),
      );
      return { hqUrl: `ws://${HOST}:${path.port}` };
    },
  },
  hqFault('frames are swallowed', 'PS-WS-DEAD', 'upgrade accepted, no frame answered', { echo: 'swallow' }),
  hqFault('the WebSocket is cut after opening', 'PS-WS-KILLED', 'socket destroyed after 30 ms', {
    echo: 'kill',
  }),
  hqFault('frames are damaged', 'PS-WS-MANGLED', 'foreign bytes between frames', { echo: 'garbage' }),
  hqFault('large frames are refused', 'PS-WS-TOOBIG', 'limit of 1 400 bytes, close 1009', { echo: 'limit' }),
  {
    what: 'large packets are lost (VPN, MTU)',
    code: 'PS-PATH-MTU',
    how: 'a path where pieces of more than 1 400 bytes, and all behind them, never arrive',
    async arrange(lab) {
      const { port } = await lab.plainHq();
      const path = await lab.use(startPath(port, { holeBytes: 1_400 }));
      return { hqUrl: `ws://${HOST}:${path.port}` };
    },
  },
  {
    what: 'an idle timeout cuts the WebSocket',
    code: 'PS-WS-IDLE',
    how: 'a path that closes after 300 ms of silence; --deep',
    async arrange(lab) {
      const { port } = await lab.plainHq();
      const path = await lab.use(
        startPath(port, {
          edit(chunk, _way, client) {
            client.setTimeout(300, () => client.destroy());
            return chunk;
          },
        }),
      );
      return { hqUrl: `ws://${HOST}:${path.port}`, deep: true, only: ['ws.idle'] };
    },
  },
  {
    what: 'a proxy collects replies',
    code: 'PS-PATH-BUFFERED',
    how: 'pieces that HQ sends 200 ms apart arrive together',
    arrange: async (lab) => ({ hqUrl: await lab.hq({ buffered: true }), only: ['path.proxybuffer'] }),
  },
];
