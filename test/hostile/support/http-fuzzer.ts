/**
 * Hostile requests to one route of HQ, from a seeded generator, and the judge of what came of them:
 *
 *   refused with a code of ours and HQ's identity, never as a fault of HQ's own
 *   nonsense (no UTF-8, no JSON, not the message of the route) is never answered with success
 *   nothing of any other store has changed, and the healthy one works on
 */
import assert from 'node:assert/strict';
import { isUtf8 } from 'node:buffer';
import { brotliDecompressSync, gunzipSync } from 'node:zlib';
import type { z } from 'zod';
import { systemClock } from '../../../src/core/clock.ts';
import { isErrorCode } from '../../../src/core/errors.ts';
import { silentLog } from '../../../src/core/log.ts';
import { hqApp, type Rooms } from '../../../src/hq/http-routes.ts';
import { HQ_HEADER, ROUTES } from '../../../src/protocol/http.ts';
import {
  enrolSchema,
  helloSchema,
  pushAnswerSchema,
  pushConflictSchema,
  pushSchema,
  reEnrolSchema,
  rotationSchema,
  welcomeSchema,
} from '../../../src/protocol/messages.ts';
import {
  digestsSchema,
  repairSchema,
  reportSchema,
  rowsSchema,
  verifyBeginSchema,
} from '../../../src/protocol/verify.ts';
import type { Random } from '../../support/random.ts';
import { FUZZ_MB, type Fortress, type Shop } from './fortress.ts';
import {
  body,
  enrolMessage,
  helloMessage,
  pushMessage,
  reEnrolMessage,
  rotationMessage,
  verifyMessages,
} from './messages.ts';
import { mutateBytes, mutateJson, packBody } from './mutate.ts';
import { exchange, rawRequest, refusalCode, Wire, type Answer } from './raw.ts';

/** `METHOD path` as the router knows it. */
export function routesOfHq(): string[] {
  const app = hqApp({ hqId: '', rooms: {} as Rooms, clock: systemClock, log: silentLog });
  return [
    ...new Set(
      app.routes.filter(({ method }) => method !== 'ALL').map(({ method, path }) => `${method} ${path}`),
    ),
  ];
}

/** What each route takes: anything else must not be answered with success. */
const SCHEMAS: Readonly<Record<string, z.ZodType>> = {
  [`POST ${ROUTES.hello}`]: helloSchema,
  [`POST ${ROUTES.push}`]: pushSchema,
  [`POST ${ROUTES.enrol}`]: enrolSchema,
  [`POST ${ROUTES.reEnrol}`]: reEnrolSchema,
  [`POST ${ROUTES.rotations}`]: rotationSchema,
  [`POST ${ROUTES.verify}/begin`]: verifyBeginSchema,
  [`POST ${ROUTES.verify}/digests`]: digestsSchema,
  [`POST ${ROUTES.verify}/rows`]: rowsSchema,
  [`POST ${ROUTES.verify}/repair`]: repairSchema,
  [`POST ${ROUTES.verify}/report`]: reportSchema,
};

interface Packed {
  readonly bytes: Buffer;
  readonly encoding: string | undefined;
}

/** Not one message of this kind, however it is read; worked out without any code of HQ's but the schema. */
export function isNonsense(schema: z.ZodType, { bytes, encoding }: Packed): boolean {
  try {
    const plain =
      encoding === 'br' ? brotliDecompressSync(bytes) : encoding === 'gzip' ? gunzipSync(bytes) : bytes;
    const known = encoding === undefined || encoding === 'br' || encoding === 'gzip';
    return !known || !isUtf8(plain) || !schema.safeParse(JSON.parse(plain.toString('utf8'))).success;
  } catch {
    return true;
  }
}

type Wrong = (random: Random) => string;

