/** Wrong credentials, as many as one likes: bounded in queries and memory, and nobody else is kept out by them. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { PossyncError } from '../../src/core/errors.ts';
import { silentLog } from '../../src/core/log.ts';
import { formatCredential, hashSecret, newKid, newSecret, type Credential } from '../../src/core/secret.ts';
import { addressKey, Buckets } from '../../src/hq/buckets.ts';
import { LoginGuard } from '../../src/hq/login-guard.ts';
import { ROUTES } from '../../src/protocol/http.ts';
import { randomFor } from '../support/random.ts';
import { Fortress } from './support/fortress.ts';
import { helloMessage } from './support/messages.ts';
import { exchange, rawRequest, refusalCode, upgrade } from './support/raw.ts';

function credential(): Credential {
  const kid = newKid();
  return { kid, secret: newSecret(kid) };
}
const text = (of: Credential): string => formatCredential(of).reveal();

/** A clock that stands still until it is moved. */
function stillClock() {
  let nowMs = 1_000_000;
  return {
    now: () => nowMs,
    sleep: () => Promise.resolve(),
    after: () => () => undefined,
    pass(ms: number) {
      nowMs += ms;
    },
  };
}

describe('the login guard', () => {
  const good = credential();
  let clock: ReturnType<typeof stillClock>;
  let guard: LoginGuard;
  let asked: number;

  beforeEach(async () => {
    clock = stillClock();
    asked = 0;
    guard = new LoginGuard({
      clock,
      log: silentLog,
      read: () => Promise.resolve([{ kid: good.kid, hash: hashSecret(good.secret) }]),
    });
    await guard.start();
  });

  /** What the database would say: it knows the good one alone. */
  const login = async (bearer: string | undefined, address: string): Promise<string> => {
    try {
      return await guard.credential(bearer, address, (known) => {
        asked += 1;
        return known === text(good)
          ? Promise.resolve('in')
          : Promise.reject(new PossyncError('PS-TOKEN-UNKNOWN', 'unknown'));
      });
    } catch (error) {
      assert.ok(error instanceof PossyncError);
      if (error.code === 'PS-LOGIN-LIMIT') assert.ok(Number(error.details.retryMs) >= 1_000);
      return error.code;
    }
  };

  it('asks the database about sixty unknown credentials of one address, then about one a second', async () => {
    for (let count = 0; count < 1_000; count += 1) await login(text(credential()), '203.0.113.9');
    assert.equal(asked, 60);
    assert.equal(await login(text(credential()), '203.0.113.9'), 'PS-LOGIN-LIMIT');
    clock.pass(1_000);
    assert.equal(await login(text(credential()), '203.0.113.9'), 'PS-TOKEN-UNKNOWN');
    assert.equal(await login(text(credential()), '203.0.113.9'), 'PS-LOGIN-LIMIT');
  });

  it('lets a store in behind the same address while somebody tries there', async () => {
    for (let count = 0; count < 500; count += 1) {
      await login(count % 3 === 0 ? undefined : text(credential()), '203.0.113.9');
      assert.equal(await login(text(good), '203.0.113.9'), 'in');
    }
  });

  it('lets a store in whose kid somebody uses from many addresses, and counts him by the kid', async () => {
    const codes = new Set<string>();
    for (let count = 0; count < 100; count += 1) {
      const forged = text({ kid: good.kid, secret: newSecret(good.kid) });
      codes.add(await login(forged, `198.51.100.${count}`));
      assert.equal(await login(text(good), '203.0.113.9'), 'in');
    }
    assert.deepEqual([...codes].sort(), ['PS-LOGIN-LIMIT', 'PS-TOKEN-UNKNOWN']);
    assert.equal(asked, 10 + 100, 'ten wrong ones were looked up, and each good one');
  });

  it('from everywhere together costs at most five hundred queries at once', async () => {
    for (let count = 0; count < 2_000; count += 1)
      await login(text(credential()), `10.${count >> 8}.${count & 255}.1`);
    assert.equal(asked, 500);
    assert.equal(await login(text(good), '10.0.0.1'), 'in');
  });

  it('remembers a bounded number of addresses and kids', async () => {
    const random = randomFor('addresses');
    for (let count = 0; count < 25_000; count += 1)
      await login(
        'pst_nonsense',
        `${random.int(256)}.${random.int(256)}.${random.int(256)}.${random.int(256)}`,
      );
    assert.ok(guard.remembered <= 20_000, String(guard.remembered));
  });

  it('a database that is away is no refusal: nothing is used up by it', async () => {
    for (let count = 0; count < 200; count += 1)
      await assert.rejects(
        guard.credential(text(credential()), '203.0.113.9', () =>
          Promise.reject(new PossyncError('PS-DB-DOWN', 'away')),
        ),
        (error: unknown) => error instanceof PossyncError && error.code === 'PS-DB-DOWN',
      );
  });

  it('takes the addresses of one IPv6 customer for one, and a mapped IPv4 address for itself', () => {
    assert.equal(addressKey('2001:db8:1:2:3:4:5:6'), addressKey('2001:db8:1:2::1'));
    assert.notEqual(addressKey('2001:db8:1:2::1'), addressKey('2001:db8:1:3::1'));
    assert.equal(addressKey('::ffff:192.0.2.1'), '192.0.2.1');
  });

  it('without the book, the store behind the same address would be locked out', () => {
    // The same limits without the look at who is known: what the book is for.
    const naive = new Buckets({ burst: 60, perSecond: 1, clock });
    for (let count = 0; count < 60; count += 1) naive.take('203.0.113.9');
    assert.ok(naive.take('203.0.113.9') > 0);
  });
});

