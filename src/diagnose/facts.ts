/** What checks learn and later ones use: filled in path order, each part by exactly one check. */
import type { TLSSocket } from 'node:tls';
import type { X509Certificate } from 'node:crypto';
import type pg from 'pg';
import type { ErrorCode } from '../core/errors.ts';
import type { DiagPing, Whoami } from '../protocol/diag.ts';
import type { Memory } from './memory.ts';

export interface Target {
  readonly secure: boolean;
  readonly host: string;
  readonly port: number;
  /** The host is an address: there is nothing to look up. */
  readonly literal: boolean;
}

export interface Address {
  readonly address: string;
  readonly family: 4 | 6;
}

export interface DnsAnswer {
  readonly server: string;
  readonly addresses: readonly string[];
  /** c-ares' code when there is no address. */
  readonly code: string | undefined;
  readonly ms: number;
}

/** One try to reach one address. */
export interface Attempt {
  readonly address: Address;
  readonly ms: number;
  /** undefined = connected. */
  readonly code: string | undefined;
}

export interface TlsFacts {
  readonly protocol: string | null;
  /** OpenSSL's verdict on the chain, if it is not trusted here. */
  readonly authorizationError: string | undefined;
  /** Leaf first, as HQ sent it. */
  readonly chain: readonly X509Certificate[];
  readonly verified: TLSSocket['authorized'];
}

export interface Facts {
  target?: Target;
  /** The last good run, for comparisons. */
  memory?: Memory | undefined;
  ca?: readonly string[] | undefined;
  addresses?: readonly Address[];
  /** What each DNS server said, hosts file aside. */
  answers?: readonly DnsAnswer[];
  attempts?: readonly Attempt[];
  /** The address that answered, fastest first. */
  reachable?: Address;
  connectMs?: number;
  proxyUsed?: boolean;
  tls?: TlsFacts;
  ping?: DiagPing;
  /** Headers and status of the answer to diag/ping, whoever gave it. */
  pingHeaders?: Readonly<Record<string, string>>;
  skewMs?: number;
  whoami?: Whoami;
  db?: pg.Pool;
  /** PostgreSQL answered and refused: who asks, or the name of the database. */
  dbRefused?: { readonly code: ErrorCode; readonly message: string };
  /** The daemon's status document. */
  daemon?: Readonly<Record<string, unknown>>;
  /** The link is green, as the daemon or its row in the database says. */
  connected?: boolean;
  queued?: number;
  echoMs?: readonly number[];
  largestEcho?: number;
}
