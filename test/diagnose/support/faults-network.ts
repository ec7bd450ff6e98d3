/** Faults of DNS, TCP and proxies. */
import type { DnsWish } from './dns.ts';
import type { Fault } from './faults.ts';
import { HOST } from './lab.ts';
import { closedPort, startAnswer, startDeaf, startRaw } from './raw.ts';

const NAME = `wss://${HOST}:3001`;

function dnsFault(what: string, code: Fault['code'], how: string, wish: DnsWish): Fault {
  return {
    what,
    code,
    how,
    arrange: async (lab) => ({ hqUrl: NAME, dnsServers: [await lab.dns(wish)] }),
  };
}

function proxyFault(what: string, code: Fault['code'], answer: string): Fault {
  return {
    what,
    code,
    how: `⟨raw⟩ \`${answer}\``,
    async arrange(lab) {
      const { port } = await lab.use(startAnswer(`HTTP/1.1 ${answer}\r\nContent-Length: 0\r\n\r\n`));
      return { hqUrl: await lab.hq(), proxy: `http://127.0.0.1:${port}` };
    },
  };
}

export const NETWORK_FAULTS: readonly Fault[] = [
  {
    what: 'no DNS server is configured',
    code: 'PS-DNS-NOSERVER',
    how: 'resolv.conf without nameserver',
    arrange: () =>
      Promise.resolve({
        hqUrl: 'wss://hq.example.test:3001',
        dnsServers: ['127.0.0.1'],
        files: { '/etc/resolv.conf': '# empty\n' },
      }),
  },
  dnsFault('the name of HQ does not exist', 'PS-DNS-NXDOMAIN', 'rcode 3', { rcode: 3 }),
  dnsFault('the name of HQ has no address', 'PS-DNS-NODATA', 'empty answer', {}),
  dnsFault('the DNS server cannot find out', 'PS-DNS-SERVFAIL', 'rcode 2', { rcode: 2 }),
  dnsFault('the DNS server refuses this store', 'PS-DNS-REFUSED', 'rcode 5', { rcode: 5 }),
  dnsFault('the DNS server does not answer', 'PS-DNS-TIMEOUT', 'silent server', { silent: true }),
  {
    what: 'nothing listens at the DNS server',
    code: 'PS-DNS-SERVER-DOWN',
    how: 'closed UDP port',
    async arrange(lab) {
      const address = await lab.dns({});
      await lab.close();
      return { hqUrl: NAME, dnsServers: [address] };
    },
  },
  {
    what: 'a DNS filter blocks HQ',
    code: 'PS-DNS-BLOCKPAGE',
    how: 'answer 0.0.0.0',
    arrange: async (lab) => ({ hqUrl: NAME, dnsServers: [await lab.dns({ v4: ['0.0.0.0'] })] }),
  },
  {
    what: 'the hosts file sends possync elsewhere',
    code: 'PS-DNS-HOSTS',
    how: 'a line for HQ with an address where nothing listens',
    async arrange(lab) {
      return { hqUrl: await lab.hq(), files: { '/etc/hosts': `127.0.0.1 localhost\n127.0.0.9 ${HOST}\n` } };
    },
  },
  {
    what: 'DNS servers disagree',
    code: 'PS-DNS-SPLIT',
    how: 'two servers, two answers',
    async arrange(lab) {
      const dnsServers = [await lab.dns({ v4: ['127.0.0.1'] }), await lab.dns({ v4: ['127.0.0.9'] })];
      return { hqUrl: await lab.hq(), dnsServers };
    },
  },
  {
    what: 'DNS is slow',
    code: 'PS-DNS-SLOW',
    how: 'answers after 0.7 s',
    async arrange(lab) {
      return {
        hqUrl: await lab.hq(),
        dnsServers: [await lab.dns({ v4: ['127.0.0.1'], delayMs: 700 })],
        patience: { dnsMs: 2_000 },
      };
    },
  },
  {
    what: 'HQ has only an IPv6 address and this store has none',
    code: 'PS-DNS-V6ONLY',
    how: 'AAAA 2001:db8::1, no IPv6 interface',
    async arrange(lab) {
      return { hqUrl: 'wss://hq.example.test:3001', dnsServers: [await lab.dns({ v6: ['2001:db8::1'] })] };
    },
  },
  {
    what: 'nothing listens on the port of HQ',
    code: 'PS-TCP-REFUSED',
    how: 'closed port',
    arrange: async () => ({ hqUrl: `wss://${HOST}:${await closedPort()}` }),
  },
  {
    what: 'a firewall drops the port of HQ',
    code: 'PS-TCP-DROPPED',
    how: 'listener with a full queue: the kernel drops SYNs',
    async arrange(lab) {
      const { port } = await lab.use(startDeaf());
      return { hqUrl: `wss://${HOST}:${port}` };
    },
  },
  {
    what: 'a firewall accepts and cuts at once (RST)',
    code: 'PS-TCP-RESET',
    how: 'accept, then reset',
    async arrange(lab) {
      const { port } = await lab.use(startRaw((socket) => socket.resetAndDestroy()));
      return { hqUrl: `wss://${HOST}:${port}` };
    },
  },
  {
    what: 'a firewall accepts and hangs up at once (FIN)',
    code: 'PS-TCP-RESET',
    how: 'accept, then end',
    async arrange(lab) {
      const { port } = await lab.use(startRaw((socket) => socket.end()));
      return { hqUrl: `wss://${HOST}:${port}` };
    },
  },
  {
    what: 'IPv6 of HQ does not work',
    code: 'PS-TCP-V6BROKEN',
    how: 'AAAA ::1, HQ listens on 127.0.0.1 only',
    async arrange(lab) {
      return { hqUrl: await lab.hq(), dnsServers: [await lab.dns({ v4: ['127.0.0.1'], v6: ['::1'] })] };
    },
  },
  {
    what: 'the proxy is down',
    code: 'PS-PROXY-DOWN',
    how: 'closed port',
    async arrange(lab) {
      return { hqUrl: await lab.hq(), proxy: `http://127.0.0.1:${await closedPort()}` };
    },
  },
  proxyFault('the proxy wants a password', 'PS-PROXY-AUTH', '407 Proxy Authentication Required'),
  proxyFault('the proxy forbids the port', 'PS-PROXY-DENIED', '403 Forbidden'),
  proxyFault('the proxy cannot reach HQ', 'PS-PROXY-UPSTREAM', '502 Bad Gateway'),
  proxyFault('the proxy does not know CONNECT', 'PS-PROXY-NOCONNECT', '405 Method Not Allowed'),
];
