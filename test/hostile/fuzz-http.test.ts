/**
 * Every HTTP route of HQ against hostile requests from a seeded generator: each is refused with a code or was harmless,
 * HQ never calls it a fault of its own, and nothing of any other store has changed.
 *
 * The list of routes is the router's: a new route without a good message is a failed test. POSSYNC_TEST_FUZZ is how many
 * requests each route gets (`npm run fuzz` for a long run); POSSYNC_TEST_SEED repeats one. That the judge finds faults is
 * shown in fuzz-controls.test.ts.
 */
import assert from 'node:assert/strict';
import { ROUTES } from '../../src/protocol/http.ts';
import { pushAnswerSchema, pushConflictSchema, welcomeSchema } from '../../src/protocol/messages.ts';
import { randomFor } from '../support/random.ts';
import { Fortress, type Shop } from './support/fortress.ts';
import { HttpFuzzer, routesOfHq } from './support/http-fuzzer.ts';
import { body, helloMessage, pushMessage } from './support/messages.ts';
import { exchange, rawRequest, type Answer } from './support/raw.ts';

const ROUNDS = Number(process.env.POSSYNC_TEST_FUZZ ?? 60);

describe('every HTTP route of HQ', function () {
  this.timeout(120_000 + ROUNDS * 5_000);
  let fortress: Fortress;
  let evil: Shop & { database: { drop(): Promise<void> } };
  /** Enrolled before a flood of wrong tokens comes from this address. */
  let clean: typeof evil;
  let fuzzer: HttpFuzzer;

  before(async () => {
    fortress = await Fortress.open('fuzz http');
    evil = await fortress.enrol('EVIL-1');
    clean = await fortress.enrol('EVIL-2');
    fuzzer = new HttpFuzzer(fortress, evil);
    await fuzzer.newSession();
  });
  after(async () => {
    await evil.database.drop();
    await clean.database.drop();
    await fortress.close();
    const { tried, nonsense, counts, grownMb } = fuzzer;
    const answers = [...counts].sort(([a], [b]) => a - b).map(([status, count]) => `${status}: ${count}`);
    console.log(
      `      ${tried} hostile requests, ${nonsense} of them nonsense (${answers.join(', ')}); HQ grew by ${grownMb.toFixed(0)} MB at most`,
    );
  });

  it('has a good message here to be made hostile', () => {
    assert.deepEqual(Object.keys(fuzzer.forms).sort(), routesOfHq().sort());
  });

  for (const route of routesOfHq()) {
    it(`${route} takes no nonsense`, async () => {
      await fuzzer.attack(route, ROUNDS, randomFor(`fuzz ${route}`));
    });
  }

  it('a batch sent twice is there once, one out of order is refused, one of an older session too', async () => {
    const random = randomFor('replay');
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
  });
});