const UUID = '0190c000-0000-7000-8000-000000000001';
const QUERIES: Wrong = (random) =>
  random.pick([
    '',
    '?from=',
    '?from=-1',
    '?from=1e3',
    '?from=0x10',
    '?from=99999999999999999999',
    '?from=0&limit=0',
    '?from=0&limit=1000000',
    `?from=0&cursor=1,${'-'.repeat(36)}`,
    `?from=0&cursor=9999999999999999,${UUID}`,
    `?from=0&seen=1,${UUID}&seen=2,x`,
    `?from=0&cursor=1,${UUID}'--`,
    '?from=0&fresh=yes',
    '?from=0&from=1',
    '?bytes=-1',
    '?bytes=1e9',
    '?bytes=9999999999',
    '?chunks=1000000&bytes=1',
    '?chunks=0',
    '?%00=%ff&from=%',
    `?${'a=b&'.repeat(2_000)}`,
  ]);
const PATH_TRICKS: Wrong = (random) =>
  random.pick([
    '//',
    '///api/v1/sync/push',
    '/api/v1/sync/../../etc/passwd',
    '/api/v1/sync/%2e%2e/%2e%2e/tokens',
    '/api/v1/sync/push/',
    '/API/V1/SYNC/PUSH',
    '/api/v1/sync/push%00',
    '/api/v1/tokens/rotations/..%2f..%2f/confirm',
    `/api/v1/tokens/rotations/${'x'.repeat(8_000)}/confirm`,
    '/api/v1/tokens/rotations/%/finish',
    '/api/v1/tokens/rotations/%ff%fe/finish',
    "/api/v1/tokens/rotations/';delete from possync.tokens--/confirm".replaceAll(' ', '+'),
    'http://evil.example/api/v1/whoami',
    'http://[::1/x',
    '*',
    '/\\..\\..',
    '/api/v1/whoami#x',
    '/api/v1/whoami;x=1?y',
  ]);

/** Headers that are wrong by themselves. */
function oddHeaders(random: Random): (readonly [string, string])[] {
  return random.pick<() => (readonly [string, string])[]>([
    () => [],
    () => [],
    () => [
      ['host', random.pick(['', 'evil.example', '127.0.0.1:99999', 'a b', '[::1', '127.0.0.1/x', '%00'])],
    ],
    () => [
      ['x-forwarded-for', '10.0.0.1'],
      ['x-possync-hq', UUID],
    ],
    () => [['accept-encoding', `${'br;q=0,'.repeat(500)}gzip`]],
    () => [
      ['content-type', 'text/xml'],
      ['expect', '100-continue'],
    ],
    () => [['cookie', 'a=b; '.repeat(500)]],
    () => [['x-long', 'y'.repeat(20_000)]],
    () => Array.from({ length: 300 }, (_, index) => [`x-${index}`, 'z'] as const),
    () => [
      ['transfer-encoding', 'chunked'],
      ['content-length', '5'],
    ],
    () => [['content-length', '-1']],
    () => [['content-length', '99999999999999']],
  ])();
}

type Form = Readonly<Record<string, { message?: (random: Random) => object; path?: Wrong }>>;

export class HttpFuzzer {
  readonly #fortress: Fortress;
  readonly #evil: Shop;
  /** Answers by status; 0 = cut without one. */
  readonly counts = new Map<number, number>();
  tried = 0;
  /** The most that HQ grew by during the attack on one route. */
  grownMb = 0;
  /** Of those: nonsense that no route may take. */
  nonsense = 0;
  #at = { seq: 0, chain: '' };
  #fence = '';
  readonly forms: Form;

  constructor(fortress: Fortress, evil: Shop) {
    this.#fortress = fortress;
    this.#evil = evil;
    this.forms = this.#formsOf();
  }

