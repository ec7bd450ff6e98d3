/** HQ's routes of `possync verify`: the store that asks is the one of the credential, and there is no way to name another. */
import type pg from 'pg';
import type * as z from 'zod';
import { PossyncError } from '../../core/errors.ts';
import type { Entity } from '../../protocol/entities.ts';
import { JSON_MAX_DEPTH, REQUEST_LIMIT_BYTES, ROUTES } from '../../protocol/http.ts';
import {
  digestsSchema,
  repairSchema,
  reportSchema,
  rowsSchema,
  verifyBeginSchema,
  VERIFY_REPORT_BYTES,
  type VerifyRun,
} from '../../protocol/verify.ts';
import { Gate } from '../gate.ts';
import { packedAnswer, type App, type Ctx } from '../http-answers.ts';
import { parse, type BodyLimits } from '../http-body.ts';
import type { Caller } from '../http-routes.ts';
import { answerDigests, answerRows } from './answers.ts';
import { answerRepair } from './repair.ts';
import { noteProgress, openFindings, saveReport } from './runs.ts';

/** Each reads a whole table: two at once leave the rest of the database connections to what is urgent. */
const MAX_AT_ONCE = 2;
/** Eight thousand bucket numbers, five hundred keys, or a report of every table with its keys. */
const BOUNDS = { depth: JSON_MAX_DEPTH, tokens: 50_000 };
const SMALL = { wireBytes: REQUEST_LIMIT_BYTES, plainBytes: REQUEST_LIMIT_BYTES, ...BOUNDS };
const LARGE = { wireBytes: VERIFY_REPORT_BYTES, plainBytes: VERIFY_REPORT_BYTES, ...BOUNDS };

/** The answers as JSON text, for a store that is known by its credential. */
export interface VerifyRoom {
  begin(caller: Caller): Promise<object>;
  digests(caller: Caller, asked: z.infer<typeof digestsSchema>): Promise<object>;
  rows(caller: Caller, asked: z.infer<typeof rowsSchema>): Promise<object>;
  repair(caller: Caller, asked: z.infer<typeof repairSchema>): Promise<string>;
  report(caller: Caller, report: z.infer<typeof reportSchema>): Promise<object>;
  progress(caller: Caller, run: VerifyRun): Promise<void>;
}

export function verifyRoom(pool: pg.Pool, entities: readonly Entity[]): VerifyRoom {
  return {
    begin: async ({ storeId }) => ({ findings: await openFindings(pool, storeId) }),
    digests: ({ storeId }, asked) => answerDigests(pool, storeId, asked, entities),
    rows: ({ storeId }, asked) => answerRows(pool, storeId, asked, entities),
    // Who asked is what the store says of itself: its code goes before it.
    repair: ({ storeId, code }, asked) =>
      answerRepair(pool, storeId, { ...asked, actor: `${code}: ${asked.actor}` }, entities),
    report: async ({ storeId }, { run, store }) => {
      if (!(await saveReport(pool, storeId, run.id, store)))
        throw new PossyncError('PS-PROTOCOL', 'nobody at HQ waits for this report');
      return { saved: true };
    },
    progress: ({ storeId }, run) => noteProgress(pool, storeId, run),
  };
}

export function addVerifyRoutes(
  app: App,
  room: VerifyRoom,
  login: (c: Ctx) => Promise<Caller>,
  read: (c: Ctx, limits: BodyLimits) => Promise<unknown>,
): void {
  const gate = new Gate(MAX_AT_ONCE);
  const route = <T extends { run: VerifyRun }>(
    step: string,
    schema: z.ZodType<T>,
    limits: BodyLimits,
    work: (caller: Caller, body: T) => Promise<object | string>,
    bounded = false,
  ): void => {
    app.post(`${ROUTES.verify}/${step}`, async (c: Ctx) => {
      const caller = await login(c);
      const body = parse(schema, await read(c, limits));
      const done = async (): Promise<object | string> => {
        await room.progress(caller, body.run);
        return await work(caller, body);
      };
      const answer = bounded ? await gate.run(done, caller.storeId) : await done();
      return await packedAnswer(c, typeof answer === 'string' ? answer : JSON.stringify(answer));
    });
  };
  route('begin', verifyBeginSchema, SMALL, (caller) => room.begin(caller));
  route('digests', digestsSchema, SMALL, (caller, body) => room.digests(caller, body), true);
  route('rows', rowsSchema, SMALL, (caller, body) => room.rows(caller, body), true);
  route('repair', repairSchema, LARGE, (caller, body) => room.repair(caller, body), true);
  route('report', reportSchema, LARGE, (caller, body) => room.report(caller, body));
}
