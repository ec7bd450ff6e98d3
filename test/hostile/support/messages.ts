/** A good message for every route and every frame of HQ: what the hostile ones are made from. */
import { randomUUID } from 'node:crypto';
import { nextChain } from '../../../src/core/chain.ts';
import { newKid } from '../../../src/core/secret.ts';
import type { StoreFrame } from '../../../src/protocol/messages.ts';
import { BODY_VERSION, PROTOCOL_VERSION } from '../../../src/protocol/version.ts';
import type { Random } from '../../support/random.ts';
import type { Shop } from './fortress.ts';

export const INSTANCE = { boot: 'boot', daemon: randomUUID(), pgSysid: '7000000000000000001' };

export function helloMessage(code: string): object {
  return {
    type: 'hello',
    v: PROTOCOL_VERSION,
    store: code,
    epoch: 1,
    instance: INSTANCE,
    out: { seq: 0, oldest: 1, acked: 0, chain: '' },
    in: { pos: 0, nonce: null, paged: 0 },
    bodyVersion: BODY_VERSION,
    software: 'possync test',
    epochs: [{ epoch: 1, seq: 0, chain: '' }],
  };
}

/** An adjustment as a store's capture writes it. */
export function body(storeId: number, id: string = randomUUID()): Record<string, unknown> {
  return {
    inventory_adjustments: [
      {
        id,
        store_id: storeId,
        product_id: randomUUID(),
        quantity_before: 10,
        quantity_delta: -1,
        reason: 'damaged',
        note: null,
        user_id: randomUUID(),
        occurred_at: '2026-11-20T10:00:00Z',
        business_date: '2026-11-20',
      },
    ],
  };
}

export interface Push {
  epoch: number;
  fence: string;
  first: number;
  prev: string;
  txs: { seq: number; v: number; body: string }[];
  lastChain: string;
}

/** A batch whose numbers and chains fit, whatever its bodies say. */
export function pushMessage(
  fence: string,
  at: { seq: number; chain: string },
  bodies: readonly string[],
): Push {
  let chain = at.chain;
  const txs = bodies.map((text, index) => {
    const seq = at.seq + 1 + index;
    chain = nextChain(chain, seq, text);
    return { seq, v: BODY_VERSION, body: text };
  });
  return { epoch: 1, fence, first: at.seq + 1, prev: at.chain, txs, lastChain: chain };
}

export const GOOD_FRAMES: Readonly<Record<StoreFrame['type'], (shop: Shop) => object>> = {
  hello: ({ code }) => helloMessage(code),
  stat: () => ({
    type: 'stat',
    id: randomUUID(),
    out: { queued: 1, queuedHigh: 0, bytes: 10, oldestAt: '2026-11-20T10:00:00Z', halted: null, acked: 0 },
    in: { pos: 0, appliedAt: null, error: null },
  }),
  auth: ({ bearer }) => ({ type: 'auth', token: bearer }),
  rotation: () => ({
    type: 'rotation',
    id: randomUUID(),
    kid: newKid(),
    code: 'PS-TOKEN-SAVE',
    message: 'no room',
    offlineMs: null,
  }),
  ping: () => ({ type: 'ping', n: 1 }),
  pong: () => ({ type: 'pong', n: 1 }),
};

export function enrolMessage(token: string): object {
  return {
    token,
    kid: newKid(),
    hash: 'ab'.repeat(32),
    instance: INSTANCE,
    software: 'possync test',
    replace: false,
  };
}

export function rotationMessage(): object {
  return {
    id: randomUUID(),
    kid: newKid(),
    hash: 'cd'.repeat(32),
    expiresInMs: null,
    graceMs: 1_000,
    replace: true,
  };
}

export function reEnrolMessage(): object {
  return { request: randomUUID(), epoch: 1, instance: INSTANCE, acked: { epoch: 1, seq: 0, chain: '' } };
}

/** What a comparison asks HQ, step by step. */
export function verifyMessages(code: string): Readonly<Record<string, (random: Random) => object>> {
  const run = (): object => ({ id: randomUUID(), done: 0, total: 3 });
  const question = (random: Random): object => ({
    run: run(),
    table: random.pick([
      'products',
      'sales',
      'sale_lines',
      'transfers',
      'pg_authid',
      'products; drop table x',
    ]),
    direction: random.pick(['down', 'up']),
    buckets: random.pick([1, 16, 8_192]),
    floor: random.pick([null, '2026-01-01', '9999-12-31']),
  });
  return {
    begin: () => ({ run: run() }),
    digests: (random) => ({ ...question(random), digest: `${random.int(9)}:00000000000000ff` }),
    rows: (random) => ({
      ...question(random),
      wanted: [0, random.int(8_192)],
      cursor: random.pick([null, { pos: random.int(1_000_000), nonce: randomUUID() }]),
    }),
    repair: (random) => ({
      run: run(),
      actor: "'; delete from public.stores --",
      records: [
        {
          type: random.pick(['product', 'sale', 'transfer', 'nothing']),
          direction: random.pick(['down', 'up']),
          key: random.pick([`["${randomUUID()}"]`, '["x"]', '[]', '{"a":1}']),
        },
      ],
    }),
    report: () => ({
      run: run(),
      store: {
        id: 1,
        code,
        state: 'equal',
        reason: null,
        tables: [],
        repaired: [],
        findings: [],
        bytes: 0,
        duration_ms: 0,
      },
    }),
  };
}