  /** Throws what the judge has found. */
  async attack(route: string, rounds: number, random: Random): Promise<void> {
    const [method = 'GET', path = '/'] = route.split(' ');
    const form = this.forms[route];
    const schema = SCHEMAS[route];
    const before = await this.#others();
    const { grownMb } = await this.#fortress.cost(async () => {
      for (let round = 0; round < rounds; round += 1) {
        if (route.endsWith('/push')) await this.#forgive();
        if (route.endsWith('/re-enrol')) await this.newSession();
        const message = form?.message?.(random);
        const text =
          message === undefined
            ? ''
            : random.chance(0.75)
              ? mutateJson(message, random)
              : JSON.stringify(message);
        const bytes = random.chance(0.3) ? mutateBytes(text, random) : Buffer.from(text);
        const packed = packBody(bytes, random);
        const address = form?.path?.(random) ?? (random.chance(0.8) ? path : PATH_TRICKS(random));
        const verb = random.chance(0.9)
          ? method
          : random.pick(['GET', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'TRACE', 'CONNECT', 'BREW']);
        const request = rawRequest({
          method: verb,
          path: address.replace(':id', UUID),
          headers: [
            ...(random.chance(0.95) ? ([['authorization', `Bearer ${this.#evil.bearer}`]] as const) : []),
            ...(packed.encoding === undefined ? [] : ([['content-encoding', packed.encoding]] as const)),
            ...(random.chance(0.7) ? [] : oddHeaders(random)),
          ],
          ...(packed.bytes.length === 0 ? {} : { body: packed.bytes }),
        });
        const cut = random.chance(0.1) ? request.subarray(0, random.int(request.length)) : request;
        const answer = cut === request ? await exchange(this.#fortress.port, request) : await this.#half(cut);
        const sent = JSON.stringify(request.toString('latin1').slice(0, 600));
        this.#judge(answer, sent);
        if (route.endsWith('/push')) await this.#follow(answer);
        // Under another address it may be a good request of another route.
        if (verb !== method || address !== path || schema === undefined || !isNonsense(schema, packed))
          continue;
        this.nonsense += 1;
        assert.ok(answer === undefined || answer.status >= 400, `${answer?.status} to the nonsense ${sent}`);
      }
    });
    this.grownMb = Math.max(this.grownMb, grownMb);
    assert.ok(grownMb < FUZZ_MB, `HQ grew by ${grownMb} MB`);
    assert.deepEqual(await this.#others(), before, 'nothing of another store has changed');
    assert.deepEqual(await this.#fortress.faults(), []);
  }

  /** What this store has sent until now is no reason to stop it: the next batch is looked at as the first one was. */
  async #forgive(): Promise<void> {
    await this.#fortress.pool.query(
      `with gone as (delete from possync.dead d where d.store_id = $1::integer)
       update possync.inbox i set breaker_waived = true, dead_streak = 0, stopped = null, stopped_why = null, stopped_at = null
        where i.store_id = $1::integer`,
      [this.#evil.id],
    );
  }

