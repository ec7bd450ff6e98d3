/**
 * Hostile frames on the WebSocket of a store, from a seeded generator, and the judge of what came of them: HQ closes with a
 * code that says why, or goes on; it never goes on after a frame that is nonsense; it calls nothing a fault of its own.
 */
import assert from 'node:assert/strict';
import { isUtf8 } from 'node:buffer';
import { CLOSE, ROUTES } from '../../../src/protocol/http.ts';
import { storeFrameSchema } from '../../../src/protocol/messages.ts';
import type { Random } from '../../support/random.ts';
import { until } from '../../support/until.ts';
import { FUZZ_MB, type Fortress, type Shop } from './fortress.ts';
import { GOOD_FRAMES, helloMessage } from './messages.ts';
import { mutateBytes, mutateJson } from './mutate.ts';
import { closeCode, frame, upgrade, type FrameForm, type Wire } from './raw.ts';

export type FrameType = keyof typeof GOOD_FRAMES;

/** What a connection may end with: our codes, and those of RFC 6455 for frames that are none. */
const ENDS: ReadonlySet<number> = new Set([...Object.values(CLOSE), 1002, 1007, 1008, 1009]);

/** In a ping of ours, and in HQ's answer to it. */
const LAST = Buffer.from('the last of all');

export function frameTypes(): FrameType[] {
  return storeFrameSchema.options.map(({ shape }) => String([...shape.type.values][0]) as FrameType);
}

/** Whatever came before it: no frame of RFC 6455, or a whole text that is no message of the protocol. */
export function isNonsense(
  bytes: Buffer,
  { opcode = 1, fin = true, masked = true, rsv = 0 }: FrameForm,
): boolean {
  const control = opcode >= 8;
  if (!masked || rsv !== 0 || (opcode > 2 && opcode < 8) || opcode > 10) return true;
  if (control) return !fin || bytes.length > 125;
  if (opcode !== 1 || !fin) return false;
  try {
    return !isUtf8(bytes) || !storeFrameSchema.safeParse(JSON.parse(bytes.toString('utf8'))).success;
  } catch {
    return true;
  }
}

export class FrameFuzzer {
  readonly #fortress: Fortress;
  readonly #shops: readonly Shop[];
  /** What connections ended with. */
  readonly ends = new Map<string, number>();
  tried = 0;
  /** The most that HQ grew by during the attack with one frame. */
  grownMb = 0;
  /** Of those: nonsense after which no connection may go on. */
  nonsense = 0;

  constructor(fortress: Fortress, shops: readonly Shop[]) {
    this.#fortress = fortress;
    this.#shops = shops;
  }

  async open(shop: Shop): Promise<Wire> {
    const wire = await upgrade(this.#fortress.port, ROUTES.socket, [
      ['authorization', `Bearer ${shop.bearer}`],
    ]);
    assert.ok(wire !== undefined, 'a good credential opens a socket');
    return wire;
  }

  /** Throws what the judge has found. */
  async attack(type: FrameType, rounds: number, random: Random): Promise<void> {
    const { grownMb } = await this.#fortress.cost(async () => {
      for (let round = 0; round < rounds; round += 1) await this.#connection(type, random);
    });
    this.grownMb = Math.max(this.grownMb, grownMb);
    assert.ok(grownMb < FUZZ_MB, `HQ grew by ${grownMb} MB`);
    assert.deepEqual(await this.#fortress.faults(), []);
  }

  async #connection(type: FrameType, random: Random): Promise<void> {
    const shop = random.pick(this.#shops);
    const wire = await this.open(shop);
    let bad: string | undefined;
    if (random.chance(0.7) && type !== 'hello') wire.send(frame(JSON.stringify(helloMessage(shop.code))));
    for (let count = 1 + random.int(4); count > 0; count -= 1) {
      this.tried += 1;
      const good = GOOD_FRAMES[type](shop);
      const text = random.chance(0.8) ? mutateJson(good, random) : JSON.stringify(good);
      const bytes = random.chance(0.2) ? mutateBytes(text, random) : Buffer.from(text);
      const form: FrameForm = {
        opcode: random.chance(0.85) ? 1 : random.int(16),
        fin: random.chance(0.95),
        masked: random.chance(0.97),
        rsv: random.chance(0.97) ? 0 : random.int(8),
      };
      wire.send(frame(bytes, form));
      if (!isNonsense(bytes, form)) continue;
      this.nonsense += 1;
      bad ??= JSON.stringify([form, bytes.toString('latin1').slice(0, 300)]);
    }
    // HQ answers a good ping last of all, or has closed before; by its content, since a hostile frame may be a ping too.
    wire.send(frame(LAST, { opcode: 9 }));
    await until(() => wire.closed || closeCode(wire) !== undefined || wire.received.includes(LAST), {
      what: 'HQ answers or closes',
      timeoutMs: 60_000,
    });
    const code = closeCode(wire);
    const end = code === undefined ? (wire.closed ? 'cut' : 'goes on') : String(code);
    this.ends.set(end, (this.ends.get(end) ?? 0) + 1);
    assert.ok(code === undefined || ENDS.has(code), `closed with ${code}`);
    wire.destroy();
    assert.ok(bad === undefined || end !== 'goes on', `HQ goes on after ${bad}`);
  }
}
