/**
 * HQ over HTTP, as a store sees it: hello, pull, push, enrol, whoami.
 *
 * Expected refusals are values; everything else is a PossyncError with its code. An answer without the header
 * `x-possync-hq` did not come from HQ, whatever it says: a proxy's 401 must not look like a revoked credential.
 */
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import * as z from 'zod';
import { PossyncError, isErrorCode } from '../../core/errors.ts';
import { proxyFor, targetOf, type ProxySettings } from '../../core/proxy.ts';
import type { Secret } from '../../core/secret.ts';
import { whoamiSchema, type Whoami } from '../../protocol/diag.ts';
import { HQ_HEADER, PULL_LIMIT_BYTES, REQUEST_LIMIT_BYTES, ROUTES } from '../../protocol/http.ts';
import {
  enrolAnswerSchema,
  errorBodySchema,
  pushAnswerSchema,
  pushConflictSchema,
  reEnrolAnswerSchema,
  refuseSchema,
  rotationAnswerSchema,
  welcomeSchema,
  type Enrol,
  type EnrolAnswer,
  type Hello,
  type PullQuery,
  type Push,
  type PushAnswer,
  type PushConflict,
  type ReEnrol,
  type ReEnrolAnswer,
  type Refuse,
  type Rotation,
  type RotationAnswer,
  type Welcome,
} from '../../protocol/messages.ts';
import { VERIFY_LIMIT_BYTES } from '../../protocol/verify.ts';
import { CONNECT_MS, exchange, type Answer } from './http-exchange.ts';
import { tunnelAgent } from './tunnel-agent.ts';

export interface HqClientOptions {
  /** http(s)://host:port; ws(s) is taken as the same address. */
  readonly url: string;
  /** The whole `pst_…` text; absent before enrolment. */
  readonly credential?: Secret;
  /** Trusted instead of the system's authorities. */
  readonly caFile?: string;
  /** The HQ this store is enrolled with; another one is refused with PS-HTTP-OTHERHQ. */
  readonly hqId?: string;
  /** What decides on a proxy; absent: none. */
  readonly proxies?: ProxySettings | undefined;
  /** Says who we are in HQ's log. */
  readonly software: string;
}

export type PullAnswer =
  | { readonly result: 'page'; readonly body: Buffer }
  | { readonly result: 'resync' }
  /** A standby that has not yet seen what this store saw. */
  | { readonly result: 'behind' };

export type PushResult =
  | { readonly result: 'ok'; readonly answer: PushAnswer }
  | { readonly result: 'conflict'; readonly conflict: PushConflict }
  /** HQ is busy (429) or not ready (503); nothing was applied. */
  | { readonly result: 'later'; readonly afterMs: number; readonly error: PossyncError };

/** Answers to hello, push and the rest are small; dead lists are the longest part. */
const ANSWER_LIMIT_BYTES = 16 * REQUEST_LIMIT_BYTES;
const IDLE_MS = 15_000;
/** HQ applies a batch, seals a big round or waits for a lock before it answers. */
const WORK_IDLE_MS = 120_000;
/** HQ reads a whole table of this store before it answers: half a minute for ten million rows, more on a busy machine. */
const VERIFY_IDLE_MS = 600_000;
/** Without a word from HQ about when to return after 429 or 503. */
const LATER_MS_DEFAULT = 5_000;

export class HqClient {
  readonly url: string;
  readonly hqId: string | undefined;
  /** For TLS, shared with the WebSocket: undefined = the system's authorities. */
  readonly ca: string | undefined;
  readonly #proxy: URL | undefined;
  readonly #agent: http.Agent;
  readonly #headers: Readonly<Record<string, string>>;

  constructor({ url, credential, caFile, hqId, proxies, software }: HqClientOptions) {
    this.url = url.replace(/^ws/, 'http').replace(/\/+$/, '');
    this.hqId = hqId;
    this.ca = caFile === undefined ? undefined : readCa(caFile);
    // Four sockets: one pull, one push, one small request, one spare.
    // Node gives an address 250 ms before it tries the next one; on a slow line that gives up on the right one.
    const options = {
      keepAlive: true,
      maxSockets: 4,
      scheduling: 'lifo',
      autoSelectFamilyAttemptTimeout: CONNECT_MS,
    } as const;
    const secure = this.url.startsWith('https:');
    const trusting = { ...options, ...(this.ca === undefined ? {} : { ca: this.ca }) };
    this.#proxy = proxies === undefined ? undefined : proxyFor(targetOf(this.url), proxies);
    if (this.#proxy !== undefined) this.#agent = tunnelAgent(this.#proxy, secure, trusting);
    else this.#agent = secure ? new https.Agent(trusting) : new http.Agent(options);
    this.#headers = {
      'user-agent': software,
      ...(credential === undefined ? {} : { authorization: `Bearer ${credential.reveal()}` }),
    };
  }

