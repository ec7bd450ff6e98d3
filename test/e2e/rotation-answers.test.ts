/**
 * Hazard 23: a credential is rotated, and the line dies before HQ's answer is here. Whichever answer it is, the store is
 * never locked out: the old credential or the new one is taken, the daemon goes on without a command, and the
 * till sells all the while.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readCredential } from '../../src/store/credential.ts';
import { TestHq } from '../support/chain.ts';
import { possync } from '../support/cli.ts';
import { Line } from '../support/line.ts';
import { until } from '../support/until.ts';

const LONG_MS = 180_000;

describe('an ordered rotation whose answers are lost', function () {
  this.timeout(5 * LONG_MS);
  let hq: TestHq;
  let line: Line;

  before(async () => {
    hq = await TestHq.open('rotation answers');
    line = await Line.open(hq, 'ANSWERS');
  });
  after(async () => {
    await line.close();
    await hq.close();
  });

  const kid = async (): Promise<string | undefined> => (await readCredential(line.store.stateDir))?.kid;
  const states = async (): Promise<Record<string, string>> => {
    const { rows } = await hq.pool.query<{ kid: string; state: string }>(
      `select t.kid, t.state from possync.tokens t where t.kind = 'credential' and t.store_id = $1::integer`,
      [line.store.id],
    );
    return Object.fromEntries(rows.map((row) => [row.kid, row.state]));
  };
  /** What is on the store's disk now, asked of HQ itself and not through the line. */
  const taken = async (): Promise<number> => {
    const text = await readFile(join(line.store.stateDir, 'credential'), 'utf8');
    const { token } = JSON.parse(text) as { token: string };
    const answer = await fetch(`${hq.running.url}/api/v1/whoami`, {
      headers: { authorization: `Bearer ${token}` },
    });
    return answer.status;
  };

  for (const [answer, head] of [
    ['it is registered', /^POST \/api\/v1\/tokens\/rotations /],
    ['it is confirmed', /^POST \/api\/v1\/tokens\/rotations\/[0-9a-f-]+\/confirm/],
    ['the old one has ended', /^POST \/api\/v1\/tokens\/rotations\/[0-9a-f-]+\/finish/],
  ] as const) {
    it(`the line dies before the answer that ${answer}: the daemon alone brings the new one into force, is never locked out, and all that is sold arrives`, async () => {
      const before = await kid();
      const dropped = line.proxy.dropped;
      line.proxy.dropNextAnswer(head);
      const ordered = await possync(
        ['token', 'rotate', line.store.code, '--revoke-old-now', '--timeout', '1s', '--json'],
        { env: { DATABASE_URL: hq.database.url } },
      );
      assert.notEqual(ordered.code, 64, ordered.stdout + ordered.stderr);
      await until(() => line.proxy.dropped > dropped, { what: 'the answer was lost', timeoutMs: LONG_MS });
      await line.proxy.set('refuse');
      assert.equal(await taken(), 200, 'what is on disk is a credential of this store');
      await line.sell();
      await line.proxy.set('pass');
      await line.sell();
      await until(
        async () => {
          const now = await kid();
          const known = await states();
          // The old one is over, or at least on its way out: an order to end it at once may need the next look.
          return (
            now !== before &&
            known[now ?? ''] === 'active' &&
            /revoked|retiring/.test(known[before ?? ''] ?? '')
          );
        },
        { what: 'the new credential is in force and the old one on its way out', timeoutMs: LONG_MS },
      );
      const now = Object.values(await states()).filter((state) => state === 'active' || state === 'pending');
      assert.deepEqual(now, ['active'], 'one, and none that HQ still waits for');
      await line.store.untilLight('green', LONG_MS);
      await line.untilDelivered();
      assert.equal(await taken(), 200);
    });
  }
});
