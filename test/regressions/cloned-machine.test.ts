/**
 * cloned-machine: two live copies of one store send entry n + 1, and whoever counts numbers takes one and skips the
 * other. Here only one is let in, and the other is found by its chain.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { SOFTWARE } from '../../src/core/version.ts';
import type { Hello } from '../../src/protocol/messages.ts';
import { BODY_VERSION, PROTOCOL_VERSION } from '../../src/protocol/version.ts';
import { readCredential } from '../../src/store/credential.ts';
import { HqClient } from '../../src/store/link/hq-client.ts';
import { Outbox } from '../../src/store/outbox/outbox.ts';
import { TestHq, type TestStore } from '../support/chain.ts';
import { Line } from '../support/line.ts';
import { sell } from '../support/pos.ts';
import { Recovery } from '../support/recovery.ts';
import { Up } from '../support/up.ts';

async function clientOf(store: TestStore, url: string): Promise<HqClient> {
  const credential = await readCredential(store.stateDir);
  assert.ok(credential);
  return new HqClient({ url, credential: credential.token, hqId: credential.hqId, software: SOFTWARE });
}

async function helloOf(store: TestStore): Promise<Hello> {
  return {
    type: 'hello',
    v: PROTOCOL_VERSION,
    store: store.code,
    instance: { boot: 'another', daemon: randomUUID(), pgSysid: '42' },
    ...(await new Outbox(store.pool).helloPart()),
    in: { pos: 0, nonce: null, paged: 0 },
    bodyVersion: BODY_VERSION,
    software: SOFTWARE,
  };
}

describe('cloned-machine', () => {
  let r: Recovery;
  beforeEach(async () => {
    r = await Recovery.open('cloned_machine');
  });
  afterEach(async () => {
    await r.close();
  });

  it('invariant 19: a clone is refused while the other lives, fenced when it does not, and found by the chain', async () => {
    const clone = new Up(r.store, r.hq);
    const refusedHello = await clone.hello((instance) => instance.daemon === r.up.instance.daemon);
    assert.ok(refusedHello.type === 'refuse' && refusedHello.code === 'other_instance_alive');
    await sell(r.store.db, r.session);
    await r.up.outbox.seal();
    const message = await r.up.message();
    assert.ok(message !== undefined);
    // The first machine is gone (its socket answers no ping): the second one takes over, the first is fenced.
    assert.equal((await clone.hello()).type, 'welcome');
    const late = await r.up.send(message);
    assert.ok(late.result === 'conflict' && late.conflict.code === 'fenced');
    assert.deepEqual(await r.up.outbox.conflicted(late.conflict), { result: 'hello' });
    // The clone's own entry with the same number: HQ took another one before, so its chain does not fit.
    const forged = { ...message, fence: clone.fence ?? '', prev: message.prev };
    assert.equal((await clone.send(forged)).result, 'ok');
    const other = await clone
      .send({ ...forged, txs: forged.txs.map((tx) => ({ ...tx, body: '{"registers":[]}' })) })
      .catch((error: unknown) => error);
    assert.ok(
      typeof other === 'object' && other !== null && 'result' in other && other.result === 'conflict',
    );
  });

  it('a clone is refused while the store answers, and let in when it does not (invariant 19)', async function () {
    this.timeout(120_000);
    const hq = await TestHq.open('cloned_machine');
    const line = await Line.open(hq, 'CLONE');
    const clone = await clientOf(line.store, hq.running.url);
    const refused = await clone.hello(await helloOf(line.store));
    assert.deepEqual(
      [refused.type, refused.type === 'refuse' && refused.code],
      ['refuse', 'other_instance_alive'],
    );
    assert.equal((await line.store.link()).indicator, 'green', 'the store itself is not disturbed');
    await line.store.stop();
    const welcomed = await clone.hello(await helloOf(line.store));
    assert.equal(welcomed.type, 'welcome');
    clone.close();
    await line.close();
    await hq.close();
  });
});
