/**
 * Every HTTP route of HQ against hostile requests from a seeded generator: each is refused with a code or was harmless,
 * HQ never calls it a fault of its own, and nothing of any other store has changed.
 *
 * The list of routes is the router's: a new route without a good message here is a failed test. POSSYNC_TEST_FUZZ is how many
 * requests each route gets (`npm run fuzz` for a long run); POSSYNC_TEST_SEED repeats one.
 */
import assert from 'node:assert/strict';
import { isErrorCode } from '../../src/core/errors.ts';
import { silentLog } from '../../src/core/log.ts';
import { systemClock } from '../../src/core/clock.ts';
import { hqApp, type Rooms } from '../../src/hq/http-routes.ts';
import { HQ_HEADER, ROUTES } from '../../src/protocol/http.ts';
import { pushAnswerSchema, pushConflictSchema, welcomeSchema } from '../../src/protocol/messages.ts';
import { randomFor, type Random } from '../support/random.ts';
import { Fortress, type Shop } from './support/fortress.ts';
import {
  body,
  enrolMessage,
  helloMessage,
  pushMessage,
  reEnrolMessage,
  rotationMessage,
  verifyMessages,
} from './support/messages.ts';
import { mutateBytes, mutateJson, packBody } from './support/mutate.ts';
import { exchange, rawRequest, refusalCode, Wire, type Answer } from './support/raw.ts';

const ROUNDS = Number(process.env.POSSYNC_TEST_FUZZ ?? 60);