  /** Headers of the WebSocket upgrade: the credential goes nowhere but here. */
  get headers(): Readonly<Record<string, string>> {
    return this.#headers;
  }

  /** Host and port of the proxy on the way, without its user and password. */
  get proxy(): string | undefined {
    return this.#proxy?.host;
  }

  /** For one WebSocket through the proxy; undefined: there is none. */
  tunnels(): http.Agent | undefined {
    if (this.#proxy === undefined) return undefined;
    const trusting = this.ca === undefined ? {} : { ca: this.ca };
    return tunnelAgent(this.#proxy, this.url.startsWith('https:'), trusting);
  }

  async hello(hello: Hello, signal?: AbortSignal): Promise<Welcome | Refuse> {
    const answer = await this.#post(ROUTES.hello, hello, signal);
    if (answer.status !== 200) throw refusal(answer);
    return parsed(z.discriminatedUnion('type', [welcomeSchema, refuseSchema]), answer);
  }

  async pull(query: PullQuery, signal?: AbortSignal): Promise<PullAnswer> {
    const search = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) search.set(name, String(value));
    const answer = await this.#send(
      'GET',
      `${ROUTES.pull}?${search.toString()}`,
      undefined,
      { limitBytes: PULL_LIMIT_BYTES, idleMs: WORK_IDLE_MS },
      signal,
    );
    if (answer.status === 200) return { result: 'page', body: answer.body };
    if (answer.status === 410) return { result: 'resync' };
    if (answer.status === 425) return { result: 'behind' };
    throw refusal(answer);
  }

  async push(push: Push, signal?: AbortSignal): Promise<PushResult> {
    const answer = await this.#post(ROUTES.push, push, signal, WORK_IDLE_MS);
    if (answer.status === 200) return { result: 'ok', answer: parsed(pushAnswerSchema, answer) };
    if (answer.status === 409) return { result: 'conflict', conflict: parsed(pushConflictSchema, answer) };
    const error = refusal(answer);
    if (answer.status !== 429 && answer.status !== 503) throw error;
    return { result: 'later', afterMs: retryMsOf(error) ?? LATER_MS_DEFAULT, error };
  }

