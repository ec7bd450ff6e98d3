/** Faults of the settings, the machine and the credential file. */
import { writeFile, chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { tmpdir } from 'node:os';
import type { Fault } from './faults.ts';
import { HOST } from './lab.ts';
import { startRaw } from './raw.ts';
import net from 'node:net';

/** Nothing answers DNS: what a machine without a network sees. */
const UNPLUGGED = { patience: { dnsMs: 250 } };

export const LOCAL_FAULTS: readonly Fault[] = [
  {
    what: 'nothing says where HQ is',
    code: 'PS-CFG-MISSING',
    how: 'no credential, no address',
    arrange: () => Promise.resolve({ credential: null }),
  },
  {
    what: 'the address of HQ is no address',
    code: 'PS-CFG-URL',
    how: '`htp:/hq`',
    arrange: () => Promise.resolve({ hqUrl: 'htp:/hq' }),
  },
  {
    what: 'the address of HQ holds a password',
    code: 'PS-CFG-URL-SECRET',
    how: '`wss://user:secret@hq`',
    arrange: () => Promise.resolve({ hqUrl: `wss://user:secret@${HOST}:3001` }),
  },
  {
    what: 'the address of HQ is http:// beyond this machine',
    code: 'PS-CFG-PLAINTEXT',
    how: 'HQ under another name behind a tunnel',
    async arrange(lab) {
      const { port } = await lab.plainHq();
      const proxy = await lab.use(
        startRaw((client) => {
          client.once('data', () => {
            const server = net.connect(port, '127.0.0.1', () => {
              client.write('HTTP/1.1 200 OK\r\n\r\n');
              client.pipe(server).pipe(client);
            });
            server.on('error', () => client.destroy());
          });
        }),
      );
      return { hqUrl: 'http://hq.example.test:3001', proxy: `http://127.0.0.1:${proxy.port}` };
    },
  },
  {
    what: 'the config file is no JSON',
    code: 'PS-CFG-SYNTAX',
    how: 'the fault that the loader reports',
    async arrange(lab) {
      const faults = ['/etc/possync/store.json: no valid JSON (line 7 column 3)'];
      return { hqUrl: await lab.hq(), config: { faults } };
    },
  },
  {
    what: 'a setting has a wrong value',
    code: 'PS-CFG-INVALID',
    how: 'the fault that the loader reports',
    async arrange(lab) {
      return { hqUrl: await lab.hq(), config: { faults: ["SYNC_PUSH_INTERVAL: 'soon' is not a duration"] } };
    },
  },
  {
    what: 'everybody may change the config file',
    code: 'PS-CFG-WRITABLE',
    how: 'mode 0666',
    async arrange(lab) {
      const file = join(tmpdir(), `possync-lab-${process.pid}.json`);
      await writeFile(file, '{}');
      await chmod(file, 0o666);
      return { hqUrl: await lab.hq(), config: { file } };
    },
  },
  {
    what: 'Node is too old',
    code: 'PS-HOST-NODE',
    how: 'version 18.19',
    async arrange(lab) {
      return { hqUrl: await lab.hq(), machine: { nodeVersion: '18.19.0' } };
    },
  },
  {
    what: 'the disk is full',
    code: 'PS-HOST-DISK',
    how: '140 MiB of 100 GiB free',
    async arrange(lab) {
      const space = { freeBytes: 140 << 20, totalBytes: 100 * 1024 ** 3, freeFiles: 9e5, totalFiles: 1e6 };
      return { hqUrl: await lab.hq(), machine: { space } };
    },
  },
  {
    what: 'the disk has no room for more files',
    code: 'PS-HOST-INODES',
    how: '12 of a million inodes free',
    async arrange(lab) {
      const space = {
        freeBytes: 50 * 1024 ** 3,
        totalBytes: 100 * 1024 ** 3,
        freeFiles: 12,
        totalFiles: 1e6,
      };
      return { hqUrl: await lab.hq(), machine: { space } };
    },
  },
  {
    what: 'the network cable is unplugged',
    code: 'PS-HOST-CABLE',
    how: 'no carrier, DNS silent',
    async arrange(lab) {
      return {
        ...UNPLUGGED,
        hqUrl: 'wss://hq.example.test:3001',
        dnsServers: [await lab.dns({ silent: true })],
        files: { '/sys/class/net/eth0/carrier': '0\n' },
      };
    },
  },
  {
    what: 'this machine has no address',
    code: 'PS-HOST-NOIP',
    how: 'no interface but loopback, DNS silent',
    async arrange(lab) {
      return {
        ...UNPLUGGED,
        hqUrl: 'wss://hq.example.test:3001',
        dnsServers: [await lab.dns({ silent: true })],
        machine: { interfaces: [] },
      };
    },
  },
  {
    what: 'this machine has no default gateway',
    code: 'PS-HOST-NOROUTE',
    how: 'empty route table, DNS silent',
    async arrange(lab) {
      return {
        ...UNPLUGGED,
        hqUrl: 'wss://hq.example.test:3001',
        dnsServers: [await lab.dns({ silent: true })],
        files: { '/proc/net/route': 'Iface\tDestination\tGateway\n' },
      };
    },
  },
  {
    what: 'the router is off',
    code: 'PS-HOST-GATEWAY',
    how: 'incomplete ARP entry, DNS silent',
    async arrange(lab) {
      const head = 'IP address       HW type     Flags       HW address            Mask     Device\n';
      return {
        ...UNPLUGGED,
        hqUrl: 'wss://hq.example.test:3001',
        dnsServers: [await lab.dns({ silent: true })],
        files: {
          '/proc/net/arp': `${head}10.20.42.1       0x1         0x0         00:00:00:00:00:00     *        eth0\n`,
        },
      };
    },
  },
  {
    what: 'the clock is not synchronised',
    code: 'PS-HOST-NTP',
    how: 'timesyncd runs and has not synchronised',
    async arrange(lab) {
      return {
        hqUrl: await lab.hq(),
        files: { '/run/systemd/timesync/synchronized': undefined, '/run/systemd/timesync/.keep': '' },
      };
    },
  },
  {
    what: 'the credential is gone',
    code: 'PS-TOKEN-MISSING',
    how: 'no file',
    async arrange(lab) {
      return { hqUrl: await lab.hq(), credential: null };
    },
  },
  {
    what: 'the credential is damaged',
    code: 'PS-TOKEN-GARBLED',
    how: 'last characters cut off',
    async arrange(lab) {
      return { hqUrl: await lab.hq(), credential: '{"token":"pst_ABCDEFGH_tooshort"}' };
    },
  },
  {
    what: 'everybody may read the credential',
    code: 'PS-TOKEN-PERMS',
    how: 'mode 0644',
    async arrange(lab) {
      return { hqUrl: await lab.hq(), credentialMode: 0o644 };
    },
  },
  {
    what: 'a rotation was interrupted',
    code: 'PS-TOKEN-HALFWAY',
    how: '`credential.next` an hour old',
    async arrange(lab) {
      return { hqUrl: await lab.hq(), state: { 'credential.next': { text: '{}', ageMs: 3_600_000 } } };
    },
  },
  {
    what: 'a proxy that is no HTTP proxy is set in the environment',
    code: 'PS-PROXY-ENV',
    how: 'HTTPS_PROXY of SOCKS, and a network where only the proxy gets out',
    async arrange(lab) {
      return {
        hqUrl: 'wss://hq.example.test:3001',
        dnsServers: [await lab.dns({ rcode: 3 })],
        env: { HTTPS_PROXY: 'socks5://proxy:1080' },
      };
    },
  },
];