  /** Where the next batch fits, by the answer to this one: a batch that has no place is not looked into. */
  async #follow(answer: Answer | undefined): Promise<void> {
    if (answer?.status !== 200 && answer?.status !== 409) return;
    const said: unknown = JSON.parse(answer.body);
    const conflict = pushConflictSchema.safeParse(said);
    if (conflict.data?.code === 'fenced') await this.newSession();
    const place = conflict.success ? conflict : pushAnswerSchema.safeParse(said);
    if (place.success) this.#at = place.data;
  }

  async newSession(): Promise<void> {
    const answer = await exchange(
      this.#fortress.port,
      rawRequest({
        method: 'POST',
        path: ROUTES.hello,
        headers: [['authorization', `Bearer ${this.#evil.bearer}`]],
        body: Buffer.from(JSON.stringify(helloMessage(this.#evil.code))),
      }),
    );
    const welcome = welcomeSchema.safeParse(JSON.parse(answer?.body ?? '{}'));
    if (!welcome.success) return; // busy: the session before goes on
    this.#fence = welcome.data.fence;
    this.#at = welcome.data.inbox;
  }

  /** The good message of a route, and what may be wrong with its address. */
  #formsOf(): Form {
    return {
      'GET /ping': {},
      'GET /livez': {},
      'GET /readyz': {},
      [`GET ${ROUTES.diagPing}`]: {},
      [`GET ${ROUTES.whoami}`]: {},
      [`GET ${ROUTES.socket}`]: {},
      [`GET ${ROUTES.pull}`]: { path: (random) => `${ROUTES.pull}${QUERIES(random)}` },
      [`GET ${ROUTES.diagSource}`]: { path: (random) => `${ROUTES.diagSource}${QUERIES(random)}` },
      [`POST ${ROUTES.diagSink}`]: { message: () => ({ any: 'thing' }) },
      [`POST ${ROUTES.hello}`]: { message: () => helloMessage(this.#evil.code) },
      [`POST ${ROUTES.push}`]: {
        message: (random) => {
          // Of another store, or of its own with something wrong inside; the numbers and chains fit.
          const forged = body(random.chance(0.5) ? this.#fortress.healthyId : this.#evil.id);
          const text = random.chance(0.5) ? mutateJson(forged, random) : JSON.stringify(forged);
          return pushMessage(this.#fence, this.#at, [text, text].slice(0, 1 + random.int(2)));
        },
      },
      ...Object.fromEntries(
        Object.entries(verifyMessages(this.#evil.code)).map(([step, message]) => [
          `POST ${ROUTES.verify}/${step}`,
          { message },
        ]),
      ),
      [`POST ${ROUTES.enrol}`]: { message: (random) => enrolMessage(`pse_${random.uuid().repeat(3)}_abcd`) },
      [`POST ${ROUTES.reEnrol}`]: { message: reEnrolMessage },
      [`POST ${ROUTES.rotations}`]: { message: rotationMessage },
      [`POST ${ROUTES.rotations}/:id/confirm`]: { message: () => ({}), path: PATH_TRICKS },
      [`POST ${ROUTES.rotations}/:id/finish`]: { message: () => ({}), path: PATH_TRICKS },
    };
  }

  /** What belongs to others, and the tables themselves. */
  async #others(): Promise<unknown> {
    const { rows } = await this.#fortress.pool.query(
      `select (select json_agg(t order by t.kid) from (select kid, state, encode(hash, 'hex') as hash from possync.tokens
                where store_id <> $1::int) t) as tokens,
              (select json_agg(s order by s.id) from (select id, code, name, active from public.stores) s) as stores,
              (select count(*) from public.inventory_adjustments where store_id <> $1::int) as adjustments,
              (select count(*) from information_schema.tables where table_schema in ('public', 'possync')
                and table_name !~ '_[0-9]{4}_[0-9]{2}$') as tables,
              (select count(*) from possync.dead where store_id <> $1::int) as dead,
              (select json_agg(b) from (select store_id, epoch from possync.inbox where store_id <> $1::int) b) as inboxes`,
      [this.#evil.id],
    );
    return rows[0];
  }

  #judge(answer: Answer | undefined, sent: string): void {
    this.tried += 1;
    // Cut in the middle of what it sent: HQ has read enough.
    if (answer === undefined) {
      this.counts.set(0, (this.counts.get(0) ?? 0) + 1);
      return;
    }
    this.counts.set(answer.status, (this.counts.get(answer.status) ?? 0) + 1);
    assert.ok(
      answer.headers[HQ_HEADER] === this.#fortress.hqId,
      `no identity on ${answer.status} to ${sent}`,
    );
    if (answer.status < 400) return;
    if (answer.status === 410 || answer.status === 425) return;
    if (answer.status === 409 && pushConflictSchema.safeParse(JSON.parse(answer.body)).success) return;
    const code = refusalCode(answer);
    if (answer.status === 426 && code === 'PS-WS-NO-UPGRADE') return; // what `diagnose` looks for
    assert.ok(
      code !== undefined && isErrorCode(code),
      `${answer.status} without a code to ${sent}: ${answer.body}`,
    );
    // Too much of what this store sends is refused: HQ has stopped it, and says so with 503.
    const stopped = answer.status === 503 && code === 'PS-UP-BREAKER';
    assert.ok(answer.status < 500 || stopped, `${answer.status} ${code} to ${sent}: ${answer.body}`);
  }

  /** Sends a part and closes: what comes back, if anything does. */
  async #half(bytes: Buffer): Promise<Answer | undefined> {
    const wire = await Wire.open(this.#fortress.port);
    wire.send(bytes);
    wire.socket.end();
    await wire.ended();
    return wire.answer();
  }
}