  async enrol(enrol: Enrol, signal?: AbortSignal): Promise<EnrolAnswer> {
    const body = JSON.stringify(enrol);
    // A replacement gets its open work in the answer: registers, sessions, transfers.
    const answer = await this.#send(
      'POST',
      ROUTES.enrol,
      body,
      { limitBytes: PULL_LIMIT_BYTES, idleMs: WORK_IDLE_MS },
      signal,
    );
    if (answer.status !== 200) throw refusal(answer);
    return parsed(enrolAnswerSchema, answer);
  }

  async reEnrol(request: ReEnrol, signal?: AbortSignal): Promise<ReEnrolAnswer> {
    const answer = await this.#post(ROUTES.reEnrol, request, signal, WORK_IDLE_MS);
    if (answer.status !== 200) throw refusal(answer);
    return parsed(reEnrolAnswerSchema, answer);
  }

  /** A new credential beside this one, by its hash. */
  async rotate(rotation: Rotation, signal?: AbortSignal): Promise<RotationAnswer> {
    const answer = await this.#post(ROUTES.rotations, rotation, signal);
    if (answer.status !== 200) throw refusal(answer);
    return parsed(rotationAnswerSchema, answer);
  }

  /** With the new credential: it is in force; `finish` ends the one before at once. */
  async rotated(id: string, step: 'confirm' | 'finish', signal?: AbortSignal): Promise<RotationAnswer> {
    const answer = await this.#post(`${ROUTES.rotations}/${id}/${step}`, {}, signal);
    if (answer.status !== 200) throw refusal(answer);
    return parsed(rotationAnswerSchema, answer);
  }

  /** A step of `possync verify`; the caller knows what comes back. */
  async verify(
    step: string,
    body: object,
    signal?: AbortSignal,
  ): Promise<{ readonly text: string; readonly bytes: number }> {
    const answer = await this.#send(
      'POST',
      `${ROUTES.verify}/${step}`,
      JSON.stringify(body),
      { limitBytes: VERIFY_LIMIT_BYTES, idleMs: VERIFY_IDLE_MS },
      signal,
    );
    if (answer.status !== 200) throw refusal(answer);
    return { text: answer.body.toString(), bytes: answer.bytes };
  }

  async whoami(signal?: AbortSignal): Promise<Whoami> {
    const answer = await this.#send(
      'GET',
      ROUTES.whoami,
      undefined,
      { limitBytes: ANSWER_LIMIT_BYTES, idleMs: IDLE_MS },
      signal,
    );
    if (answer.status !== 200) throw refusal(answer);
    return parsed(whoamiSchema, answer);
  }

  /** Ends idle and busy sockets; requests in hand fail. */
  close(): void {
    this.#agent.destroy();
  }

  #post(route: string, body: object, signal?: AbortSignal, idleMs = IDLE_MS): Promise<Answer> {
    return this.#send(
      'POST',
      route,
      JSON.stringify(body),
      { limitBytes: ANSWER_LIMIT_BYTES, idleMs },
      signal,
    );
  }

  async #send(
    method: 'GET' | 'POST',
    path: string,
    body: string | undefined,
    bounds: { limitBytes: number; idleMs: number },
    signal: AbortSignal | undefined,
  ): Promise<Answer> {
    const answer = await exchange(this.#agent, {
      method,
      url: new URL(`${this.url}${path}`),
      headers: this.#headers,
      ...bounds,
      ...(body === undefined ? {} : { body }),
      ...(signal === undefined ? {} : { signal }),
    });
    checkIdentity(answer.headers[HQ_HEADER], this.hqId, answer.status, answer.headers.server);
    return answer;
  }
}

function readCa(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new PossyncError('PS-TLS-FILES', `cannot read the CA file ${path}`, { cause: error });
  }
}

/** Throws unless the answer came from the HQ that this store belongs to. */
export function checkIdentity(
  header: string | string[] | undefined,
  expected: string | undefined,
  status: number,
  server: string | string[] | undefined,
): void {
  if (typeof header !== 'string')
    throw new PossyncError('PS-HTTP-NOTHQ', 'something other than possync HQ answers at this address', {
      why: `HTTP ${status} without its identity header${server === undefined ? '' : `, from ${String(server).slice(0, 100)}`}`,
      details: { status },
    });
  if (expected !== undefined && header !== expected)
    throw new PossyncError('PS-HTTP-OTHERHQ', 'this is another HQ than the one this store is enrolled with', {
      details: { expected, found: header.slice(0, 100) },
    });
}

/** What HQ itself has said to a request; every other error of a request is the way there. */
export class HqRefusal extends PossyncError {}

/** The error that an answer of HQ names; a code this version does not know becomes PS-HQ-ERROR. */
export function refusal({ status, body: said }: Pick<Answer, 'status' | 'body'>): HqRefusal {
  const body = errorBodySchema.safeParse(jsonOf(said.toString()));
  if (!body.success) return new HqRefusal('PS-HQ-ERROR', `HQ answered ${status}`, { details: { status } });
  const { error, retry_ms } = body.data;
  return new HqRefusal(isErrorCode(error.code) ? error.code : 'PS-HQ-ERROR', error.message, {
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    details: { status, ...(retry_ms === undefined ? {} : { retryMs: retry_ms }) },
  });
}

/** How long HQ asked to stay away. */
export function retryMsOf(error: PossyncError): number | undefined {
  const { retryMs } = error.details;
  return typeof retryMs === 'number' ? retryMs : undefined;
}

function parsed<T>(schema: z.ZodType<T>, answer: Answer): T {
  const result = schema.safeParse(jsonOf(answer.body.toString()));
  if (result.success) return result.data;
  throw new PossyncError('PS-PROTOCOL', 'the answer of HQ breaks the protocol', {
    why: z.prettifyError(result.error).slice(0, 500),
  });
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // the schema refuses it with a better message
  }
}
