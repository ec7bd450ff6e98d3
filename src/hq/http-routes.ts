/** HQ's HTTP routes, thin: authenticate, parse, one call into a room, answer. PROTOCOL.md has the rules. */
import { Hono } from 'hono';
import { z } from 'zod';
import { toPossyncError } from '../core/classify.ts';
import type { Clock } from '../core/clock.ts';
import { PossyncError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import {
  HQ_HEADER,
  PULL_PAGE_ROWS,
  PUSH_LIMIT_BYTES,
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
import { addDiagRoutes } from './diag-routes.ts';
import { pageBody, type PageRequest, type PageResult } from './feed/pull.ts';
import { Gate } from './gate.ts';
import { bearerOf, errorAnswer, health, packedAnswer, statusOf, type App } from './http-answers.ts';
import { readJson } from './http-body.ts';
import type { HqLight } from './stores/live.ts';
import type { Authenticated } from './stores/tokens.ts';

/** The store that a credential stands for: the only source of a store id. */
export type Caller = Authenticated;

export type PushOutcome =
  | { readonly result: 'ok'; readonly answer: PushAnswer }
  | { readonly result: 'conflict'; readonly conflict: PushConflict }
  | { readonly result: 'not-ready'; readonly error: PossyncError };

/** What the routes ask of the rooms of HQ. */
export interface Rooms {
  authenticate(bearer: string): Promise<Caller>;
  hello(caller: Caller, hello: Hello): Promise<Welcome | Refuse>;
  page(request: PageRequest): Promise<PageResult>;
  push(caller: Caller, push: Push): Promise<PushOutcome>;
  enrol(enrol: Enrol): Promise<EnrolAnswer>;
  reEnrol(caller: Caller, request: ReEnrol): Promise<ReEnrolAnswer>;
  /** A new credential beside the caller's. */
  rotate(caller: Caller, rotation: Rotation): Promise<RotationAnswer>;
  /** The caller's credential is in force; with `finish` the one before ends now. */
  rotated(caller: Caller, id: string, step: 'confirm' | 'finish'): Promise<RotationAnswer>;
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
}

/** Twice the database connections of a server: some read or unpack while others wait for the database. */
const MAX_PUSHES_DEFAULT = 24;
/** A page of 5,000 rows is a few MB in memory while it is compressed. */
const MAX_PULLS_DEFAULT = 24;

export function hqApp({ hqId, rooms, clock, log, maxPushes, maxPulls }: RouteOptions): App {
  const app: App = new Hono();
  const pushes = new Gate(maxPushes ?? MAX_PUSHES_DEFAULT);
  const pulls = new Gate(maxPulls ?? MAX_PULLS_DEFAULT);

  app.use('*', async (c, next) => {
    c.header(HQ_HEADER, hqId);
    await next();
  });
  app.onError((error, c) => {
    const named = toPossyncError(error);
    if (statusOf(named) >= 500)
      log.error('request failed', { path: c.req.path, code: named.code, err: named.cause ?? named });
    else log.debug('request refused', { path: c.req.path, code: named.code });
    return errorAnswer(c, named);
  });
  app.notFound((c) =>
    errorAnswer(c, new PossyncError('PS-PROTOCOL', 'there is nothing at this address'), 404),
  );

  app.get(ROUTES.ping, (c) => c.text('OK'));
  app.get(ROUTES.live, (c) => health(c, 200, { process: 'pass' }));
  app.get(ROUTES.ready, async (c) => {
    try {
      await rooms.ready();
      return health(c, 200, { database: 'pass' });
    } catch (error) {
      const named = toPossyncError(error);
      return health(c, 503, { database: 'fail' }, named);
    }
  });
  addDiagRoutes(app, { hqId, rooms, clock });
  app.post(ROUTES.hello, async (c) => {
    const caller = await rooms.authenticate(bearerOf(c.env.incoming));
    const hello = parse(helloSchema, await readJson(c.env.incoming, SMALL_BODY));
    return c.json(await rooms.hello(caller, hello));
  });
  app.get(ROUTES.pull, async (c) => {
    const caller = await rooms.authenticate(bearerOf(c.env.incoming));
    const query = parse(pullQuerySchema, c.req.query());
    return await pulls.run(async () => {
      const page = await rooms.page(pageRequest(caller.storeId, query));
      if (page.result === 'resync') return c.json({ code: 'resync' }, 410);
      if (page.result === 'behind') return c.json({ code: 'behind' }, 425);
      return await packedAnswer(c, pageBody(page));
    });
  });
  app.post(ROUTES.push, async (c) => {
    const caller = await rooms.authenticate(bearerOf(c.env.incoming));
    return await pushes.run(async () => {
      const push = parse(pushSchema, await readJson(c.env.incoming, PUSH_BODY));
      const outcome = await rooms.push(caller, push);
      if (outcome.result === 'conflict') return c.json(outcome.conflict, 409);
      if (outcome.result === 'not-ready') return errorAnswer(c, outcome.error, 503);
      return c.json(outcome.answer);
    });
  });
  app.post(ROUTES.reEnrol, async (c) => {
    const caller = await rooms.authenticate(bearerOf(c.env.incoming));
    const request = parse(reEnrolSchema, await readJson(c.env.incoming, SMALL_BODY));
    return c.json(await rooms.reEnrol(caller, request));
  });
  app.post(ROUTES.rotations, async (c) => {
    const caller = await rooms.authenticate(bearerOf(c.env.incoming));
    const rotation = parse(rotationSchema, await readJson(c.env.incoming, SMALL_BODY));
    return c.json(await rooms.rotate(caller, rotation));
  });
  for (const step of ['confirm', 'finish'] as const) {
    app.post(`${ROUTES.rotations}/:id/${step}`, async (c) => {
      const caller = await rooms.authenticate(bearerOf(c.env.incoming));
      return c.json(await rooms.rotated(caller, parse(z.uuid(), c.req.param('id')), step));
    });
  }
  app.post(ROUTES.enrol, async (c) => {
    const enrol = parse(enrolSchema, await readJson(c.env.incoming, SMALL_BODY));
    return await packedAnswer(c, JSON.stringify(await rooms.enrol(enrol)));
  });
  return app;
}

const SMALL_BODY = { wireBytes: REQUEST_LIMIT_BYTES, plainBytes: REQUEST_LIMIT_BYTES };
const PUSH_BODY = { wireBytes: PUSH_LIMIT_BYTES, plainBytes: PUSH_LIMIT_BYTES };

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

function parse<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new PossyncError('PS-PROTOCOL', 'the request breaks the protocol', {
    why: z.prettifyError(result.error).slice(0, 500),
  });
}
