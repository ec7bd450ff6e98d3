/**
 * Every WebSocket frame of a store against hostile forms of it: HQ closes with a code that says why, or goes on, and
 * the others notice nothing. The list of frames is the protocol's: a new one without a good message is a failed test.
 */
import assert from 'node:assert/strict';
import { CLOSE, DIAG_SUBPROTOCOL, ROUTES } from '../../src/protocol/http.ts';
import { randomFor } from '../support/random.ts';
import { until } from '../support/until.ts';
import { Fortress, type Shop } from './support/fortress.ts';
import { FrameFuzzer, frameTypes } from './support/frame-fuzzer.ts';
import { GOOD_FRAMES, helloMessage } from './support/messages.ts';
import { closeCode, frame, upgrade, type Wire } from './support/raw.ts';

const ROUNDS = Number(process.env.POSSYNC_TEST_FUZZ ?? 60);

/** Who does not read does not see an end either: the next thing it sends comes back as a reset. */
async function endedUnread(wire: Wire): Promise<void> {
  await until(
    () => {
      if (!wire.closed) wire.send(frame(Buffer.alloc(1), { opcode: 9 }));
      return wire.closed;
    },
    { what: 'HQ ends who reads nothing', timeoutMs: 60_000, everyMs: 100 },
  );
}

