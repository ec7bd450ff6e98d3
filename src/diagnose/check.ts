/** What a check is, what it may ask, and what it may answer. Checks know nothing of the terminal. */
import type { ErrorCode } from '../core/errors.ts';
import { ERRORS } from '../core/errors.ts';
import type { Facts } from './facts.ts';
import type { Machine } from './machine.ts';
import type { Subject } from './subject.ts';

/** In path order: from the settings of this machine to the quality of the line. */
export const LAYERS = [
  'cfg',
  'host',
  'daemon',
  'db',
  'queue',
  'dns',
  'tcp',
  'proxy',
  'tls',
  'http',
  'token',
  'ws',
  'path',
] as const;
export type Layer = (typeof LAYERS)[number];

export const LAYER_TITLES: Readonly<Record<Layer, string>> = {
  cfg: 'Configuration',
  host: 'This machine',
  daemon: 'Daemon',
  db: 'Local database',
  queue: 'Queue and sync',
  dns: 'DNS',
  tcp: 'TCP / firewall',
  proxy: 'Proxy',
  tls: 'TLS',
  http: 'HTTP',
  token: 'Token',
  ws: 'WebSocket',
  path: 'Path',
};

export type Evidence = Readonly<Record<string, unknown>>;

/** What a check found. `code` is there exactly when something is to be done or known. */
export interface Finding {
  readonly status: 'pass' | 'warn' | 'fail';
  readonly code?: ErrorCode;
  readonly message: string;
  readonly hint?: string;
  readonly target?: string;
  readonly evidence?: Evidence;
}

/** How long single steps may take; a lab on loopback uses shorter ones than a store on a satellite line. */
export interface Patience {
  /** The kernel sends three SYNs in five seconds; more would break the total of fifteen. */
  readonly connectMs: number;
  /** TLS, an HTTP answer, an echo. */
  readonly replyMs: number;
  /** How long a WebSocket must live to be believed. */
  readonly holdMs: number;
  /** One DNS question to one server, asked twice. */
  readonly dnsMs: number;
  /** --deep: silence on a WebSocket before it is asked again. */
  readonly idleMs: number;
}

export const PATIENCE_DEFAULT: Patience = {
  connectMs: 5_000,
  replyMs: 3_000,
  holdMs: 5_000,
  dnsMs: 1_000,
  idleMs: 75_000,
};

/** What a running check works with. `facts` carries what earlier checks learned. */
export interface Probe {
  readonly subject: Subject;
  readonly machine: Machine;
  readonly facts: Facts;
  readonly patience: Patience;
  readonly deep: boolean;
  /** Aborted when the check's own time or the budget of the run is over. */
  readonly signal: AbortSignal;
}

export interface Check {
  /** `layer.what`: stable, scripts and the runbook hang on it. */
  readonly id: string;
  readonly layer: Layer;
  /** An assertion in lower case: with a mark in front it reads as a sentence. */
  readonly title: string;
  /** If one of these fails, this check is skipped and names it. */
  readonly dependsOn?: readonly string[];
  /** Waits for these, whatever they find: its own message uses what they learned. */
  readonly after?: readonly string[];
  /** Left out of --quick. */
  readonly slow?: true;
  /** Only with --deep. */
  readonly deep?: true;
  /** Longest run; five seconds unless told. */
  readonly limitMs?: number;
  readonly run: (probe: Probe) => Promise<Finding> | Finding;
}

export function pass(message: string, evidence?: Evidence): Finding {
  return { status: 'pass', message, ...(evidence === undefined ? {} : { evidence }) };
}

export interface Detail {
  readonly hint?: string;
  readonly target?: string;
  readonly evidence?: Evidence;
}

export function warn(code: ErrorCode, message: string, detail: Detail = {}): Finding {
  return { status: 'warn', code, message, hint: ERRORS[code].hint, ...detail };
}

export function fail(code: ErrorCode, message: string, detail: Detail = {}): Finding {
  return { status: 'fail', code, message, hint: ERRORS[code].hint, ...detail };
}

export type Status = Finding['status'] | 'skip' | 'error';

/** What the runner reports of every check. */
export interface CheckResult {
  readonly id: string;
  readonly layer: Layer;
  readonly title: string;
  readonly status: Status;
  readonly code?: ErrorCode;
  readonly message: string;
  readonly hint?: string;
  readonly target?: string;
  readonly evidence?: Evidence;
  readonly dependsOn: readonly string[];
  /** With status skip: the check that failed, or why it was not run. */
  readonly skippedBecause?: string;
  readonly durationMs: number;
}
