/** HQ's HTTP routes, thin: authenticate, parse, one call into a room, answer. PROTOCOL.md has the rules. */
import { Hono } from 'hono';
import * as z from 'zod';
import { isDataError, toPossyncError } from '../core/classify.ts';
import type { Clock } from '../core/clock.ts';
import { PossyncError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { oncePer } from '../core/shared-answer.ts';
import {
  HQ_HEADER,
  JSON_MAX_DEPTH,
  JSON_MAX_TOKENS,
  PULL_PAGE_ROWS,
  PUSH_LIMIT_BYTES,
  PUSH_MAX_TRANSACTIONS,
  REQUEST_LIMIT_BYTES,
  ROUTES,
} from '../protocol/http.ts';
import {
  enrolSchema,
  helloSchema,
  pullQuerySchema,
  pushSchema,
  reEnrolSchema,
  rotationSchema,
  type Enrol,
  type EnrolAnswer,
  type Hello,
  type Push,
  type PushAnswer,
  type PushConflict,
  type ReEnrol,
  type ReEnrolAnswer,
  type Rotation,
  type RotationAnswer,
  type Refuse,
  type Welcome,
} from '../protocol/messages.ts';
import { RequestsInHand } from './admission.ts';
import { addressKey, Buckets } from './buckets.ts';
import { addDiagRoutes } from './diag-routes.ts';
import type { PageRequest, PageResult, SharedPage } from './feed/pull.ts';
import { SharedPages } from './feed/shared-pages.ts';
import { busy, Gate } from './gate.ts';
import {
  bearerOf,
  bodyAnswer,
  errorAnswer,
  health,
  packedAnswer,
  statusOf,
  type App,
  type Ctx,
} from './http-answers.ts';
import { parse, parseBody, readBytes, readJson } from './http-body.ts';
import type { HqLight } from './stores/live.ts';
import { Turns } from './inbox/turns.ts';
import type { Authenticated } from './stores/tokens.ts';
import { addVerifyRoutes, type VerifyRoom } from './verify/routes.ts';

/** The store that a credential stands for: the only source of a store id. */
export type Caller = Authenticated;

export type PushOutcome =
  | { readonly result: 'ok'; readonly answer: PushAnswer }
  | { readonly result: 'conflict'; readonly conflict: PushConflict }
  | { readonly result: 'not-ready'; readonly error: PossyncError };

/** What the routes ask of the rooms of HQ. */
export interface Rooms {
  /** `address` is where it comes from: refusals are counted by it. */
  authenticate(bearer: string | undefined, address: string | undefined): Promise<Caller>;
  hello(caller: Caller, hello: Hello): Promise<Welcome | Refuse>;
  readonly page: (request: PageRequest) => Promise<PageResult>;
  /** The page of all stores at once, and which of these have records of their own beside it. */
  readonly sharedPage: (request: PageRequest, storeIds: readonly number[]) => Promise<SharedPage>;
  /** Whether a store has records of its own above the position that it asks from. */
  readonly hasOwn: (request: PageRequest) => Promise<boolean>;
  /** `turn` resolves when the batches of this store that came earlier are done. */
  push(caller: Caller, push: Push, turn: () => Promise<void>): Promise<PushOutcome>;
  enrol(enrol: Enrol, address: string | undefined): Promise<EnrolAnswer>;
  reEnrol(caller: Caller, request: ReEnrol): Promise<ReEnrolAnswer>;
  /** A new credential beside the caller's. */
  rotate(caller: Caller, rotation: Rotation): Promise<RotationAnswer>;
  /** The caller's credential is in force; with `finish` the one before ends now. */
  rotated(caller: Caller, id: string, step: 'confirm' | 'finish'): Promise<RotationAnswer>;
  /** The store compares itself with HQ. */
  readonly verify: VerifyRoom;
  /** Database answers and its schema fits; throws what is wrong. */
  ready(): Promise<void>;
  /** Live sockets of a store in this process. */
  connections(storeId: number): number;
  /** How HQ sees the link of a store, whichever server holds it. */
  light(storeId: number): Promise<HqLight>;
}

export interface RouteOptions {
  readonly hqId: string;
  readonly rooms: Rooms;
  readonly clock: Clock;
  readonly log: Log;
  /** Batches that are applied at once; more are sent away with 429, never queued in memory. */
  readonly maxPushes?: number;
  readonly maxPulls?: number;
  /** A request was answered. */
  readonly answered?: ((path: string, status: number, ms: number) => void) | undefined;
}

/** Twice the database connections of a server: some read or unpack while others wait for the database. */
const MAX_PUSHES_DEFAULT = 24;
/** A page of 5,000 rows is a few MB in memory while it is compressed. */
const MAX_PULLS_DEFAULT = 24;
/** Of one store: the one that is at work, and one whose line was cut before its answer came. */
const PER_STORE = 2;
/** A store has three batches on their way, and perhaps one whose line was cut. */
const PUSHES_PER_STORE = 4;
/** Hellos, rotations and the like. */
const MAX_SMALL = 64;
const SMALL_PER_STORE = 4;
/** Unpacked, a batch of more than this is one huge transaction; those are worked on one at a time. */
const LARGE_BYTES = 8 * 1024 * 1024;
/** A store that has a hundred of them needs a quarter of an hour; one that invents them costs a tenth of a core. */
const LARGE = { burst: 5, perSecond: 0.1 } as const;
/** Load balancers ask every few seconds, somebody hostile ten thousand times: the database hears of one a second. */
const READY_MS = 1_000;

export function hqApp({ hqId, rooms, clock, log, maxPushes, maxPulls, answered }: RouteOptions): App {
  const app: App = new Hono();
  const pushes = new Gate(maxPushes ?? MAX_PUSHES_DEFAULT, Math.random, PUSHES_PER_STORE);
  const pulls = new Gate(maxPulls ?? MAX_PULLS_DEFAULT, Math.random, PER_STORE);
  const pages = new SharedPages({
    gate: pulls,
    clock,
    page: rooms.page,
    shared: rooms.sharedPage,
    hasOwn: rooms.hasOwn,
  });
  const small = new Gate(MAX_SMALL, Math.random, SMALL_PER_STORE);
  const large = new Gate(1);
  const largeOf = new Buckets({ ...LARGE, clock });
  const hand = new RequestsInHand();
  const ready = oncePer(READY_MS, clock, () => rooms.ready());

  const login = async (c: Ctx): Promise<Caller> => {
    const { incoming, outgoing } = c.env;
    const caller = await rooms.authenticate(bearerOf(incoming), incoming.socket.remoteAddress);
    hand.ofStore(caller.storeId, outgoing);
    return caller;
  };
  const smallBody = (c: Ctx): Promise<unknown> =>
    readJson(c.env.incoming, SMALL_BODY, hand.body(c.env.outgoing));

  /** Runs `work` with the batch; a large one waits for nobody and is told when to return. */
  const withBatch = async <T>(
    c: Ctx,
    { storeId }: Caller,
    bytes: Buffer,
    work: (push: Push) => Promise<T>,
  ): Promise<T> => {
    if (bytes.length <= LARGE_BYTES) {
      const body = await parseBody(bytes, c.env.incoming, { ...PUSH_BODY, plainBytes: LARGE_BYTES }).catch(
        (error: unknown) => {
          if (error instanceof PossyncError && error.code === 'PS-TOO-LARGE') return undefined;
          throw error;
        },
      );
      if (body !== undefined) return await work(parse(pushSchema, body));
    }
    const retryMs = largeOf.take(String(storeId));
    if (retryMs > 0) throw busy(1);
    return await large.run(async () =>
      work(parse(pushSchema, await parseBody(bytes, c.env.incoming, PUSH_BODY))),
    );
  };
  const turns = new Turns(clock);

  app.use('*', async (c, next) => {
    c.header(HQ_HEADER, hqId);
    const begun = performance.now();
    await next();
    answered?.(c.req.path, c.res.status, performance.now() - begun);
  });
  app.onError((error, c) => {
    const named = toPossyncError(error);
    if (statusOf(named) >= 500 && !isDataError(named.cause))
      log.error('request failed', { path: c.req.path, code: named.code, err: named.cause ?? named });
    else log.debug('request refused', { path: c.req.path, code: named.code });
    return errorAnswer(c, isDataError(named.cause) ? unstorable(named) : named);
  });
  app.notFound((c) =>
    errorAnswer(c, new PossyncError('PS-PROTOCOL', 'there is nothing at this address'), 404),
  );

  app.get(ROUTES.ping, (c) => c.text('OK'));
  app.get(ROUTES.live, (c) => health(c, 200, { process: 'pass' }));
  app.get(ROUTES.ready, async (c) => {
    try {
      await ready();
      return health(c, 200, { database: 'pass' });
    } catch (error) {
      const named = toPossyncError(error);
      return health(c, 503, { database: 'fail' }, named);
    }
  });
  addDiagRoutes(app, { hqId, rooms, clock, login });
  addVerifyRoutes(app, rooms.verify, login, (c, limits) =>
    readJson(c.env.incoming, limits, hand.body(c.env.outgoing)),
  );
  app.post(ROUTES.hello, async (c) => {
    const caller = await login(c);
    const hello = parse(helloSchema, await smallBody(c));
    return c.json(await small.run(() => rooms.hello(caller, hello), caller.storeId));
  });
  app.get(ROUTES.pull, async (c) => {
    const caller = await login(c);
    const query = parse(pullQuerySchema, c.req.query());
    const page = await pages.read(pageRequest(caller.storeId, query), c.req.header('accept-encoding'));
    if (page.result === 'resync') return c.json({ code: 'resync' }, 410);
    if (page.result === 'behind') return c.json({ code: 'behind' }, 425);
    return bodyAnswer(c, page.body, 'text/plain; charset=utf-8');
  });
  app.post(ROUTES.push, async (c) => {
    const caller = await login(c);
    pushes.check(caller.storeId);
    const turn = turns.enter(caller.storeId);
    try {
      // Read before the gate: whoever sends slowly must not hold a place that a quick one needs.
      const bytes = await readBytes(c.env.incoming, PUSH_BODY.wireBytes, hand.body(c.env.outgoing));
      const outcome = await pushes.run(
        () => withBatch(c, caller, bytes, (push) => rooms.push(caller, push, () => turn.come())),
        caller.storeId,
      );
      if (outcome.result === 'conflict') return c.json(outcome.conflict, 409);
      if (outcome.result === 'not-ready') return errorAnswer(c, outcome.error, 503);
      return c.json(outcome.answer);
    } finally {
      turn.leave();
    }
  });
  app.post(ROUTES.reEnrol, async (c) => {
    const caller = await login(c);
    const request = parse(reEnrolSchema, await smallBody(c));
    return c.json(await small.run(() => rooms.reEnrol(caller, request), caller.storeId));
  });
  app.post(ROUTES.rotations, async (c) => {
    const caller = await login(c);
    const rotation = parse(rotationSchema, await smallBody(c));
    return c.json(await small.run(() => rooms.rotate(caller, rotation), caller.storeId));
  });
  for (const step of ['confirm', 'finish'] as const) {
    app.post(`${ROUTES.rotations}/:id/${step}`, async (c) => {
      const caller = await login(c);
      const id = parse(z.uuid(), c.req.param('id'));
      return c.json(await small.run(() => rooms.rotated(caller, id, step), caller.storeId));
    });
  }
  app.post(ROUTES.enrol, async (c) => {
    const { remoteAddress } = c.env.incoming.socket;
    hand.ofAddress(addressKey(remoteAddress), c.env.outgoing);
    const enrol = parse(enrolSchema, await smallBody(c));
    const answer = await small.run(() => rooms.enrol(enrol, remoteAddress));
    return await packedAnswer(c, JSON.stringify(answer));
  });
  return app;
}

const SMALL_BODY = {
  wireBytes: REQUEST_LIMIT_BYTES,
  plainBytes: REQUEST_LIMIT_BYTES,
  depth: JSON_MAX_DEPTH,
  tokens: JSON_MAX_TOKENS,
};
const PUSH_BODY = {
  wireBytes: PUSH_LIMIT_BYTES,
  plainBytes: PUSH_LIMIT_BYTES,
  depth: JSON_MAX_DEPTH,
  tokens: PUSH_MAX_TRANSACTIONS * 4 + JSON_MAX_TOKENS,
};

function pageRequest(storeId: number, query: z.infer<typeof pullQuerySchema>): PageRequest {
  const cursor = position(query.cursor);
  const seen = position(query.seen);
  return {
    storeId,
    from: query.from,
    limit: query.limit ?? PULL_PAGE_ROWS,
    ...(cursor === undefined ? {} : { cursor }),
    ...(seen === undefined ? {} : { seen }),
    ...(query.fresh === undefined ? {} : { fresh: true }),
  };
}

function position(text: string | undefined): { pos: number; nonce: string } | undefined {
  const [pos, nonce] = text?.split(',') ?? [];
  return pos === undefined || nonce === undefined ? undefined : { pos: Number(pos), nonce };
}

/** A value that passed its schema and that PostgreSQL refuses as data: the request is at fault, not HQ. */
function unstorable(error: PossyncError): PossyncError {
  return new PossyncError('PS-PROTOCOL', 'HQ cannot store what the request says', { cause: error });
}