describe('every WebSocket frame of a store', function () {
  this.timeout(120_000 + ROUNDS * 10_000);
  let fortress: Fortress;
  const shops: (Shop & { database: { drop(): Promise<void> } })[] = [];
  let fuzzer: FrameFuzzer;
  /** One that has not used up the hellos of its minute. */
  let fresh: (typeof shops)[number];

  before(async () => {
    fortress = await Fortress.open('fuzz frames');
    // Several, so that the limit on hellos of one store is not all that is met.
    for (const code of ['EVIL-1', 'EVIL-2', 'EVIL-3', 'EVIL-4']) shops.push(await fortress.enrol(code));
    fresh = await fortress.enrol('EVIL-5');
    fuzzer = new FrameFuzzer(fortress, shops);
  });
  after(async () => {
    for (const { database } of [...shops, fresh]) await database.drop();
    await fortress.close();
    const { tried, nonsense, ends, grownMb } = fuzzer;
    const summary = [...ends].sort().map(([end, count]) => `${end}: ${count}`);
    console.log(
      `      ${tried} hostile frames, ${nonsense} of them nonsense (${summary.join(', ')}); HQ grew by ${grownMb.toFixed(0)} MB at most`,
    );
  });

  const open = (shop: Shop): Promise<Wire> => fuzzer.open(shop);

  it('has a good message here to be made hostile', () => {
    assert.deepEqual(Object.keys(GOOD_FRAMES).sort(), frameTypes().sort());
  });

  for (const type of frameTypes()) {
    it(`${type} is refused with a closing code where it is nonsense`, async () => {
      await fuzzer.attack(type, ROUNDS, randomFor(`frames ${type}`));
    });
  }

  it('each breach of RFC 6455 has its closing code', async () => {
    const breaches: readonly (readonly [string, number, readonly Buffer[]])[] = [
      ['unmasked', 1002, [frame('{}', { masked: false })]],
      ['a reserved bit', 1002, [frame('{}', { rsv: 4 })]],
      ['an unknown opcode', 1002, [frame('{}', { opcode: 5 })]],
      ['a fragmented ping', 1002, [frame('', { opcode: 9, fin: false })]],
      ['a ping of 126 bytes', 1002, [frame(Buffer.alloc(126), { opcode: 9 })]],
      ['a continuation of nothing', 1002, [frame('{}', { opcode: 0 })]],
      ['invalid UTF-8', 1007, [frame(Buffer.from([0xc3, 0x28]))]],
      ['64 KiB and one byte', 1009, [frame(Buffer.alloc(64 * 1024 + 1, 0x20))]],
      ['a length of 2^53', 1009, [Buffer.from([0x81, 0xff, 0, 0x20, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4])]],
      [
        'a message in a thousand fragments',
        1008,
        [
          frame('{', { fin: false }),
          ...Array.from({ length: 1_000 }, () => frame(' ', { opcode: 0, fin: false })),
        ],
      ],
      ['a binary frame', CLOSE.badFrame, [frame('{}', { opcode: 2 })]],
      ['10,000 levels', CLOSE.badFrame, [frame(`${'['.repeat(10_000)}${']'.repeat(10_000)}`)]],
      ['30,000 faults', CLOSE.badFrame, [frame(`{"type":"hello","epochs":[${'0,'.repeat(30_000)}0]}`)]],
      ['a NUL', CLOSE.badFrame, [frame(JSON.stringify(helloMessage('EVIL\0')))]],
      [
        'a second hello',
        CLOSE.badFrame,
        [frame(JSON.stringify(helloMessage(fresh.code))), frame(JSON.stringify(helloMessage(fresh.code)))],
      ],
      ['stat before hello', CLOSE.badFrame, [frame(JSON.stringify(GOOD_FRAMES.stat(fresh)))]],
    ];
    for (const [what, code, frames] of breaches) {
      const wire = await open(fresh);
      for (const bytes of frames) wire.send(bytes);
      await until(() => closeCode(wire) !== undefined || wire.closed, { what: `HQ closes after ${what}` });
      assert.equal(closeCode(wire), code, what);
      wire.destroy();
    }
  });

  it('a flood of pings that nobody reads the answers of is ended, at the cost of a few megabytes', async () => {
    const shop = shops[0];
    assert.ok(shop !== undefined);
    const ping = Buffer.concat(Array.from({ length: 500 }, () => frame(Buffer.alloc(125), { opcode: 9 })));
    const { grownMb, cpuMs } = await fortress.cost(async () => {
      for (let round = 0; round < 5; round += 1) {
        const wire = await open(shop);
        wire.socket.pause();
        wire.send(frame(JSON.stringify(helloMessage(shop.code))));
        for (let count = 0; count < 200 && !wire.closed; count += 1) wire.send(ping);
        await endedUnread(wire);
      }
    });
    console.log(`      500,000 pings offered: ${grownMb.toFixed(0)} MB, ${cpuMs} ms of CPU`);
    assert.ok(grownMb < 80, `${grownMb} MB`);
    assert.ok(cpuMs < 6_000, `${cpuMs} ms`);
  });

  it('echoes that nobody reads are ended, and one address has ten of them at most', async () => {
    const { grownMb } = await fortress.cost(async () => {
      const wires: Wire[] = [];
      for (let count = 0; count < 30; count += 1) {
        const wire = await upgrade(fortress.port, ROUTES.socket, [
          ['sec-websocket-protocol', DIAG_SUBPROTOCOL],
        ]);
        if (wire !== undefined) wires.push(wire);
      }
      assert.equal(wires.length, 10);
      const big = frame(Buffer.alloc(64 * 1024));
      for (const wire of wires) {
        wire.socket.pause();
        for (let count = 0; count < 200; count += 1) wire.send(big);
      }
      await Promise.all(wires.map(endedUnread));
    });
    // Ten times half a megabyte unread, and what the kernel and the parser hold: not ten times thirteen.
    assert.ok(grownMb < 90, `${grownMb} MB`);
  });

  it('hellos without end, each on a socket of its own, leave the others alone', async () => {
    const shop = shops[1];
    assert.ok(shop !== undefined);
    const hello = frame(JSON.stringify(helloMessage(shop.code)));
    const codes = new Map<number, number>();
    const { grownMb } = await fortress.cost(async () => {
      for (let round = 0; round < 10; round += 1) {
        const wires = await Promise.all(Array.from({ length: 20 }, () => open(shop)));
        for (const wire of wires) wire.send(hello);
        await until(
          () =>
            wires.filter((wire) => wire.closed || closeCode(wire) !== undefined).length >= wires.length - 1,
          {
            what: 'all but the one in force are closed',
          },
        );
        for (const wire of wires) {
          const code = closeCode(wire);
          if (code !== undefined) codes.set(code, (codes.get(code) ?? 0) + 1);
          wire.destroy();
        }
      }
    });
    assert.deepEqual(
      [...codes.keys()].filter((code) => code !== CLOSE.slowDown && code !== CLOSE.replaced),
      [],
    );
    assert.ok((codes.get(CLOSE.slowDown) ?? 0) > 100, 'most of them are told to slow down');
    assert.ok(grownMb < 80, `${grownMb} MB`);
  });
});