/** `METHOD path` as the router knows it. */
function routesOfHq(): string[] {
  const app = hqApp({ hqId: '', rooms: {} as Rooms, clock: systemClock, log: silentLog });
  return [
    ...new Set(
      app.routes.filter(({ method }) => method !== 'ALL').map(({ method, path }) => `${method} ${path}`),
    ),
  ];
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

describe('every HTTP route of HQ', function () {
  this.timeout(120_000 + ROUNDS * 5_000);
  let fortress: Fortress;
  let evil: Shop & { database: { drop(): Promise<void> } };
  let at = { seq: 0, chain: '' };
  let fence = '';
  const counts = new Map<number, number>();
  let tried = 0;

  const good = (request: Parameters<typeof rawRequest>[0]): Promise<Answer | undefined> =>
    exchange(
      fortress.port,
      rawRequest({
        ...request,
        headers: [['authorization', `Bearer ${evil.bearer}`], ...(request.headers ?? [])],
      }),
    );

  before(async () => {
    fortress = await Fortress.open('fuzz http');
    evil = await fortress.enrol('EVIL-1');
    await newSession();
  });
  after(async () => {
    await evil.database.drop();
    await fortress.close();
    const answers = [...counts].sort(([a], [b]) => a - b).map(([status, count]) => `${status}: ${count}`);
    console.log(`      ${tried} hostile requests (${answers.join(', ')})`);
  });

  const newSession = async (): Promise<void> => {
    const answer = await good({
      method: 'POST',
      path: ROUTES.hello,
      body: Buffer.from(JSON.stringify(helloMessage('EVIL-1'))),
    });
    const welcome = welcomeSchema.safeParse(JSON.parse(answer?.body ?? '{}'));
    if (!welcome.success) return; // busy: the session before goes on
    fence = welcome.data.fence;
    at = welcome.data.inbox;
  };

  /** The good message of a route, and what may be wrong with its address. */
  const messages: Readonly<Record<string, { message?: (random: Random) => object; path?: Wrong }>> = {
    'GET /ping': {},
    'GET /livez': {},
    'GET /readyz': {},
    [`GET ${ROUTES.diagPing}`]: {},
    [`GET ${ROUTES.whoami}`]: {},
    [`GET ${ROUTES.socket}`]: {},
    [`GET ${ROUTES.pull}`]: { path: (random) => `${ROUTES.pull}${QUERIES(random)}` },
    [`GET ${ROUTES.diagSource}`]: { path: (random) => `${ROUTES.diagSource}${QUERIES(random)}` },
    [`POST ${ROUTES.diagSink}`]: { message: () => ({ any: 'thing' }) },
    [`POST ${ROUTES.hello}`]: { message: () => helloMessage('EVIL-1') },
    [`POST ${ROUTES.push}`]: {
      message: (random) => {
        // Of another store, or of its own with something wrong inside; the numbers and chains fit.
        const forged = body(random.chance(0.5) ? fortress.healthyId : evil.id);
        const text = random.chance(0.5) ? mutateJson(forged, random) : JSON.stringify(forged);
        return pushMessage(fence, at, [text, text].slice(0, 1 + random.int(2)));
      },
    },
    ...Object.fromEntries(
      Object.entries(verifyMessages('EVIL-1')).map(([step, message]) => [
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

  it('has a good message here to be made hostile', () => {
    assert.deepEqual(Object.keys(messages).sort(), routesOfHq().sort());
  });

  /** What belongs to others, and the tables themselves. */
  const others = async (): Promise<unknown> => {
    const { rows } = await fortress.pool.query(
      `select (select json_agg(t order by t.kid) from (select kid, state, encode(hash, 'hex') as hash from possync.tokens
                where store_id <> $1::int) t) as tokens,
              (select json_agg(s order by s.id) from (select id, code, name, active from public.stores) s) as stores,
              (select count(*) from public.inventory_adjustments where store_id <> $1::int) as adjustments,
              (select count(*) from information_schema.tables where table_schema in ('public', 'possync')
                and table_name !~ '_[0-9]{4}_[0-9]{2}$') as tables,
              (select count(*) from possync.dead where store_id <> $1::int) as dead,
              (select json_agg(b) from (select store_id, epoch from possync.inbox where store_id <> $1::int) b) as inboxes`,
      [evil.id],
    );
    return rows[0];
  };

  const judge = (answer: Answer | undefined, sent: string): void => {
    tried += 1;
    // Cut in the middle of what it sent: HQ has read enough.
    if (answer === undefined) {
      counts.set(0, (counts.get(0) ?? 0) + 1);
      return;
    }
    counts.set(answer.status, (counts.get(answer.status) ?? 0) + 1);
    assert.ok(answer.headers[HQ_HEADER] === fortress.hqId, `no identity on ${answer.status} to ${sent}`);
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
  };

  for (const route of routesOfHq()) {
    it(`${route} takes no nonsense`, async () => {
      const random = randomFor(`fuzz ${route}`);
      const [method = 'GET', path = '/'] = route.split(' ');
      const form = messages[route];
      const before = await others();
      await fortress.during(async () => {
        for (let round = 0; round < ROUNDS; round += 1) {
          if (route.endsWith('/push') || route.endsWith('/re-enrol')) await newSession();
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
          const request = rawRequest({
            method: random.chance(0.9)
              ? method
              : random.pick(['GET', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'TRACE', 'CONNECT', 'BREW']),
            path: address.replace(':id', UUID),
            headers: [
              ...(random.chance(0.95) ? ([['authorization', `Bearer ${evil.bearer}`]] as const) : []),
              ...(packed.encoding === undefined ? [] : ([['content-encoding', packed.encoding]] as const)),
              ...(random.chance(0.7) ? [] : oddHeaders(random)),
            ],
            ...(packed.bytes.length === 0 ? {} : { body: packed.bytes }),
          });
          const cut = random.chance(0.1) ? request.subarray(0, random.int(request.length)) : request;
          const answer = cut === request ? await exchange(fortress.port, request) : await half(cut);
          judge(answer, JSON.stringify(request.toString('latin1').slice(0, 600)));
        }
      });
      assert.deepEqual(await others(), before, 'nothing of another store has changed');
      assert.deepEqual(await fortress.faults(), []);
    });
  }

  /** Sends a part and closes: what comes back, if anything does. */
  const half = async (bytes: Buffer): Promise<Answer | undefined> => {
    const wire = await Wire.open(fortress.port);
    wire.send(bytes);
    wire.socket.end();
    await wire.ended();
    return wire.answer();
  };

  it('a batch sent twice is there once, one out of order is refused, one of an older session too', async () => {
    const random = randomFor('replay');
    const clean = await fortress.enrol('EVIL-2');
    const ask = async (path: string, message: object): Promise<Answer> => {
      const answer = await exchange(
        fortress.port,
        rawRequest({
          method: 'POST',
          path,
          headers: [['authorization', `Bearer ${clean.bearer}`]],
          body: Buffer.from(JSON.stringify(message)),
        }),
      );
      assert.ok(answer !== undefined);
      return answer;
    };
    const session = async () =>
      welcomeSchema.parse(JSON.parse((await ask(ROUTES.hello, helloMessage('EVIL-2'))).body));
    const older = await session();
    const { fence: mine, inbox } = await session();
    const bodies = Array.from({ length: 6 }, () => JSON.stringify(body(clean.id)));
    const batches = [];
    let now = inbox;
    for (const two of [bodies.slice(0, 2), bodies.slice(2, 4), bodies.slice(4)]) {
      const batch = pushMessage(mine, now, two);
      batches.push(batch);
      now = { seq: batch.first + 1, chain: batch.lastChain };
    }
    assert.equal((await ask(ROUTES.push, { ...batches[0], fence: older.fence })).status, 409);
    // In any order and any number of times: what does not fit is a conflict, and in the end each is there once.
    for (let round = 0; round < 30; round += 1) {
      const answer = await ask(ROUTES.push, random.pick(batches));
      const known = answer.status === 200 ? pushAnswerSchema : pushConflictSchema;
      assert.ok(known.safeParse(JSON.parse(answer.body)).success, answer.body);
    }
    for (const batch of batches) assert.equal((await ask(ROUTES.push, batch)).status, 200);
    const { rows } = await fortress.pool.query<{ n: number }>(
      'select count(*)::int as n from public.inventory_adjustments where store_id = $1::int',
      [clean.id],
    );
    assert.equal(rows[0]?.n, bodies.length);
    await clean.database.drop();
  });
});
