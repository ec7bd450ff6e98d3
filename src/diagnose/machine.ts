/** Everything that a check reads of its surroundings, so that a lab can put real files and servers in their place. */
import { readFile, readdir, stat, statfs } from 'node:fs/promises';
import type { Stats } from 'node:fs';
import dns from 'node:dns';
import os from 'node:os';
import { join } from 'node:path';
import { systemClock, type Clock } from '../core/clock.ts';
import type { Address } from './facts.ts';

export interface Space {
  readonly freeBytes: number;
  readonly totalBytes: number;
  readonly freeFiles: number;
  readonly totalFiles: number;
}

export interface NetworkInterface {
  readonly name: string;
  readonly address: string;
  readonly family: 4 | 6;
}

export interface Machine {
  readonly clock: Clock;
  readonly nodeVersion: string;
  readonly user: string;
  readonly uid: number | undefined;
  /** A system file such as /etc/hosts; undefined = not there or not readable. */
  systemFile(path: string): Promise<string | undefined>;
  systemDirectory(path: string): Promise<readonly string[]>;
  /** A file of the store; undefined = not there. */
  stat(path: string): Promise<Stats | undefined>;
  space(path: string): Promise<Space>;
  interfaces(): readonly NetworkInterface[];
  /** `address` or `address:port`, as dns.getServers() gives them. */
  dnsServers(): readonly string[];
  /** What the daemon uses: hosts file, then DNS. */
  lookup(host: string): Promise<readonly Address[]>;
  load(): { readonly average: number; readonly cores: number; readonly freeBytes: number };
}

export interface MachineOptions {
  readonly clock?: Clock;
  /** Where /etc, /proc, /sys and /run are taken from. */
  readonly root?: string;
  readonly nodeVersion?: string;
  readonly dnsServers?: readonly string[];
  readonly lookup?: (host: string) => Promise<readonly Address[]>;
  readonly interfaces?: readonly NetworkInterface[];
  readonly space?: Space;
  readonly load?: ReturnType<Machine['load']>;
}

export function createMachine(options: MachineOptions = {}): Machine {
  const { root = '/' } = options;
  return {
    clock: options.clock ?? systemClock,
    nodeVersion: options.nodeVersion ?? process.versions.node,
    user: os.userInfo().username,
    uid: process.getuid?.(),
    async systemFile(path) {
      try {
        return await readFile(join(root, path), 'utf8');
      } catch {
        return undefined; // a kernel without this file, or a container that hides it
      }
    },
    async systemDirectory(path) {
      try {
        return await readdir(join(root, path));
      } catch {
        return [];
      }
    },
    async stat(path) {
      try {
        return await stat(path);
      } catch (error) {
        if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
        throw error;
      }
    },
    async space(path) {
      if (options.space !== undefined) return options.space;
      const { bavail, bsize, blocks, ffree, files } = await statfs(path);
      return {
        freeBytes: bavail * bsize,
        totalBytes: blocks * bsize,
        freeFiles: ffree,
        totalFiles: files,
      };
    },
    interfaces: () => options.interfaces ?? realInterfaces(),
    dnsServers: () => options.dnsServers ?? dns.getServers(),
    lookup: options.lookup ?? realLookup,
    load: () =>
      options.load ?? {
        average: os.loadavg()[0] ?? 0,
        cores: os.availableParallelism(),
        freeBytes: os.freemem(),
      },
  };
}

function realInterfaces(): NetworkInterface[] {
  return Object.entries(os.networkInterfaces()).flatMap(([name, list]) =>
    (list ?? [])
      .filter(({ internal, address }) => !internal && !address.startsWith('fe80'))
      .map(({ address, family }) => ({ name, address, family: family === 'IPv6' ? 6 : 4 }) as const),
  );
}

async function realLookup(host: string): Promise<readonly Address[]> {
  const found = await dns.promises.lookup(host, { all: true });
  return found.map(({ address, family }) => ({ address, family: family === 6 ? 6 : 4 }));
}