describe('HQ while somebody tries credentials from the address of a store', function () {
  this.timeout(60_000);
  let fortress: Fortress;
  before(async () => {
    fortress = await Fortress.open('login');
  });
  after(async () => {
    await fortress.close();
  });

  it('answers 429 with Retry-After over HTTP, upgrade and enrolment, and lets a new store in all the same', async () => {
    const bearer = (): string => `Bearer ${text(credential())}`;
    const statuses = new Set<number>();
    const newcomer = await fortress.during(async () => {
      for (let count = 0; count < 150; count += 1) {
        const answer = await exchange(
          fortress.port,
          rawRequest({ path: ROUTES.whoami, headers: [['authorization', bearer()]] }),
        );
        statuses.add(answer?.status ?? 0);
        if (answer?.status === 429) {
          assert.ok(Number(answer.headers['retry-after']) >= 1);
          assert.equal(refusalCode(answer), 'PS-LOGIN-LIMIT');
        }
      }
      assert.equal(await upgrade(fortress.port, ROUTES.socket, [['authorization', bearer()]]), undefined);
      const enrol = await exchange(
        fortress.port,
        rawRequest({
          method: 'POST',
          path: ROUTES.enrol,
          body: Buffer.from(
            JSON.stringify({
              token: `pse_${randomBytes(60).toString('base64url')}_abcd`,
              kid: newKid(),
              hash: 'ab'.repeat(32),
              instance: { boot: 'b', daemon: '0190c000-0000-4000-8000-000000000001', pgSysid: '1' },
              software: 'x',
              replace: false,
            }),
          ),
        }),
      );
      assert.equal(enrol?.status, 429);
      // A token that was issued meanwhile is in the book within seconds: enrolment asks again until then.
      for (;;) {
        try {
          return await fortress.enrol(`NEW-${randomBytes(3).toString('hex')}`);
        } catch (error) {
          assert.ok(error instanceof PossyncError && error.code === 'PS-LOGIN-LIMIT', String(error));
        }
      }
    });
    assert.deepEqual([...statuses].sort(), [401, 429]);
    const answer = await exchange(
      fortress.port,
      rawRequest({
        method: 'POST',
        path: ROUTES.hello,
        headers: [['authorization', `Bearer ${newcomer.bearer}`]],
        body: Buffer.from(JSON.stringify(helloMessage(newcomer.code))),
      }),
    );
    assert.equal(answer?.status, 200);
    await newcomer.database.drop();
  });
});
